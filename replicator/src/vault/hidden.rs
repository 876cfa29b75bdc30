//! Objects that somebody hid: in a store with versions, who may write but not delete what is locked puts a newer version
//! or a mark of deletion over it. What was written is still there.
//!
//! 1. An object of a vault is written once, so its first version is what was written. It is taken for the object as soon
//!    as what is read is missing or wrong, and it is believed no more than the newest one was.
//! 2. What was found hidden is named by both proofs: others, who read the newest version, are misled by it.

use crate::error::{Kind, Result};
use crate::store::{Key, Store};

/// What a proof says of a hidden object.
pub(super) const DETAIL: &str = "it is hidden by a newer version or a mark of deletion, which somebody put over it; firn \
     reads the first version, which is whole. Find out who may write there, and delete what is newer than the first version \
     with the store's own tools";

/// Does `read`, and once more with the object's first version when it is missing or wrong and was hidden.
///
/// # Errors
/// What `read` or the store said.
pub(super) fn uncovering<T>(store: &dyn Store, key: &Key, mut read: impl FnMut() -> Result<T>) -> Result<T> {
    match read() {
        Err(error)
            if matches!(error.kind(), Kind::Damaged | Kind::NotFound | Kind::Invalid)
                && store.uncover(key)? =>
        {
            read()
        }
        done => done,
    }
}
