//! `/metrics`: what the API did, and how pool, volumes and NBD server are at this moment.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::Daemon;
use super::answer::failed;
use super::nbd_metrics::NbdMetrics;
use super::pool_metrics::PoolMetrics;
use crate::operation::Served;

/// What Prometheus reads.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels of one counter or histogram.
type Labels<const N: usize> = [(&'static str, String); N];

/// What the API did since the daemon started.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Labels<2>, Counter>,
    seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("firn_api");
        let requests = Family::default();
        registry.register("requests", "Answers, by path and HTTP status", requests.clone());
        // From 0.1 ms to 100 s.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0001, 4.0, 11));
        let seconds = Family::new_with_constructor(histogram);
        registry.register("seconds", "How long the work for an answer took", seconds.clone());
        Self { registry, requests, seconds }
    }
}

impl Metrics {
    /// Counts an answer.
    pub(super) fn answered(&self, path: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&[("path", path.to_owned()), ("status", status.to_string())]).inc();
        self.seconds.get_or_create(&[("path", path.to_owned())]).observe(took.as_secs_f64());
    }
}

/// All of it, as text.
pub(super) async fn page(State(daemon): State<Arc<Daemon>>) -> Response {
    let looking = daemon.clone();
    let look = move |served: &Served| Ok((PoolMetrics::of(served)?, NbdMetrics(looking.nbd.statistics())));
    let (pool, nbd) = match daemon.clone().short(look).await {
        Ok(looked) => looked,
        Err(failure) => return failed(failure),
    };
    let mut now = Registry::with_prefix("firn");
    now.register_collector(Box::new(pool));
    now.register_collector(Box::new(nbd));
    let mut text = String::new();
    let written = encode_registry(&mut text, &daemon.metrics.registry)
        .and_then(|()| encode_registry(&mut text, &now))
        .and_then(|()| encode_eof(&mut text));
    debug_assert!(written.is_ok(), "a string takes everything");
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}
