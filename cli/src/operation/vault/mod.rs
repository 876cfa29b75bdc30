//! What a pool and a vault do together: sending a snapshot, and restoring a point to a volume or a group to its volumes.

pub(crate) mod restore;
pub(crate) mod restore_group;
pub(crate) mod send;
mod target;
mod watched;

use firn_replicator::format::digest::Digest;
use firn_replicator::vault::damage::Damage;
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

/// A damaged object in a line that names it once.
pub(crate) fn damage(damage: &Damage) -> String {
    let points: Vec<String> = damage.points.iter().map(Digest::short).collect();
    let concerned = match points.is_empty() {
        true => "which points need it is not known".to_owned(),
        false => format!("needed by points {}", points.join(", ")),
    };
    let detail = match damage.detail.split_once(damage.object.as_str()) {
        Some((_, rest)) => rest.trim_start_matches([':', ' ']),
        None => &damage.detail,
    };
    format!("{}: {detail} ({concerned})", damage.object)
}
