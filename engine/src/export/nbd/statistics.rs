//! What an operator would ask of a server: counters since it was started.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::units::VolumeId;

/// Buckets of a latency histogram: bucket n counts what took less than 2^n us; the last one the rest too.
pub const LATENCY_BUCKETS: usize = 26;

/// Counters of a server. Bytes are those of data, without headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections that are open now, handshakes included.
    pub connections_open: u64,
    /// Connections that were closed at once because there were too many.
    pub connections_refused: u64,
    /// Handshakes that ended without an export, by the client's wish or for a fault.
    pub handshakes_ended: u64,
    /// Connections that were closed because the client broke the protocol.
    pub protocol_faults: u64,
    /// Connections that were closed because they kept memory that others waited for.
    pub stalled: u64,
    /// Bytes of requests and answers in memory now.
    pub bytes_in_memory: u64,
    /// By volume; its snapshots count as the volume.
    pub volumes: Vec<VolumeStatistics>,
}

/// Counters of one volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VolumeStatistics {
    /// Its identity.
    pub id: VolumeId,
    /// Its name when the counters were read.
    pub name: String,
    /// Connections that are open now.
    pub connections_open: u64,
    /// By kind of request.
    pub reads: KindStatistics,
    /// Writes.
    pub writes: KindStatistics,
    /// Flushes.
    pub flushes: KindStatistics,
    /// Trims and writes of zeros.
    pub unmaps: KindStatistics,
    /// Questions about block status, and requests to cache.
    pub others: KindStatistics,
}

/// Counters of one kind of request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KindStatistics {
    /// Requests that were answered.
    pub requests: u64,
    /// Those of them that were answered with an error.
    pub errors: u64,
    /// Bytes that those without an error were about.
    pub bytes: u64,
    /// Time from receiving to answering them all, added up, in us.
    pub latency_us: u64,
    /// How many took how long: see [`LATENCY_BUCKETS`].
    pub latency: [u64; LATENCY_BUCKETS],
}

/// Kinds of requests that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    Read,
    Write,
    Flush,
    Unmap,
    Other,
}

/// A number that one thread raises and others read.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    pub(super) fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct KindCounters {
    requests: Counter,
    errors: Counter,
    bytes: Counter,
    latency_us: Counter,
    latency: [Counter; LATENCY_BUCKETS],
}

impl KindCounters {
    fn read(&self) -> KindStatistics {
        KindStatistics {
            requests: self.requests.get(),
            errors: self.errors.get(),
            bytes: self.bytes.get(),
            latency_us: self.latency_us.get(),
            latency: std::array::from_fn(|bucket| self.latency[bucket].get()),
        }
    }
}

/// One volume's counters.
#[derive(Debug, Default)]
pub(super) struct VolumeCounters {
    pub(super) connections_open: Counter,
    kinds: [KindCounters; 5],
}

impl VolumeCounters {
    pub(super) fn answered(&self, kind: RequestKind, bytes: u64, failed: bool, took: Duration) {
        let counters = &self.kinds[kind as usize];
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counters.requests.add(1);
        counters.errors.add(u64::from(failed));
        counters.bytes.add(bytes);
        counters.latency_us.add(us);
        counters.latency[bucket(us)].add(1);
    }
}

fn bucket(us: u64) -> usize {
    let bits = u64::BITS - us.leading_zeros();
    usize::try_from(bits).unwrap_or(LATENCY_BUCKETS).min(LATENCY_BUCKETS - 1)
}

/// A server's counters, shared by its threads.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: Counter,
    pub(super) connections_open: Counter,
    pub(super) connections_refused: Counter,
    pub(super) handshakes_ended: Counter,
    pub(super) protocol_faults: Counter,
    pub(super) stalled: Counter,
    pub(super) bytes_in_memory: Counter,
    volumes: Mutex<BTreeMap<VolumeId, Arc<VolumeCounters>>>,
}

impl Counters {
    /// The counters of a volume, from its first connection on.
    pub(super) fn volume(&self, id: VolumeId) -> Arc<VolumeCounters> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default().clone()
    }

    /// Everything; volumes that `name` does not know are forgotten once nobody is connected to them.
    pub(super) fn read(&self, name: impl Fn(VolumeId) -> Option<String>) -> Statistics {
        let mut volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        volumes.retain(|id, counters| counters.connections_open.get() > 0 || name(*id).is_some());
        let read = |(id, counters): (&VolumeId, &Arc<VolumeCounters>)| {
            let kind = |kind: RequestKind| counters.kinds[kind as usize].read();
            VolumeStatistics {
                id: *id,
                name: name(*id).unwrap_or_default(),
                connections_open: counters.connections_open.get(),
                reads: kind(RequestKind::Read),
                writes: kind(RequestKind::Write),
                flushes: kind(RequestKind::Flush),
                unmaps: kind(RequestKind::Unmap),
                others: kind(RequestKind::Other),
            }
        };
        Statistics {
            connections: self.connections.get(),
            connections_open: self.connections_open.get(),
            connections_refused: self.connections_refused.get(),
            handshakes_ended: self.handshakes_ended.get(),
            protocol_faults: self.protocol_faults.get(),
            stalled: self.stalled.get(),
            bytes_in_memory: self.bytes_in_memory.get(),
            volumes: volumes.iter().map(read).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_took_less_than_its_power_of_two() {
        let found = [0, 1, 2, 3, 4, 1023, 1024, u64::MAX].map(bucket);
        assert_eq!(found, [0, 1, 2, 2, 3, 10, 11, LATENCY_BUCKETS - 1]);
    }

    #[test]
    fn a_volume_that_is_gone_is_forgotten_with_its_last_connection() {
        let counters = Counters::default();
        let volume = counters.volume(VolumeId(1));
        volume.connections_open.add(1);
        volume.answered(RequestKind::Write, 4096, true, Duration::from_micros(5));
        let read = counters.read(|_| None);
        assert_eq!((read.volumes.len(), read.volumes[0].writes.errors), (1, 1));
        assert_eq!((read.volumes[0].writes.latency_us, read.volumes[0].writes.latency[3]), (5, 1));
        volume.connections_open.sub(1);
        assert_eq!(counters.read(|_| Some("a".into())).volumes.len(), 1);
        assert_eq!(counters.read(|_| None).volumes, []);
    }
}
