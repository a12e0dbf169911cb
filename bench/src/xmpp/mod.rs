//! XMPP: what logins, messages, rooms, archives, presence and idle sessions cost, at several servers in turns.
//!
//! All are measured over plain TCP on loopback with archives on, so that it is the servers that differ. `XMPP.md` is what
//! came of it.

pub mod peers;
mod report;
mod scan;
pub mod scenario;
pub mod stream;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use self::peers::{Contestant, Peer};
use self::scenario::{Line, Scenario, Sizes};
use crate::Failure;
use crate::compare::{Participant, process, today};
use crate::procfs::{self, Machine};
use crate::record::{self, Record};

/// Files that a server, or this tool, has open beside its idle sessions.
const OTHER_FILES: usize = 500;

/// What to compare.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Servers to bring up.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Peer::Koine, Peer::Prosody, Peer::Ejabberd])]
    peers: Vec<Peer>,
    /// The koine binary to measure. Without it this checkout is built in the release profile.
    #[arg(long)]
    koine: Option<PathBuf>,
    /// Only these scenarios.
    #[arg(long, value_enum, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// How often each scenario is measured at each server.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Folder that gets `results/` and `XMPP.md`.
    #[arg(long, default_value = env!("CARGO_MANIFEST_DIR"))]
    out: PathBuf,
    #[command(flatten)]
    sizes: Sizes,
}

/// A file of `bench/results/`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    date: String,
    machine: Machine,
    servers: Vec<Participant>,
    sizes: Sizes,
    rounds: usize,
    skipped: Vec<String>,
    lines: Vec<Line>,
}

/// Brings up, measures in turns, writes.
pub async fn run(options: Options) -> Result<(), Failure> {
    let folder = process::WorkFolder::new()?;
    let machine = Machine::here(&folder.path);
    let scenarios = if options.scenarios.is_empty() { Scenario::ALL.to_vec() } else { options.scenarios };
    let (mut lines, mut skipped) = (Vec::new(), Vec::new());
    let sizes = options.sizes;
    let (mut contestants, mut present) = (Vec::new(), Vec::new());
    for peer in options.peers {
        match peers::start(peer, options.koine.as_deref(), &folder.path).await {
            Ok(contestant) => {
                contestants.push(contestant);
                present.push(peer);
            }
            // What is measured is koine; another server that is not there is left out aloud.
            Err(error) if peer == Peer::Koine => return Err(error),
            Err(error) => {
                eprintln!("\n******** SKIPPED: {peer:?}: {error}\n");
                skipped.push(format!("{peer:?}: {error}"));
            }
        }
    }
    for round in 0..options.rounds {
        for scenario in &scenarios {
            // Memory is what a fresh server takes; those that have worked hold on to what they needed.
            if *scenario == Scenario::Idle {
                continue;
            }
            for turn in 0..contestants.len() {
                let contestant = &contestants[(round + turn) % contestants.len()];
                take(contestant, *scenario, (&sizes, round), &mut lines, &mut skipped).await;
            }
        }
    }
    let servers = contestants.iter().map(|contestant| contestant.participant.clone()).collect();
    drop(contestants);
    if scenarios.contains(&Scenario::Idle) {
        let most = procfs::open_files_max().unwrap_or(usize::MAX).saturating_sub(OTHER_FILES);
        let (possible, impossible): (Vec<usize>, Vec<usize>) = sizes.idle.iter().partition(|wanted| **wanted <= most);
        for wanted in impossible {
            let what = format!("{wanted} idle sessions: a process may have {} files open", most + OTHER_FILES);
            eprintln!("\n******** SKIPPED: {what}\n");
            skipped.push(format!("{what} (`ulimit -n`)"));
        }
        let sizes = Sizes { idle: possible, ..sizes.clone() };
        for peer in present {
            let folder = process::WorkFolder::named("idle")?;
            let contestant = peers::start(peer, options.koine.as_deref(), &folder.path).await?;
            take(&contestant, Scenario::Idle, (&sizes, 0), &mut lines, &mut skipped).await;
        }
    }
    let (date, rounds) = (today(), options.rounds);
    record::write(&options.out, &Results { date, machine, servers, sizes, rounds, skipped, lines })
}

async fn take(
    contestant: &Contestant,
    scenario: Scenario,
    (sizes, round): (&Sizes, usize),
    lines: &mut Vec<Line>,
    skipped: &mut Vec<String>,
) {
    let name = &contestant.participant.name;
    eprintln!("round {}: {} at {name}", round + 1, scenario.what());
    match scenario.run(contestant, sizes, round).await {
        Ok(some) => lines.extend(some.into_iter().inspect(|line| println!("{line:?}"))),
        Err(failure) => {
            let what = format!("{} at {name}, round {}: {failure}", scenario.what(), round + 1);
            eprintln!("\n******** SKIPPED: {what}\n");
            skipped.push(what);
        }
    }
}

impl Record for Results {
    const REPORT: &'static str = "XMPP.md";
    const KIND: &'static str = "xmpp";

    fn date(&self) -> &str {
        &self.date
    }

    fn markdown(&self, file: &str) -> String {
        report::markdown(self, file)
    }
}
