//! Legal holds: a point that is held stays, whatever its date, until each hold on it is released.
//!
//! 1. What the point needs is held in the store before the entry says so, and let go only after the entry that releases
//!    it, as far as no other held point needs it.
//!    What it needed while it was called otherwise stays held as long as that one's own holds (see `former`).
//! 2. The hold in the log is what prune and reclaim go by. The store's is a second lock on the same door: when two
//!    people hold and release points that share objects at the same time, it may be missing, and `check` says so.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::{Catalog, LivePoint};
use super::lock::hold_objects;
use super::reach::{Reach, unreadable};
use super::{RACES_MAX, Vault};
use crate::error::{Error, Kind, Result};
use crate::format::digest::{Digest, KeyId};
use crate::format::entry::Action;
use crate::store::Key;

/// Bytes of a hold's name at most.
const REASON_BYTES_MAX: usize = 200;

impl Vault {
    /// Holds a point under the name `reason`, also in the store where that has legal holds. A hold that is there is set
    /// again in the store.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the point is not in the vault; [`Kind::Invalid`] for a name that is empty or too long;
    /// as [`append`](Self::append).
    pub fn hold(&self, point: Digest, reason: &str) -> Result<()> {
        if !(1..=REASON_BYTES_MAX).contains(&reason.len()) {
            let detail = format!("a hold's name has 1 to {REASON_BYTES_MAX} bytes");
            return Err(Error::new(Kind::Invalid, "hold point", detail));
        }
        for _ in 0..RACES_MAX {
            let catalog = self.refresh()?;
            let current = catalog.point(point)?.committed.id;
            match self.try_hold(current, reason) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                // It went on as another one under our hands.
                Err(_) if self.refresh()?.current(current) != current => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(Kind::Retry, "hold point", "it went on as another one each time"))
    }

    /// Whether the point was still called so when it was held.
    fn try_hold(&self, point: Digest, reason: &str) -> Result<bool> {
        let locked = self.store.capabilities().legal_hold;
        if locked {
            let catalog = self.catalog();
            let former = catalog.former_of(point).iter().filter(|former| former.is_held());
            let needed = self.needed_by_all([point], former)?;
            hold_objects(self.store.as_ref(), &needed, true)?;
        }
        let mut has_moved = false;
        self.append(&mut |catalog, _| {
            let live = catalog.point(point)?;
            has_moved = live.committed.id != point;
            let is_wanted = !has_moved && !live.holds.contains_key(reason);
            Ok(is_wanted.then(|| Action::Hold { point, reason: reason.to_owned(), locked }))
        })?;
        Ok(!has_moved)
    }

    /// Releases a hold.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such hold; as [`append`](Self::append). After an error objects may be held in
    /// the store still: holding the point and releasing it again lets them go.
    pub fn release(&self, point: Digest, reason: &str) -> Result<()> {
        let (mut is_locked, mut point) = (false, point);
        self.append(&mut |catalog, _| {
            let live = catalog.point(point)?;
            point = live.committed.id;
            if !live.holds.contains_key(reason) {
                let detail = format!("point {point} is not held as {reason:?}");
                return Err(Error::new(Kind::NotFound, "release point", detail));
            }
            is_locked = live.holds.values().any(|hold| hold.locked);
            Ok(Some(Action::Release { point, reason: reason.to_owned() }))
        })?;
        match is_locked {
            true => self.let_go(point),
            false => Ok(()),
        }
    }

    /// Takes the store's hold from what `point` needs, and from what it needed while it was called otherwise, except
    /// what is needed by points that are held still.
    pub(super) fn let_go(&self, point: Digest) -> Result<()> {
        let catalog = self.refresh()?;
        let held = Held::of(&catalog);
        let mut still = Reach::default();
        held.live.keys().try_for_each(|id| still.add(self, *id))?;
        held.former.keys().try_for_each(|id| still.add_former(self, *id))?;
        // What they reach is read once, and what a point shares with them stays.
        let mut all = still.clone();
        let (mut objects, unread) = self.let_go_of(&catalog, point, &mut all)?;
        for old in catalog.forwarded_to(catalog.current(point)) {
            match all.add_former(self, old) {
                // It was given back already, or is about to be.
                Err(error) if error.kind() == Kind::Damaged => {}
                added => added?,
            }
        }
        objects.extend(all.objects().difference(still.objects()).cloned());
        let openers = held.openers(self);
        let mut free = BTreeSet::new();
        for key in objects {
            if !openers.contains_key(&key) && !still.contains(self, &key)? {
                free.insert(key);
            }
        }
        hold_objects(self.store.as_ref(), &free, false)?;
        let Some(error) = unread else { return Ok(()) };
        let detail = format!(
            "the log has point {point} released, but not all that it needs could be read: the store may \
                              hold some of it still"
        );
        Err(Error::new(error.kind(), "release point", detail).source(error))
    }

    /// Adds what `point` reaches to `reach`. What opens it, and why not all that it reaches could be read, if so: that
    /// keeps its hold, and keeps nobody else from losing theirs.
    fn let_go_of(
        &self,
        catalog: &Catalog,
        point: Digest,
        reach: &mut Reach,
    ) -> Result<(BTreeSet<Key>, Option<Error>)> {
        let committed = match catalog.point(point) {
            Ok(live) => &live.committed,
            // It left since.
            Err(error) => return Ok((BTreeSet::new(), Some(error))),
        };
        let unread = match reach.add(self, committed.id) {
            Err(error) if error.kind() == Kind::Damaged => Some(error),
            added => added.map(|()| {
                catalog.is_destroyed(committed.key).then(|| unreadable(committed.id, "release point"))
            })?,
        };
        Ok((self.openers(committed.key), unread))
    }
}

/// The points that are held in the store, with their data keys.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) live: BTreeMap<Digest, KeyId>,
    pub(super) former: BTreeMap<Digest, KeyId>,
}

impl Held {
    pub(super) fn of(catalog: &Catalog) -> Self {
        let is_held = |live: &&LivePoint| live.holds.values().any(|hold| hold.locked);
        let live = catalog.points().values().filter(is_held);
        let former = catalog.former().into_iter().filter(|former| former.is_held());
        Self {
            live: live.map(|live| (live.committed.id, live.committed.key)).collect(),
            former: former.map(|former| (former.id, former.key)).collect(),
        }
    }

    /// All of them.
    pub(super) fn points(&self) -> impl Iterator<Item = (Digest, KeyId)> {
        self.live.iter().chain(&self.former).map(|(id, key)| (*id, *key))
    }

    /// What opens them, and under which data keys those are that it opens.
    pub(super) fn openers(&self, vault: &Vault) -> BTreeMap<Key, BTreeSet<KeyId>> {
        let keys: BTreeSet<KeyId> = self.points().map(|(_, key)| key).collect();
        let mut openers = BTreeMap::<Key, BTreeSet<KeyId>>::new();
        for key in keys {
            for opener in vault.openers(key) {
                openers.entry(opener).or_default().insert(key);
            }
        }
        openers
    }
}
