//! What a message costs, and what comes before the first one: CPU, disk, system calls, allocations, bytes, round trips.
//!
//! Each is done some hundred times by one client after the other on a server that does nothing else. CPU, disk and bytes are
//! counted in a first pass; system calls and allocations in a second, with `perf`, which slows down what it counts.
//! `COST.md` is what came of it.

mod counters;
mod deeds;
mod report;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::compare::process::WorkFolder;
use crate::compare::{Participant, today};
use crate::procfs::Machine;
use crate::record::{self, Record};
use crate::xmpp::peers::{self, Peer};

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The koine binary to measure. Without it this checkout is built in the release profile.
    #[arg(long)]
    koine: Option<PathBuf>,
    /// How often each is done.
    #[arg(long, default_value_t = 500)]
    operations: usize,
    /// Folder that gets `results/` and `COST.md`.
    #[arg(long, default_value = env!("CARGO_MANIFEST_DIR"))]
    out: PathBuf,
}

/// A file of `bench/results/`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    date: String,
    machine: Machine,
    server: Participant,
    operations: usize,
    skipped: Vec<String>,
    lines: Vec<Line>,
}

/// What one of something costs.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    what: String,
    /// Microseconds of the server's CPU.
    cpu_us: f64,
    /// Bytes given to the disk, everything included that the engine writes.
    written_bytes: f64,
    syscalls: Option<f64>,
    allocations: Option<f64>,
    /// Bytes that all clients said and heard, without those of TCP and IP.
    sent_bytes: f64,
    received_bytes: f64,
    /// The same dialogue in both directions, if each direction were one compressed stream, as a share.
    deflated: f64,
    /// How often a client waited for an answer.
    turns: f64,
}

/// Measures and writes.
pub async fn run(options: Options) -> Result<(), Failure> {
    let folder = WorkFolder::new()?;
    let machine = Machine::here(&folder.path);
    let contestant = peers::start(Peer::Koine, options.koine.as_deref(), &folder.path).await?;
    let mut counters = counters::Counters::attach(contestant.running.pid());
    let mut lines = Vec::new();
    deeds::all(&contestant, options.operations, &mut counters, &mut lines).await?;
    let results = Results {
        date: today(),
        machine,
        server: contestant.participant.clone(),
        operations: options.operations,
        skipped: counters.skipped(),
        lines,
    };
    record::write(&options.out, &results)
}

impl Record for Results {
    const REPORT: &'static str = "COST.md";
    const KIND: &'static str = "cost";

    fn date(&self) -> &str {
        &self.date
    }

    fn markdown(&self, file: &str) -> String {
        report::markdown(self, file)
    }
}
