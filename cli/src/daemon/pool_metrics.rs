//! The numbers of pool and volumes, as they are when somebody asks.

use std::fmt;

use firn_engine::core::Statistics;
use firn_engine::error::{Error, Kind};
use firn_engine::pool::PoolStatus;
use firn_engine::volume::VolumeInfo;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::operation::Served;

/// One look at everything.
#[derive(Debug)]
pub(super) struct PoolMetrics {
    status: PoolStatus,
    volumes: Vec<VolumeInfo>,
}

/// A number's name, what it is, and where it is found.
type Row<T> = (&'static str, &'static str, fn(&T) -> u64);

const POOL: &[Row<PoolStatus>] = &[
    ("pool_bytes", "The size of the pool", |status| status.pool_bytes),
    ("pool_data_bytes", "Room for data, used or not", |status| status.data_bytes),
    ("pool_free_bytes", "Room that is free, the reserve included", |status| status.free_bytes),
    ("pool_used_bytes", "Room that is in use", |status| status.used_bytes),
    ("pool_reserve_bytes", "Room that writes are not given", |status| status.reserve_bytes),
    ("pool_waiting_bytes", "Room that comes back at the next checkpoint", |status| status.waiting_bytes),
    ("pool_volumes", "Volumes", |status| status.volumes),
    ("pool_snapshots", "Snapshots", |status| status.snapshots),
    ("pool_groups", "Consistency groups", |status| status.groups),
    ("pool_metadata_disk_bytes", "What the metadata takes on disk", |status| status.metadata_disk_bytes),
    ("pool_metadata_memory_bytes", "What the metadata takes in memory", |status| {
        status.metadata_memory_bytes
    }),
    ("pool_metadata_reopened", "Openings of the metadata anew after a failure", |status| {
        status.metadata_reopened
    }),
    ("pool_memory_bytes", "What caches and shared memory take", |status| status.memory_bytes),
    ("pool_read_only", "1 after the device failed: the pool takes no changes", |status| {
        u64::from(status.read_only.is_some())
    }),
];

const GAUGES: &[Row<Statistics>] = &[
    ("pool_cache_bytes", "Decoded pages of the map in memory", |now| now.cache_bytes),
    ("pool_overlay_bytes", "Changes of the map not yet checkpointed", |now| now.overlay_bytes),
    ("pool_staged_blocks", "Blocks acknowledged and not on the device yet", |now| now.staged_blocks),
    ("pool_staged_blocks_max", "How many there can be", |now| now.staged_blocks_max),
    ("pool_journal_blocks", "Blocks of the journal in use", |now| now.journal_blocks),
    ("pool_journal_blocks_max", "How many there are", |now| now.journal_blocks_max),
    ("pool_parked", "Writes and changes that wait for room", |now| now.parked),
    ("pool_epoch", "The pool's epoch", |now| now.epoch),
];

const COUNTERS: &[Row<Statistics>] = &[
    ("pool_reads", "Reads", |since| since.reads),
    ("pool_read_bytes", "Bytes read", |since| since.read_bytes),
    ("pool_writes", "Writes", |since| since.writes),
    ("pool_written_bytes", "Bytes written", |since| since.written_bytes),
    ("pool_unmaps", "Discards", |since| since.unmaps),
    ("pool_flushes", "Flushes", |since| since.flushes),
    ("pool_changes", "Changes of the catalog", |since| since.changes),
    ("pool_failed_requests", "Requests that failed", |since| since.failed_requests),
    ("pool_partial_writes", "Writes that covered a block in part", |since| since.partial_writes),
    ("pool_parked_writes", "Writes that waited for room", |since| since.parked_writes),
    ("pool_out_of_space", "Writes refused for want of space", |since| since.out_of_space),
    ("pool_device_reads", "Reads of the device", |since| since.device_reads),
    ("pool_device_read_bytes", "Bytes read from the device", |since| since.device_bytes_read),
    ("pool_data_writes", "Writes of data to the device", |since| since.data_writes),
    ("pool_data_written_bytes", "Bytes of data written to the device", |since| since.data_bytes_written),
    ("pool_journal_writes", "Writes of the journal to the device", |since| since.journal_writes),
    ("pool_journal_written_bytes", "Bytes of the journal written to the device", |since| {
        since.journal_bytes_written
    }),
    ("pool_syncs", "Syncs of the device", |since| since.syncs),
    ("pool_reads_again", "Reads of the device repeated because the first was wrong", |since| {
        since.reads_again
    }),
    ("pool_damaged_reads", "Reads of the device that stayed wrong", |since| since.damaged_reads),
    ("pool_read_ahead_bytes", "Bytes read ahead of those who read in order", |since| since.read_ahead_bytes),
    ("pool_read_ahead_hits", "Reads answered from what was read ahead", |since| since.read_ahead_hits),
    ("pool_landed_blocks", "Blocks written without a copy in memory", |since| since.landed_blocks),
    ("pool_page_loads", "Pages of the map read from the metadata", |since| since.page_loads),
    ("pool_checkpoints", "Checkpoints", |since| since.checkpoints),
    ("pool_failed_checkpoints", "Checkpoints that failed", |since| since.failed_checkpoints),
    ("pool_checkpoint_bytes", "Bytes written by checkpoints", |since| since.checkpoint_bytes),
];

const VOLUME: &[Row<VolumeInfo>] = &[
    ("volume_bytes", "The size of the volume", |volume| volume.bytes),
    ("volume_mapped_bytes", "Bytes that it maps, shared ones included", |volume| volume.mapped_bytes),
    ("volume_snapshots", "Its snapshots", |volume| volume.snapshots),
];

impl PoolMetrics {
    /// Looks at everything.
    pub(super) fn of(served: &Served) -> Result<Self, Error> {
        let mut volumes = Vec::new();
        for volume in served.pool.volumes()? {
            match volume.info() {
                // Deleted since.
                Err(error) if error.kind() == Kind::NotFound => {}
                info => volumes.push(info?),
            }
        }
        Ok(Self { status: served.pool.status()?, volumes })
    }
}

impl Collector for PoolMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in POOL {
            gauge(&mut encoder, name, help, value(&self.status))?;
        }
        for (name, help, value) in GAUGES {
            gauge(&mut encoder, name, help, value(&self.status.statistics))?;
        }
        for (name, help, value) in COUNTERS {
            let number = ConstCounter::new(value(&self.status.statistics));
            number.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        for (name, help, value) in VOLUME {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for volume in &self.volumes {
                let labels = [("volume", volume.name.as_str())];
                ConstGauge::new(value(volume)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}
