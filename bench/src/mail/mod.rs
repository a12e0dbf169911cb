//! Mail: what taking it in costs beside Postfix and Dovecot, how soon it is seen, and a queue in which many wait.
//!
//! `MAIL.md` is what came of it. CPU is what compares the servers: how long things take depends on who else works here.

mod peers;
mod report;
mod scenario;
mod wire;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use self::peers::{Contestant, Peer};
use self::scenario::{Line, Sizes};
use crate::Failure;
use crate::compare::process::WorkFolder;
use crate::compare::{Participant, today};
use crate::matrix::Client;
use crate::procfs::Machine;
use crate::record::{self, Record};

/// What to compare.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Servers to bring up. Postfix takes root, and Debian's `postfix` and `dovecot-lmtpd`.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Peer::Koine, Peer::Postfix])]
    peers: Vec<Peer>,
    /// The koine binary to measure, built in the release profile.
    #[arg(long)]
    koine: PathBuf,
    /// How often what is taken in is measured at each server.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Folder that gets `results/` and `MAIL.md`.
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
    let folder = work_folder()?;
    let (machine, sizes) = (Machine::here(&folder.path), options.sizes);
    let (mut lines, mut skipped) = (Vec::new(), Vec::new());
    let mut contestants: Vec<(Contestant, Vec<Client>)> = Vec::new();
    for peer in options.peers {
        let started = async {
            let contestant = peers::start(peer, Some(&options.koine), &folder.path).await?;
            let clients = scenario::prepare(&contestant, &sizes).await?;
            Ok((contestant, clients))
        };
        match started.await {
            Ok(ready) => contestants.push(ready),
            // What is measured is koine; another server that is not there is left out aloud.
            Err(error) if peer == Peer::Koine => return Err(error),
            Err(error) => {
                eprintln!("\n******** SKIPPED: {peer:?}: {error}\n");
                skipped.push(format!("{peer:?}: {error}"));
            }
        }
    }
    for round in 0..options.rounds {
        for turn in 0..contestants.len() {
            let at = (round + turn) % contestants.len();
            if let Some((contestant, clients)) = contestants.get_mut(at) {
                in_turn(contestant, clients, (&sizes, round), &mut lines).await?;
            }
        }
    }
    let servers = contestants.iter().map(|(contestant, _)| contestant.participant.clone()).collect();
    drop(contestants);
    let queued = scenario::queue(Some(&options.koine), &folder.path.join("queue"), sizes.queue).await?;
    lines.extend(queued.into_iter().inspect(|line| println!("{line:?}")));
    let (date, rounds) = (today(), options.rounds);
    record::write(&options.out, &Results { date, machine, servers, sizes, rounds, skipped, lines })
}

async fn in_turn(
    contestant: &Contestant,
    clients: &mut [Client],
    (sizes, round): (&Sizes, usize),
    lines: &mut Vec<Line>,
) -> Result<(), Failure> {
    let (name, before) = (&contestant.participant.name, lines.len());
    eprintln!("round {}: {name}", round + 1);
    for (what, size) in
        [(report::SMALL, (sizes.small, sizes.small_bytes)), (report::LARGE, (sizes.large, sizes.large_bytes))]
    {
        let tag = format!("r{round}-{}", size.1);
        lines.push(scenario::taken_in(contestant, what, size, sizes.connections, &tag).await?);
    }
    if let Some(client) = clients.first_mut() {
        let what = (report::SEEN, report::SEEN_WHOLE);
        lines.extend(scenario::seen(contestant, what, client, sizes.seen, &format!("r{round}")).await?);
    }
    lines.iter().skip(before).for_each(|line| println!("{line:?}"));
    Ok(())
}

/// A folder that users of Postfix and Dovecot may enter, which one in the home directory is not.
fn work_folder() -> Result<WorkFolder, Failure> {
    let path = std::env::temp_dir().join(format!("koine-bench-mail-{}", std::process::id()));
    std::fs::create_dir_all(&path).map_err(|error| Failure::Io(path.display().to_string(), error))?;
    Ok(WorkFolder { path })
}

impl Record for Results {
    const REPORT: &'static str = "MAIL.md";
    const KIND: &'static str = "mail";

    fn date(&self) -> &str {
        &self.date
    }

    fn markdown(&self, file: &str) -> String {
        report::markdown(self, file)
    }
}
