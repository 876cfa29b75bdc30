//! Legal holds: a point that is held stays, whatever its date, until each hold on it is released.
//!
//! 1. What the point needs is held in the store before the entry says so, and let go only after the entry that releases
//!    it, as far as no other held point needs it.
//!    What it needed while it was called otherwise stays held as long as that one's own holds (see `former`).
//! 2. The hold in the log is what prune and reclaim go by. The store's is a second lock on the same door: when two
//!    people hold and release points that share objects at the same time, it may be missing, and `check` says so.

use std::collections::BTreeSet;

use super::catalog::{Catalog, LivePoint};
use super::former::FormerPoint;
use super::lock::hold_objects;
use super::reach::Reach;
use super::{RACES_MAX, Vault};
use crate::error::{Error, Kind, Result};
use crate::format::digest::Digest;
use crate::format::entry::Action;

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
            let mut needed = self.needed_by(point)?;
            for former in self.catalog().former_of(point).iter().filter(|former| former.is_held()) {
                needed.append(&mut self.needed_by_former(former)?);
            }
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
        // What can't be read keeps its hold, and keeps nobody else from losing theirs.
        let (mut objects, unread) = match self.needed_by(point) {
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Conflict | Kind::NotFound) => {
                (BTreeSet::new(), Some(error))
            }
            needed => (needed?, None),
        };
        for old in catalog.forwarded_to(catalog.current(point)) {
            let mut reach = Reach::default();
            match reach.add_former(self, old) {
                // It was given back already, or is about to be.
                Err(error) if error.kind() == Kind::Damaged => {}
                added => added.map(|()| objects.extend(reach.objects().iter().cloned()))?,
            }
        }
        for held in held_points(&catalog) {
            let needed = self.needed_by(held)?;
            objects = &objects - &needed;
        }
        for held in held_former(&catalog) {
            let needed = self.needed_by_former(held)?;
            objects = &objects - &needed;
        }
        hold_objects(self.store.as_ref(), &objects, false)?;
        let Some(error) = unread else { return Ok(()) };
        let detail = format!(
            "the log has point {point} released, but not all that it needs could be read: the store may \
                              hold some of it still"
        );
        Err(Error::new(error.kind(), "release point", detail).source(error))
    }
}

/// Points that are held in the store.
pub(super) fn held_points(catalog: &Catalog) -> BTreeSet<Digest> {
    let is_held = |live: &LivePoint| live.holds.values().any(|hold| hold.locked);
    catalog.points().iter().filter(|(_, live)| is_held(live)).map(|(id, _)| *id).collect()
}

/// Former points that are held in the store.
pub(super) fn held_former(catalog: &Catalog) -> impl Iterator<Item = &FormerPoint> {
    catalog.former().into_iter().filter(|former| former.is_held())
}
