//! The numbers of this process, and where Prometheus and health checks fetch them.
//!
//! Served without a password on an address of its own (`[metrics]`), never where clients connect.

use std::{fs, sync::Arc, time::Duration};

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::{StatusCode, header};
use koine_store::Shard;
use parking_lot::RwLock;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// Half a millisecond to about 16 seconds; long polls end in the last ones.
const LATENCY_FIRST: f64 = 0.0005;
const LATENCY_BUCKETS: u16 = 16;

/// Everything that is counted.
pub struct Metrics {
    /// Connections that have said something and are open.
    pub connections_open: Gauge,
    /// Connections closed at once because too many were open.
    pub connections_refused: Counter,
    requests: Family<Request, Counter>,
    latency: Family<Operation, Histogram>,
    registry: RwLock<Registry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    operation: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("koine");
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(LATENCY_FIRST, 2.0, LATENCY_BUCKETS));
        let latency = Family::new_with_constructor(histogram);
        let metrics = Self {
            connections_open: Gauge::default(),
            connections_refused: Counter::default(),
            requests: Family::default(),
            latency: latency.clone(),
            registry: RwLock::default(),
        };
        registry.register(
            "connections_open",
            "Connections that have said something and are open",
            metrics.connections_open.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections closed because too many were open",
            metrics.connections_refused.clone(),
        );
        registry.register("requests", "Requests answered", metrics.requests.clone());
        registry.register_with_unit("request_duration", "Time until the headers of the answer", Unit::Seconds, latency);
        registry.register_collector(Box::new(Process));
        *metrics.registry.write() = registry;
        Arc::new(metrics)
    }

    /// Has the store's numbers shown too.
    pub fn watch_store(&self, shard: Shard) {
        self.registry.write().register_collector(Box::new(Store(shard)));
    }

    /// The answers to `GET /metrics` and `GET /health`.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().route("/metrics", get(print)).route("/health", get(|| async { "ok\n" })).with_state(self)
    }
}

impl koine_matrix_api::Observer for Metrics {
    fn answered(&self, operation: &'static str, status: u16, elapsed: Duration) {
        self.requests.get_or_create(&Request { operation, status }).inc();
        self.latency.get_or_create(&Operation { operation }).observe(elapsed.as_secs_f64());
    }
}

async fn print(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    let mut text = String::new();
    let written = encode(&mut text, &metrics.registry.read());
    let status = if written.is_ok() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    (status, [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}

/// What the operating system counts.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: i64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
        };
        if let Some(bytes) = resident_bytes() {
            gauge("process_resident_memory", "Memory in use", Some(&Unit::Bytes), bytes)?;
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            gauge(
                "process_open_files",
                "Open files and sockets",
                None,
                i64::try_from(files.count()).unwrap_or(i64::MAX),
            )?;
        }
        Ok(())
    }
}

/// Physical memory of this process, where the system tells (Linux).
fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// What the store counts.
struct Store(Shard);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Collector for Store {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counters = self.0.counters();
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge("store_position", "Position of the newest durable log entry", self.0.position().0)?;
        gauge("store_queue_depth", "Commands that wait to be written", counters.queue_depth)?;
        gauge("store_queue_depth_peak", "Most commands that ever waited", counters.queue_depth_max)?;
        gauge("store_group_peak", "Most commands committed with one sync", counters.group_max)?;
        let mut counter = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
        };
        counter("store_commits", "Commands committed", counters.commits)?;
        counter("store_failures", "Commands that failed", counters.failed)?;
        counter("store_syncs", "Batches committed, each with one sync", counters.groups)?;
        counter("store_written_bytes", "Bytes handed to the engine", counters.bytes_written)?;
        let mut seconds = |name: &str, help: &str, time: Duration| {
            let counter = ConstCounter::new(time.as_secs_f64());
            counter.encode(encoder.encode_descriptor(name, help, Some(&Unit::Seconds), counter.metric_type())?)
        };
        seconds("store_sync_time", "Time in the engine's commits", counters.sync_time)?;
        seconds("store_build_time", "Time in commands on the writer's thread", counters.build_time)
    }
}

#[cfg(test)]
mod tests {
    use koine_matrix_api::Observer as _;

    use super::*;

    #[test]
    fn requests_are_counted_by_operation_and_status() {
        let metrics = Metrics::new();
        metrics.answered("matrix.rooms.ban", 403, Duration::from_millis(3));
        let mut text = String::new();
        encode(&mut text, &metrics.registry.read()).expect("metrics that can be printed");
        assert!(text.contains("koine_requests_total{operation=\"matrix.rooms.ban\",status=\"403\"} 1"), "{text}");
        assert!(text.contains("koine_request_duration_seconds_count{operation=\"matrix.rooms.ban\"} 1"), "{text}");
        assert!(text.contains("koine_process_resident_memory_bytes"), "{text}");
    }
}
