//! Reads of small objects whose bytes nobody has verified yet.
//!
//! 1. What is longer than such an object can be is refused before it is read: whoever may write to the store may put
//!    there what fits in no memory.

use crate::error::{Error, Kind, Result};
use crate::store::{Key, Store};

/// Bytes of `vault.json` at most.
pub(super) const SETTINGS_BYTES_MAX: usize = 64 << 10;
/// Bytes of a slot or data key at most.
pub(super) const SLOT_BYTES_MAX: usize = 64 << 10;
/// Bytes of a point at most; it holds what an application says of itself.
pub(super) const POINT_BYTES_MAX: usize = 16 << 20;

/// The bytes of `key`, which can't be more than `bytes_max`.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::Damaged`] when they are more; what the store said.
pub(super) fn get(store: &dyn Store, key: &Key, bytes_max: usize) -> Result<Vec<u8>> {
    match store.head(key)? {
        None => Err(Error::new(Kind::NotFound, "read object", key.to_string())),
        Some(info) => {
            check(key, info.bytes, bytes_max)?;
            store.get(key)
        }
    }
}

/// Whether an object of `bytes` may be read.
///
/// # Errors
/// [`Kind::Damaged`] when it is too long.
pub(super) fn check(key: &Key, bytes: u64, bytes_max: usize) -> Result<()> {
    if bytes <= bytes_max as u64 {
        return Ok(());
    }
    let detail = format!("{key} has {bytes} bytes, at most {bytes_max} are possible");
    Err(Error::new(Kind::Damaged, "read object", detail))
}
