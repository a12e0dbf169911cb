//! Measuring one scenario: starts the counters, takes latencies, and gives the line that is printed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::procfs;

/// The result of one run of one scenario at one server: one JSON line.
///
/// Fields read from the server's process are absent when the process is unknown or not ours to look at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// Which scenario.
    pub scenario: String,
    /// Which server.
    pub server: String,
    /// Operations that succeeded while measuring.
    pub ops: u64,
    /// Operations that failed, were refused or were limited while measuring.
    pub errors: u64,
    /// Wall clock of the measured part.
    pub seconds: f64,
    /// Successful operations per second.
    pub throughput: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 99th percentile of the latency.
    pub p99_ms: f64,
    /// Highest latency.
    pub max_ms: f64,
    /// CPU seconds of the server's process tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_s: Option<f64>,
    /// The same per successful operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_ms_per_op: Option<f64>,
    /// Highest resident size of the server while measuring, in MB (10^6 bytes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_peak_mb: Option<f64>,
    /// KB (10^3 bytes) the server's process tree gave to the disk, per successful operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_written_kb_per_op: Option<f64>,
    /// CPU seconds of this load generator.
    pub generator_cpu_s: f64,
    /// CPU seconds that neither the server nor the generator used: other work that disturbed this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others_cpu_s: Option<f64>,
    /// Whether the peak was started anew for this run; false: it counts since the server's start.
    pub peak_was_reset: bool,
    /// What else this scenario tells: sizes, and numbers of its own.
    #[serde(flatten)]
    pub more: BTreeMap<String, f64>,
}

/// Latencies and failures of one measured part.
#[derive(Debug, Default)]
pub struct Tally {
    /// One per successful measurement.
    pub latencies: Vec<Duration>,
    /// How many operations failed.
    pub errors: u64,
    /// The first failure, in words.
    pub first_error: Option<String>,
}

impl Tally {
    /// Takes one operation's outcome.
    pub fn take<T, E: std::fmt::Display>(&mut self, since: Instant, outcome: &Result<T, E>) {
        match outcome {
            Ok(_) => self.latencies.push(since.elapsed()),
            Err(error) => self.fail(error),
        }
    }

    /// Counts a failure.
    pub fn fail(&mut self, error: &impl std::fmt::Display) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    /// Adds what another worker measured.
    pub fn merge(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// Running counters of one measured part.
#[derive(Debug)]
pub struct Meter {
    scenario: String,
    server_name: String,
    pids: Vec<u32>,
    peak_was_reset: bool,
    server: procfs::Usage,
    generator: Duration,
    machine_s: Option<f64>,
    began: Instant,
}

impl Meter {
    /// Starts counting. `pids` are the server's processes, as far as they are known.
    pub fn start(scenario: &str, server: &str, pids: &[u32]) -> Self {
        let peak_was_reset = procfs::reset_peak(pids);
        Self {
            scenario: scenario.to_owned(),
            server_name: server.to_owned(),
            pids: pids.to_vec(),
            peak_was_reset,
            machine_s: procfs::machine_busy_s(),
            generator: procfs::own_cpu(),
            server: procfs::usage(pids).unwrap_or_default(),
            began: Instant::now(),
        }
    }

    /// Stops counting. One successful operation per latency.
    pub fn finish(self, tally: Tally) -> Line {
        let ops = tally.latencies.len() as u64;
        self.finish_with_ops(tally, ops)
    }

    /// Stops counting, where an operation yields several latencies or none.
    pub fn finish_with_ops(self, mut tally: Tally, ops: u64) -> Line {
        let seconds = self.began.elapsed().as_secs_f64();
        let used = procfs::usage(&self.pids);
        let server_cpu_s = used.map(|used| used.cpu_s - self.server.cpu_s);
        let written = used.map(|used| used.written_bytes.saturating_sub(self.server.written_bytes));
        let generator_cpu_s = procfs::own_cpu().saturating_sub(self.generator).as_secs_f64();
        let busy_s = procfs::machine_busy_s().zip(self.machine_s).map(|(now, before)| now - before);
        if let Some(error) = &tally.first_error {
            eprintln!("{} at {}: {} failed, the first so: {error}", self.scenario, self.server_name, tally.errors);
        }
        tally.latencies.sort_unstable();
        let per_op = |value: f64| if ops == 0 { 0.0 } else { value / ops as f64 };
        Line {
            ops,
            errors: tally.errors,
            seconds: rounded(seconds),
            throughput: rounded(ops as f64 / seconds),
            p50_ms: quantile_ms(&tally.latencies, 0.50),
            p99_ms: quantile_ms(&tally.latencies, 0.99),
            max_ms: quantile_ms(&tally.latencies, 1.0),
            server_cpu_s: server_cpu_s.map(rounded),
            server_cpu_ms_per_op: server_cpu_s.map(|cpu| rounded(per_op(cpu * 1e3))),
            server_peak_mb: procfs::peak_mb(&self.pids).map(rounded),
            server_written_kb_per_op: written.map(|bytes| rounded(per_op(bytes as f64 / 1e3))),
            generator_cpu_s: rounded(generator_cpu_s),
            others_cpu_s: busy_s
                .zip(server_cpu_s)
                .map(|(busy, server)| rounded((busy - server - generator_cpu_s).max(0.0))),
            peak_was_reset: self.peak_was_reset,
            scenario: self.scenario,
            server: self.server_name,
            more: BTreeMap::new(),
        }
    }
}

impl Line {
    /// Adds a number of the scenario's own.
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.more.insert(name.to_owned(), rounded(value));
        self
    }
}

/// The value below which `share` of the sorted latencies lie (nearest rank); 0 without any.
pub fn quantile_ms(sorted: &[Duration], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    let value = sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default();
    rounded(value.as_secs_f64() * 1e3)
}

/// Four significant decimals are more than any of this is worth.
pub fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_rank() {
        let sorted: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        let at = |share| quantile_ms(&sorted, share);
        assert_eq!((at(0.5), at(0.99), at(1.0)), (50.0, 99.0, 100.0));
        assert_eq!(quantile_ms(&[], 0.5), 0.0);
    }

    #[test]
    fn a_line_survives_being_printed_and_read() {
        let mut tally = Tally::default();
        tally.latencies.push(Duration::from_millis(3));
        let line = Meter::start("send", "x", &[std::process::id()]).finish(tally).with("rooms", 20.0);
        let text = serde_json::to_string(&line).expect("a line");
        let read: Line = serde_json::from_str(&text).expect("the same line");
        assert_eq!((read.ops, read.p50_ms, read.more.get("rooms")), (1, 3.0, Some(&20.0)));
    }
}
