//! Legal holds: a point that is held stays, whatever its date, until each hold on it is released.
//!
//! 1. What the point needs is held in the store before the entry says so, and let go only after the entry that releases
//!    it, as far as no other held point needs it.
//! 2. The hold in the log is what prune and reclaim go by. The store's is a second lock on the same door: when two
//!    people hold and release points that share objects at the same time, it may be missing, and `check` says so.

use std::collections::BTreeSet;

use super::Vault;
use super::catalog::{Catalog, LivePoint};
use super::lock::hold_objects;
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
        self.refresh()?.point(point)?;
        let locked = self.store.capabilities().legal_hold;
        if locked {
            hold_objects(self.store.as_ref(), &self.needed_by(point)?, true)?;
        }
        self.append(&mut |catalog, _| {
            let is_held = catalog.point(point)?.holds.contains_key(reason);
            Ok((!is_held).then(|| Action::Hold { point, reason: reason.to_owned(), locked }))
        })?;
        Ok(())
    }

    /// Releases a hold.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such hold; as [`append`](Self::append). After an error objects may be held in
    /// the store still: holding the point and releasing it again lets them go.
    pub fn release(&self, point: Digest, reason: &str) -> Result<()> {
        let mut is_locked = false;
        self.append(&mut |catalog, _| {
            let live = catalog.point(point)?;
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

    /// Takes the store's hold from what `point` needs, except what is needed by points that are held still.
    fn let_go(&self, point: Digest) -> Result<()> {
        let catalog = self.refresh()?;
        let mut objects = self.needed_by(point)?;
        for held in held_points(&catalog) {
            let needed = self.needed_by(held)?;
            objects = &objects - &needed;
        }
        hold_objects(self.store.as_ref(), &objects, false)
    }
}

/// Points that are held in the store.
pub(super) fn held_points(catalog: &Catalog) -> BTreeSet<Digest> {
    let is_held = |live: &LivePoint| live.holds.values().any(|hold| hold.locked);
    catalog.points().iter().filter(|(_, live)| is_held(live)).map(|(id, _)| *id).collect()
}
