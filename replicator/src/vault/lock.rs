//! Locks and holds on objects in the store: set, and then read back. A store that only says that it locked is found out.

use std::collections::BTreeSet;

use super::workers;
use crate::error::{Error, Kind, Result};
use crate::policy::lock::{self, Locks};
use crate::store::{Key, Retention, Store};

/// How often an object is put under legal hold before the store is not believed: whoever releases another point at the
/// same moment may take it back.
const HOLD_TRIES: usize = 4;

/// Locks every object at least as strongly and as long as `wanted`. Locks that are there already stay.
///
/// # Errors
/// [`Kind::Unavailable`] when the store did not do what it said; [`Kind::NotFound`] for an object that is missing; what
/// the store said. Some objects may be locked then.
pub fn lock_objects(store: &dyn Store, objects: &BTreeSet<Key>, wanted: Retention) -> Result<()> {
    let objects: Vec<&Key> = objects.iter().collect();
    workers::each(&objects, |key| {
        let Some(raised) = lock::raise(store.retention(key)?, wanted) else { return Ok(()) };
        let refused = match store.set_retention(key, raised) {
            // Somebody else may have locked it longer in between.
            Err(error) if error.kind() == Kind::Conflict => Some(error),
            set => set.map(|()| None)?,
        };
        match lock::raise(store.retention(key)?, wanted) {
            None => Ok(()),
            Some(_) => Err(refused.unwrap_or_else(|| broken("lock object", key))),
        }
    })
}

/// Puts every object under the store's legal hold, or takes that back. A hold that is there after it was taken back is
/// somebody else's.
///
/// # Errors
/// As [`lock_objects`].
pub fn hold_objects(store: &dyn Store, objects: &BTreeSet<Key>, held: bool) -> Result<()> {
    let objects: Vec<&Key> = objects.iter().collect();
    workers::each(&objects, |key| {
        for _ in 0..HOLD_TRIES {
            if store.legal_hold(key)? == held {
                return Ok(());
            }
            store.set_legal_hold(key, held)?;
            if !held {
                return Ok(());
            }
        }
        match store.legal_hold(key)? {
            true => Ok(()),
            false => Err(broken("hold object", key)),
        }
    })
}

/// The locks that are on an object in the store.
///
/// # Errors
/// What the store said.
pub(super) fn locks_on(store: &dyn Store, key: &Key) -> Result<Locks> {
    let can = store.capabilities();
    let retention = if can.retention { store.retention(key)? } else { None };
    let locks = retention.map_or(Locks::default(), Locks::from);
    Ok(Locks { is_held: can.legal_hold && store.legal_hold(key)?, ..locks })
}

fn broken(operation: &'static str, key: &Key) -> Error {
    Error::new(Kind::Unavailable, operation, format!("the store said that it did for {key}, and did not"))
        .hint("run `firn vault probe`: what is kept there is not as safe as it must be")
}
