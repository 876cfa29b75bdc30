//! What a pool and a vault do together: sending a snapshot, and restoring a point to a volume.

pub(crate) mod restore;
pub(crate) mod send;
mod watched;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Transferring {
    /// Bytes that it is about, as far as that is known.
    pub(crate) expected_bytes: u64,
    /// Bytes of them that are done.
    pub(crate) done_bytes: u64,
}
