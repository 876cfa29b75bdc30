//! Dates until which points must be kept. A date only ever moves later.

use std::collections::BTreeSet;

use super::Vault;
use super::lock::lock_objects;
use crate::error::Result;
use crate::format::digest::Digest;
use crate::format::entry::Action;
use crate::policy::lock::move_date;
use crate::store::{Key, Retention};

impl Vault {
    /// Keeps `points` at least until a date, in ms since 1970 by the store's clock. In a vault that locks, everything
    /// they need is locked until then before the entry says so; a date that they have already is locked anew.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) when a point is not in the vault;
    /// [`Kind::Conflict`](crate::error::Kind::Conflict) when one has a later date; as [`append`](Self::append). After an
    /// error objects may be locked already.
    pub fn retain(&self, points: &BTreeSet<Digest>, until_ms: u64) -> Result<()> {
        let catalog = self.refresh()?;
        for id in points {
            move_date(catalog.point(*id)?.retain_until_ms, until_ms)?;
        }
        let mode = self.settings.lock;
        if let Some(mode) = mode {
            let mut needed = BTreeSet::<Key>::new();
            for id in points {
                needed.append(&mut self.needed_by(*id)?);
            }
            lock_objects(self.store.as_ref(), &needed, Retention { mode, until_ms })?;
        }
        let appended = self.append(&mut |catalog, _| {
            let mut later = Vec::new();
            for id in points {
                later.extend(move_date(catalog.point(*id)?.retain_until_ms, until_ms)?.map(|_| *id));
            }
            let retain = |points| Action::Retain { points, until_ms, locked: mode };
            Ok((!later.is_empty()).then(|| retain(later)))
        })?;
        match appended {
            // What the store lost of its locks since then comes back.
            None => self.lock_foundation(&self.catalog()),
            Some(_) => Ok(()),
        }
    }
}
