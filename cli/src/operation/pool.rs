//! The pool itself: status, grow, checkpoint.

use std::path::PathBuf;

use firn_engine::error::Error;
use firn_engine::pool::PoolStatus;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::report::PoolStatistics;
use super::{Operation, Route, Served};
use crate::time;

/// How the pool is doing.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct PoolView {
    /// The file or block device.
    #[schema(value_type = String)]
    pub(crate) path: PathBuf,
    /// The directory of its metadata.
    #[schema(value_type = String)]
    pub(crate) metadata: PathBuf,
    /// Its identity, in hexadecimal.
    pub(crate) pool_id: String,
    /// When it was created, in ms since 1970.
    pub(crate) created_ms: u64,
    /// The same in UTC, as RFC 3339 has it.
    pub(crate) created: Option<String>,
    /// The size of the whole pool.
    pub(crate) pool_bytes: u64,
    /// The size of its journal.
    pub(crate) journal_bytes: u64,
    /// Room for data, used or not.
    pub(crate) data_bytes: u64,
    /// Room that is free, the reserve included.
    pub(crate) free_bytes: u64,
    /// Room that is in use, what waits to come back included.
    pub(crate) used_bytes: u64,
    /// Room that writes are not given, so that deletes and checkpoints always have some.
    pub(crate) reserve_bytes: u64,
    /// Room that comes back at the next checkpoint, or when a read ends.
    pub(crate) waiting_bytes: u64,
    /// How many there are.
    pub(crate) volumes: u64,
    /// How many users can see.
    pub(crate) snapshots: u64,
    /// How many there are.
    pub(crate) groups: u64,
    /// What the metadata takes on disk.
    pub(crate) metadata_disk_bytes: u64,
    /// What the metadata store takes in memory.
    pub(crate) metadata_memory_bytes: u64,
    /// How often the metadata store was opened anew, because a checkpoint could not be written.
    pub(crate) metadata_reopened: u64,
    /// What the core's caches, its changes not yet checkpointed and its shared memory take.
    pub(crate) memory_bytes: u64,
    /// Why the pool takes no changes, when it takes none.
    pub(crate) read_only: Option<String>,
    /// What drives the device.
    pub(crate) device: String,
    /// What opening the pool found and did.
    pub(crate) recovery: RecoveryView,
    /// Counters since the pool was opened, and how full every queue and cache is. They are for looking at: which there
    /// are changes with the engine.
    pub(crate) statistics: PoolStatistics,
}

/// What opening the pool found and did.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct RecoveryView {
    /// The pool had been closed cleanly.
    pub(crate) clean: bool,
    /// Records replayed from the journal.
    pub(crate) records: u64,
    /// Records cut from its end, because they were not wholly written before the crash. None was durable.
    pub(crate) cut_records: u64,
    /// Blocks of data and journal finished for a process that died.
    pub(crate) tail_blocks: u64,
    /// Blocks of data read to see whether they were written.
    pub(crate) verified_blocks: u64,
    /// One of the two superblocks was damaged and was written again.
    pub(crate) repaired_superblock: bool,
    /// Damage found on the way that nothing was lost by.
    pub(crate) notes: Vec<String>,
}

impl PoolView {
    pub(crate) fn of(served: &Served) -> Result<Self, Error> {
        let status = served.pool.status()?;
        let (path, metadata) = (served.path.clone(), served.metadata.clone());
        Ok(Self { path, metadata, ..Self::from(status) })
    }
}

impl From<PoolStatus> for PoolView {
    /// Without its places.
    fn from(status: PoolStatus) -> Self {
        let recovery = status.recovery;
        Self {
            path: PathBuf::new(),
            metadata: PathBuf::new(),
            pool_id: status.pool_id,
            created_ms: status.created_ms,
            created: time::utc(status.created_ms),
            pool_bytes: status.pool_bytes,
            journal_bytes: status.journal_bytes,
            data_bytes: status.data_bytes,
            free_bytes: status.free_bytes,
            used_bytes: status.used_bytes,
            reserve_bytes: status.reserve_bytes,
            waiting_bytes: status.waiting_bytes,
            volumes: status.volumes,
            snapshots: status.snapshots,
            groups: status.groups,
            metadata_disk_bytes: status.metadata_disk_bytes,
            metadata_memory_bytes: status.metadata_memory_bytes,
            metadata_reopened: status.metadata_reopened,
            memory_bytes: status.memory_bytes,
            read_only: status.read_only,
            device: status.device,
            recovery: RecoveryView {
                clean: recovery.clean,
                records: recovery.records,
                cut_records: recovery.cut_records,
                tail_blocks: recovery.tail_blocks,
                verified_blocks: recovery.verified_blocks,
                repaired_superblock: recovery.repaired_superblock,
                notes: recovery.notes,
            },
            statistics: PoolStatistics(status.statistics),
        }
    }
}

/// The pool's status.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolShow {}

impl Operation for PoolShow {
    type View = PoolView;
    const ROUTE: Route = Route::get("/v1/pool/status", "Show how the pool is doing");

    fn run(self, served: &Served) -> Result<PoolView, Error> {
        PoolView::of(served)
    }
}

/// A checkpoint.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolCheckpoint {}

impl Operation for PoolCheckpoint {
    type View = PoolView;
    const ROUTE: Route = Route::post(
        "/v1/pool/checkpoint",
        "Make a checkpoint now, not within the next minute: what volumes and snapshots map is then up to date",
    );

    fn run(self, served: &Served) -> Result<PoolView, Error> {
        served.pool.checkpoint()?;
        PoolView::of(served)
    }
}

/// The pool's new size.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolGrow {
    /// The size that it is to have then, a multiple of 4096.
    pub(crate) bytes: u64,
    /// Write zeros through the new part of a file now.
    #[serde(default)]
    pub(crate) preallocate: bool,
}

/// A pool that grew.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct PoolGrown {
    /// Its size before.
    pub(crate) pool_bytes_before: u64,
    /// How it is doing now.
    #[serde(flatten)]
    pub(crate) pool: PoolView,
}

impl Operation for PoolGrow {
    type View = PoolGrown;
    const ROUTE: Route = Route::post("/v1/pool/grow", "Make the pool larger");

    fn run(self, served: &Served) -> Result<PoolGrown, Error> {
        let pool_bytes_before = served.pool.status()?.pool_bytes;
        served.pool.grow(self.bytes, self.preallocate)?;
        Ok(PoolGrown { pool_bytes_before, pool: PoolView::of(served)? })
    }
}
