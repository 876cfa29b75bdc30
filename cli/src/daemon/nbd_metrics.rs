//! The numbers of the NBD server, as they are when somebody asks.

use std::fmt;

use firn_engine::export::nbd::{KindStatistics, LATENCY_BUCKETS, Statistics, VolumeStatistics};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// One look at the server's counters.
#[derive(Debug)]
pub(super) struct NbdMetrics(pub(super) Statistics);

/// A number's name, what it is, whether it only rises, and where it is found.
type Row = (&'static str, &'static str, MetricType, fn(&Statistics) -> u64);

const SERVER: &[Row] = &[
    ("nbd_connections_open", "Connections open now", MetricType::Gauge, |now| now.connections_open),
    ("nbd_bytes_in_memory", "Bytes of requests and answers now", MetricType::Gauge, |now| {
        now.bytes_in_memory
    }),
    ("nbd_connections", "Connections accepted", MetricType::Counter, |since| since.connections),
    ("nbd_connections_refused", "Connections beyond the limit", MetricType::Counter, |since| {
        since.connections_refused
    }),
    ("nbd_handshakes_ended", "Handshakes that ended without an export", MetricType::Counter, |since| {
        since.handshakes_ended
    }),
    (
        "nbd_protocol_faults",
        "Connections closed because the client broke the protocol",
        MetricType::Counter,
        |since| since.protocol_faults,
    ),
    (
        "nbd_stalled",
        "Connections closed because they kept memory others waited for",
        MetricType::Counter,
        |since| since.stalled,
    ),
];

/// A kind of request, and where its counters are found.
type Kind = (&'static str, fn(&VolumeStatistics) -> &KindStatistics);

const KINDS: &[Kind] = &[
    ("read", |volume| &volume.reads),
    ("write", |volume| &volume.writes),
    ("flush", |volume| &volume.flushes),
    ("unmap", |volume| &volume.unmaps),
    ("other", |volume| &volume.others),
];

/// A counter's name, what it is, and where it is found.
type KindRow = (&'static str, &'static str, fn(&KindStatistics) -> u64);

const COUNTERS: &[KindRow] = &[
    ("nbd_requests", "Requests answered, by volume and kind", |kind| kind.requests),
    ("nbd_errors", "Requests answered with an error", |kind| kind.errors),
    ("nbd_bytes", "Bytes that requests were about, without refused ones", |kind| kind.bytes),
    ("nbd_latency_us", "Time from receiving requests to answering them, added up", |kind| kind.latency_us),
];

impl Collector for NbdMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, kind, value) in SERVER {
            let metric = encoder.encode_descriptor(name, help, None, *kind)?;
            match kind {
                MetricType::Gauge => ConstGauge::new(value(&self.0)).encode(metric)?,
                _ => ConstCounter::new(value(&self.0)).encode(metric)?,
            }
        }
        for (name, help, value) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for volume in &self.0.volumes {
                for (kind, counted) in KINDS {
                    let labels = [("volume", volume.name.as_str()), ("kind", kind)];
                    ConstCounter::new(value(counted(volume))).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        let help = "How long requests took, by kind; all volumes together";
        let mut family =
            encoder.encode_descriptor("nbd_request_seconds", help, None, MetricType::Histogram)?;
        for (kind, counted) in KINDS {
            let (count, sum, buckets) = histogram(self.0.volumes.iter().map(counted));
            let labels = [("kind", *kind)];
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

/// How many there were, how long they took together, and how many took at most how long, in s.
fn histogram<'a>(kinds: impl Iterator<Item = &'a KindStatistics>) -> (u64, f64, Vec<(f64, u64)>) {
    let (mut count, mut latency_us, mut counts) = (0, 0, [0; LATENCY_BUCKETS]);
    for kind in kinds {
        count += kind.requests;
        latency_us += kind.latency_us;
        counts.iter_mut().zip(kind.latency).for_each(|(sum, counted)| *sum += counted);
    }
    let mut bound = 0.5e-6;
    let mut buckets: Vec<_> = counts
        .into_iter()
        .map(|counted| {
            bound *= 2.0;
            (bound, counted)
        })
        .collect();
    if let Some(last) = buckets.last_mut() {
        last.0 = f64::INFINITY;
    }
    let sum = std::time::Duration::from_micros(latency_us).as_secs_f64();
    (count, sum, buckets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_added_up_and_the_last_has_no_bound() {
        let mut kind = KindStatistics { requests: 3, latency_us: 2_000_006, ..KindStatistics::default() };
        (kind.latency[0], kind.latency[2], kind.latency[LATENCY_BUCKETS - 1]) = (1, 1, 1);
        let (count, sum, buckets) = histogram([&kind, &kind].into_iter());
        assert_eq!((count, buckets[0], buckets[2]), (6, (1e-6, 2), (4e-6, 2)));
        assert!((sum - 4.000_012).abs() < 1e-9, "{sum}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, 2)));
    }
}
