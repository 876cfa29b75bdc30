//! What an operator would ask: counters since the pool was opened, and how full every queue and cache is.

use serde::{Deserialize, Serialize};

use super::Core;

/// Counters and gauges. Bytes unless the name says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // The names say it; the ones that don't have a comment.
pub struct Statistics {
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub written_bytes: u64,
    pub unmaps: u64,
    pub flushes: u64,
    pub changes: u64,
    pub failed_requests: u64,
    /// Writes that covered a block in part, so that it was read first.
    pub partial_writes: u64,
    /// Writes that waited for room.
    pub parked_writes: u64,
    /// Writes refused for want of space.
    pub out_of_space: u64,
    pub device_reads: u64,
    pub device_bytes_read: u64,
    pub data_writes: u64,
    pub data_bytes_written: u64,
    pub journal_writes: u64,
    pub journal_bytes_written: u64,
    pub syncs: u64,
    /// Device reads repeated because the first answer was wrong.
    pub reads_again: u64,
    /// Device reads that stayed wrong.
    pub damaged_reads: u64,
    /// Bytes read ahead of those who read in order.
    pub read_ahead_bytes: u64,
    /// Reads that were answered from them.
    pub read_ahead_hits: u64,
    /// Blocks that were staged where they were received.
    pub landed_blocks: u64,
    /// Map pages read from RocksDB.
    pub page_loads: u64,
    pub checkpoints: u64,
    pub failed_checkpoints: u64,
    pub checkpoint_bytes: u64,
    /// Gauges from here on.
    pub cache_bytes: u64,
    pub overlay_bytes: u64,
    pub staged_blocks: u64,
    pub staged_blocks_max: u64,
    pub journal_blocks: u64,
    pub journal_blocks_max: u64,
    pub parked: u64,
    pub free_blocks: u64,
    pub data_blocks: u64,
    pub reserve_blocks: u64,
    /// Blocks that come back at the next checkpoint, or when a read ends.
    pub waiting_blocks: u64,
    pub next_lsn: u64,
    pub durable_lsn: u64,
    pub epoch: u64,
}

impl Core {
    /// The counters and gauges as they are now.
    pub fn statistics(&self) -> Statistics {
        let retired = self.retired.as_ref().map_or(0, |retired| retired.overlay.bytes);
        let frozen = self.frozen.as_ref().map_or(0, |overlay| overlay.bytes);
        let waiting = self.active.superseded_blocks
            + self.frozen.as_ref().map_or(0, |overlay| overlay.superseded_blocks)
            + self.quarantine.blocks;
        Statistics {
            cache_bytes: self.cache.bytes() as u64,
            overlay_bytes: (self.active.bytes + frozen + retired) as u64,
            staged_blocks: self.staging.blocks(),
            staged_blocks_max: self.tail.data_slots(),
            journal_blocks: self.journal.used_blocks(),
            journal_blocks_max: self.journal.ring_blocks(),
            parked: (self.parked_writes.len() + self.parked_changes.len()) as u64,
            free_blocks: self.space.free_blocks(),
            data_blocks: self.space.blocks(),
            reserve_blocks: self.reserve_blocks(),
            waiting_blocks: waiting,
            next_lsn: self.journal.next_lsn().0,
            durable_lsn: self.durable.0,
            epoch: u64::from(self.catalog.epoch().0),
            ..self.statistics.clone()
        }
    }
}
