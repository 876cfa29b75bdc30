//! What needs what: naming the points that damage affects.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::Vault;
use super::damage::{Damage, Judge, Notes};
use super::reach::NamedRun;
use super::run::{Run, RunKeys};
use crate::format::digest::Digest;
use crate::format::name::{self, PackName};
use crate::format::point::Point;
use crate::format::point::RunRef;
use crate::store::Key;

/// What is added to what is said of an object that no live point needs.
pub(super) const FORMER_ONLY: &str = "; a former point needs it, which left the vault and is kept";

impl Vault {
    /// The damaged `objects` with the points that need each, live ones and former ones that stand, as far as that can be
    /// known: what hangs on an object that can't be read, or is encrypted under a key that is not there, can't.
    pub(super) fn affected(&self, objects: BTreeMap<Key, String>) -> Vec<Damage> {
        if objects.is_empty() {
            return Vec::new();
        }
        let mut points: BTreeMap<&Key, BTreeSet<Digest>> =
            objects.keys().map(|key| (key, BTreeSet::new())).collect();
        let has_packs = objects.keys().any(|key| PackName::of(key).is_some());
        // The packs in question of a run, which many points may share.
        let mut packs_of = FxHashMap::<NamedRun, Vec<Key>>::default();
        let catalog = self.catalog();
        // A store that does not say what time it is gets more named, not less.
        let now_ms = self.store().clock_ms().unwrap_or(0);
        let former = catalog.standing_former(now_ms).map(|former| former.id);
        let ids: BTreeSet<Digest> = catalog.points().keys().copied().chain(former).collect();
        for id in ids {
            if let Some(affected) = points.get_mut(&name::point(id)) {
                affected.insert(id);
            }
            let read = self.unless_given_back(&name::point(id), || self.read_point(id));
            let Ok(Some(point)) = read else { continue };
            for run in &point.runs {
                if let Some(affected) = points.get_mut(&run.key()) {
                    affected.insert(id);
                }
                if !has_packs {
                    continue;
                }
                let packs = packs_of
                    .entry(NamedRun::of(&point, run))
                    .or_insert_with(|| self.listed(&point, run, |pack| objects.contains_key(pack)));
                for pack in packs {
                    points.get_mut(pack).map(|affected| affected.insert(id));
                }
            }
        }
        let points: BTreeMap<Key, BTreeSet<Digest>> =
            points.into_iter().map(|(key, points)| (key.clone(), points)).collect();
        let named = objects.into_iter().map(|(object, mut detail)| {
            let points: Vec<Digest> = points.get(&object).into_iter().flatten().copied().collect();
            if !points.is_empty() && points.iter().all(|id| !catalog.points().contains_key(id)) {
                detail += FORMER_ONLY;
            }
            Damage { object, detail, points }
        });
        named.collect()
    }

    /// The packs in a run's list that are `wanted`; none when it can't be read.
    fn listed(&self, point: &Point, run: &RunRef, wanted: impl Fn(&Key) -> bool) -> Vec<Key> {
        let notes = Notes::default();
        let opened = self.frame_keys(point.key).and_then(|frames| {
            Run::open(self.store().as_ref(), run, &RunKeys::of(point, frames), Judge::Note(&notes))
        });
        let packs = opened.iter().flat_map(Run::packs).map(|pack| pack.name.key());
        packs.filter(|pack| wanted(pack)).collect()
    }
}
