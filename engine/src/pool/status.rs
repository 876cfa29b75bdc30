//! How a pool is doing.

use serde::{Deserialize, Serialize};

use super::Pool;
use crate::core::{Core, Statistics};
use crate::error::Result;
use crate::recovery::RecoveryReport;
use crate::units::BLOCK_BYTES;

/// How a pool is doing. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its identity, in hexadecimal.
    pub pool_id: String,
    /// When it was created, in ms since 1970.
    pub created_ms: u64,
    /// The size of the whole pool.
    pub pool_bytes: u64,
    /// The size of its journal.
    pub journal_bytes: u64,
    /// Room for data, used or not.
    pub data_bytes: u64,
    /// Room that is free, the reserve included.
    pub free_bytes: u64,
    /// Room that is in use, what waits to come back included.
    pub used_bytes: u64,
    /// Room that writes are not given, so that deletes and checkpoints always have some.
    pub reserve_bytes: u64,
    /// Room that comes back at the next checkpoint, or when a read ends.
    pub waiting_bytes: u64,
    /// How many there are.
    pub volumes: u64,
    /// How many users can see.
    pub snapshots: u64,
    /// How many there are.
    pub groups: u64,
    /// What the metadata takes on disk.
    pub metadata_disk_bytes: u64,
    /// What the metadata store takes in memory.
    pub metadata_memory_bytes: u64,
    /// How often the metadata store was opened anew, because a checkpoint could not be written.
    pub metadata_reopened: u64,
    /// What the core's caches, its changes not yet checkpointed and its shared memory take.
    pub memory_bytes: u64,
    /// Why the pool takes no changes, when it takes none.
    pub read_only: Option<String>,
    /// What drives the device.
    pub device: String,
    /// What opening found and did.
    pub recovery: RecoveryReport,
    /// Counters since the pool was opened, and how full every queue and cache is.
    pub statistics: Statistics,
}

/// What is seen of the core in one look.
struct Seen {
    statistics: Statistics,
    read_only: Option<String>,
    volumes: u64,
    snapshots: u64,
    groups: u64,
}

fn see(core: &Core) -> Seen {
    let catalog = core.catalog();
    let snapshots = catalog.volumes().map(|volume| catalog.snapshots_of(volume.id).len() as u64).sum();
    Seen {
        statistics: core.statistics(),
        read_only: core.failure().map(ToString::to_string),
        volumes: catalog.volumes().count() as u64,
        snapshots,
        groups: catalog.groups().count() as u64,
    }
}

impl Pool {
    /// How the pool is doing now.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) after the pool was closed.
    pub fn status(&self) -> Result<PoolStatus> {
        let seen = self.handle().look(see)?;
        let statistics = seen.statistics;
        let bytes = |blocks: u64| blocks * BLOCK_BYTES;
        let home = self.with_running(|running| running.home.clone())?;
        let (disk_bytes, memory_bytes) = home.look(|store| Ok((store.disk_bytes(), store.memory_bytes())))?;
        self.with_running(|running| PoolStatus {
            pool_id: running.superblock.pool_id.to_string(),
            created_ms: running.superblock.created_ms,
            pool_bytes: bytes(running.superblock.pool_blocks),
            journal_bytes: bytes(running.superblock.journal_blocks),
            data_bytes: bytes(statistics.data_blocks),
            free_bytes: bytes(statistics.free_blocks),
            used_bytes: bytes(statistics.data_blocks - statistics.free_blocks),
            reserve_bytes: bytes(statistics.reserve_blocks),
            waiting_bytes: bytes(statistics.waiting_blocks),
            volumes: seen.volumes,
            snapshots: seen.snapshots,
            groups: seen.groups,
            metadata_disk_bytes: disk_bytes,
            metadata_memory_bytes: memory_bytes,
            metadata_reopened: home.reopened(),
            memory_bytes: statistics.cache_bytes + statistics.overlay_bytes + running.tail_bytes,
            read_only: seen.read_only,
            device: running.device.clone(),
            recovery: running.recovery.clone(),
            statistics,
        })
    }
}
