//! Points that go on as others: what contradicts that, and what it changes.

use std::collections::BTreeSet;

use crate::format::entry::{Committed, Forwarded};
use crate::format::name;
use crate::policy::lock;
use crate::vault::catalog::{Catalog, LivePoint};

impl Catalog {
    /// Why points can't go on so, if they can't.
    pub(super) fn objection_to_forward(&self, points: &[Forwarded]) -> Option<String> {
        let (mut leave, mut come) = (BTreeSet::new(), BTreeSet::new());
        if points.is_empty() {
            return Some("it forwards no point".to_owned());
        }
        points.iter().find_map(|Forwarded { from, to }| {
            let Some(live) = self.points.get(from) else {
                return Some(format!("point {from} is not in the vault"));
            };
            let id = to.id;
            if !leave.insert(*from) {
                return Some(format!("point {from} goes on as two"));
            }
            if !come.insert(id) || self.points.contains_key(&id) {
                return Some(format!("point {id} is in the vault already"));
            }
            if self.is_deleted(&name::point(id)) {
                return Some(format!("the name of point {id} was deleted"));
            }
            self.difference(live, to).map(|what| format!("point {id} can't go on for {from}: {what}"))
        })
    }

    /// What keeps a point from going on as `to`.
    fn difference(&self, live: &LivePoint, to: &Committed) -> Option<String> {
        let committed = &live.committed;
        let expected = Committed {
            id: to.id,
            retain_until_ms: to.retain_until_ms,
            locked: to.locked,
            ..committed.clone()
        };
        if expected != *to {
            return Some("it is another one".to_owned());
        }
        if self.is_destroyed(to.key) {
            return Some("its data key was destroyed".to_owned());
        }
        if live.retain_until_ms > to.retain_until_ms {
            return Some("a date never moves earlier".to_owned());
        }
        let is_weaker = live.locked.is_some_and(|locked| lock::raise(to.locked, locked).is_some());
        is_weaker.then(|| "it is locked shorter, or less strongly".to_owned())
    }

    /// Takes up a point of the entry of this number.
    pub(super) fn take_forward(&mut self, forwarded: &Forwarded, entry: u64) {
        let Forwarded { from, to } = forwarded;
        let Some(live) = self.leave(*from, Some(to.id), entry) else { return };
        self.lock_key(to.key, to.locked);
        let live = LivePoint {
            committed: to.clone(),
            retain_until_ms: to.retain_until_ms,
            locked: to.locked,
            ..live
        };
        self.forwarded.remove(&to.id);
        self.forwarded.insert(*from, to.id);
        self.points.insert(to.id, live);
    }
}
