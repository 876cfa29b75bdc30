//! Locks of objects in a store that has them.

use std::collections::BTreeSet;

use crate::error::{Error, Kind, Result};
use crate::store::{Key, LockMode, Retention, Store};

/// Locks `objects` at least as `wanted`, and confirms it.
///
/// # Errors
/// What the store said; [`Kind::Conflict`] when it does not keep what it was told.
pub(super) fn lock_objects(store: &dyn Store, objects: &BTreeSet<Key>, wanted: Retention) -> Result<()> {
    for key in objects {
        if store.retention(key)?.is_some_and(|present| lasts(present, wanted)) {
            continue;
        }
        store.set_retention(key, wanted)?;
        if !store.retention(key)?.is_some_and(|present| lasts(present, wanted)) {
            return Err(Error::new(
                Kind::Conflict,
                "lock object",
                format!("{key} is not locked as it was told"),
            ));
        }
    }
    Ok(())
}

fn lasts(present: Retention, wanted: Retention) -> bool {
    present.until_ms >= wanted.until_ms
        && (present.mode == LockMode::Compliance || wanted.mode == LockMode::Governance)
}
