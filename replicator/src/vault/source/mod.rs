//! Sources: snapshots that are sent.

mod snapshot;

use std::collections::BTreeMap;
use std::ops::Range;

pub use snapshot::SnapshotSource;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::format::point;

/// A snapshot's identity. A pool that was copied or put back to an earlier state gives a layer's epochs anew, to other
/// content: the time it was taken tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SnapshotId {
    /// The layer it is a view of.
    pub layer: u32,
    /// Its epoch.
    pub epoch: u32,
    /// When it was taken, in ms since 1970.
    pub created_ms: u64,
}

impl SnapshotId {
    /// The snapshot that a point was made of.
    pub fn of(source: &point::Source) -> Self {
        Self { layer: source.layer, epoch: source.epoch, created_ms: source.created_ms }
    }
}

/// Consecutive blocks that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The first block.
    pub first: u64,
    /// How many, at least 1.
    pub blocks: u64,
    /// Whether they hold data; if not, they became holes.
    pub is_data: bool,
}

/// Waits for blocks that were asked for, and fills what it is given with them, one range after the other; that is as long
/// as all of them. It fails with what the pool said, and then nothing in there is to be believed.
pub type Reading<'s> = Box<dyn FnOnce(&mut [u8]) -> Result<()> + Send + 's>;

/// A snapshot of a volume, held from being deleted while this lives.
pub trait Source: Sync {
    /// Where it comes from.
    fn origin(&self) -> &point::Source;

    /// The volume's size then, in bytes; a multiple of 4096.
    fn bytes(&self) -> u64;

    /// What the user noted on it.
    fn tags(&self) -> BTreeMap<String, String>;

    /// Whether the pool still has this snapshot of the volume, so that changes since can be asked for.
    ///
    /// # Errors
    /// What the pool said.
    fn has(&self, snapshot: SnapshotId) -> Result<bool>;

    /// Shows `visit` what changed from `since` to this snapshot, in block order; without `since`, all data that is
    /// there. Asked twice it shows the same. The cost is that of what is shown.
    ///
    /// # Errors
    /// What the pool or `visit` said.
    fn changes(&self, since: Option<SnapshotId>, visit: &mut dyn FnMut(Change) -> Result<()>) -> Result<()>;

    /// Begins to read ranges of blocks, and does not wait for them: what is returned does.
    fn read<'s>(&'s self, ranges: Vec<Range<u64>>) -> Reading<'s>;

    /// Keeps this snapshot from being deleted for `reason`, also when this process is gone.
    ///
    /// # Errors
    /// What the pool said.
    fn hold(&self, reason: &str) -> Result<()>;

    /// Takes back what `reason` holds of the volume's other snapshots.
    ///
    /// # Errors
    /// What the pool said.
    fn release_others(&self, reason: &str) -> Result<()>;
}
