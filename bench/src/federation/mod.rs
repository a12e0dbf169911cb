//! What federation costs: joining rooms of many members, receiving messages in them, coming back after an outage, and
//! messages from server to server.
//!
//! The rooms are made here, event by event, and shown by a pretended server (`house.rs`), so that a room of fifty thousand
//! members takes seconds. What joins them, and what talks to each other, are whole servers over TLS, each started anew
//! for each size. Of servers only the public APIs are used.

mod catch_up;
mod certificates;
mod house;
mod join;
mod past;
mod relay;
mod report;
mod room;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::compare::process::{Running, WorkFolder};
use crate::compare::{Participant, Peer, koine, synapse, today};
use crate::matrix::Server;
use crate::meter::Line;
use crate::procfs::Machine;
use certificates::Authority;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Servers to bring up.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Peer::Koine, Peer::Synapse])]
    peers: Vec<Peer>,
    /// The koine binary to measure. Without it this checkout is built in the release profile.
    #[arg(long)]
    koine: Option<PathBuf>,
    /// Members of the rooms that are joined.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 10_000, 50_000, 100_000])]
    members: Vec<usize>,
    /// Largest of these rooms that servers other than koine join.
    #[arg(long, default_value_t = 10_000)]
    others_members_max: usize,
    /// How many servers the members are of.
    #[arg(long, default_value_t = 50)]
    servers: usize,
    /// How often each room is joined, by somebody else in another room of that size.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Messages received in each room.
    #[arg(long, default_value_t = 1_000)]
    messages: usize,
    /// Messages that a server has missed when it comes back; 0 leaves that out.
    #[arg(long, default_value_t = 10_000)]
    missed: usize,
    /// Length of what is measured from server to server, in seconds; 0 leaves it out.
    #[arg(long, default_value_t = 5)]
    relay_seconds: u64,
    /// Folder that gets `results/` and `FEDERATION.md`.
    #[arg(long, default_value = env!("CARGO_MANIFEST_DIR"))]
    out: PathBuf,
}

/// A file of `bench/results/`.
#[derive(Debug, Serialize, Deserialize)]
struct Results {
    date: String,
    machine: Machine,
    servers: Vec<Participant>,
    skipped: Vec<String>,
    lines: Vec<Line>,
}

/// A whole server that other servers reach.
struct Federating {
    participant: Participant,
    /// Its client-server API.
    server: Server,
    /// Its name: an address of loopback with its port.
    name: String,
    running: Running,
}

/// Measures and writes.
pub async fn run(options: Options) -> Result<(), Failure> {
    let folder = WorkFolder::new()?;
    let machine = Machine::here(&folder.path);
    let authority = Authority::new(&folder.path)?;
    let house = house::House::open(&authority, options.servers.clamp(1, 200)).await?;
    let mut results = Results { date: today(), machine, servers: Vec::new(), skipped: Vec::new(), lines: Vec::new() };
    for members in &options.members {
        for peer in &options.peers {
            if *peer != Peer::Koine && *members > options.others_members_max {
                results.skipped.push(format!("{peer:?}: {members} members, more than it is asked to join"));
                continue;
            }
            let started = bring_up(*peer, &options, &folder.path, &authority, &format!("join-{members}")).await;
            let Some(up) = results.up(*peer, started)? else { continue };
            for round in 0..options.rounds {
                let room = format!("room{members}x{round}{peer:?}").to_lowercase();
                let measured = join::join_and_receive(&house, &up, (&room, *members), options.messages).await;
                results.take(measured, &format!("{} with {members} members", up.server.name));
            }
        }
    }
    if options.missed > 0 {
        for peer in &options.peers {
            let started = bring_up(*peer, &options, &folder.path, &authority, "catch-up").await;
            let Some(up) = results.up(*peer, started)? else { continue };
            for round in 0..options.rounds {
                let room = format!("missed{}x{round}{peer:?}", options.missed).to_lowercase();
                let measured = catch_up::catch_up(&house, &up, &room, options.missed).await;
                let what = format!("{}, which has missed {} messages", up.server.name, options.missed);
                results.take(measured.map(|line| vec![line]), &what);
            }
        }
    }
    if options.relay_seconds > 0 {
        for peer in &options.peers {
            let one = bring_up(*peer, &options, &folder.path, &authority, "relay-one").await;
            let Some(one) = results.up(*peer, one)? else { continue };
            let other = bring_up(*peer, &options, &folder.path, &authority, "relay-other").await;
            let Some(other) = results.up(*peer, other)? else { continue };
            for _ in 0..options.rounds {
                for pace in [relay::Pace::Calm, relay::Pace::Full] {
                    let measured = relay::relay(&one, &other, options.relay_seconds, pace).await;
                    results.take(measured.map(|line| vec![line]), &format!("relay between two {}", one.server.name));
                }
            }
        }
    }
    report::write(&options.out, &results)
}

/// Writes FEDERATION.md anew from a file of results, into the folder above the file's.
pub fn report_again(file: &Path) -> Result<(), Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::Io(file.display().to_string(), error))?;
    let out = file.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    report::write(out, &serde_json::from_str(&text)?)
}

async fn bring_up(
    peer: Peer,
    options: &Options,
    folder: &Path,
    authority: &Authority,
    purpose: &str,
) -> Result<Federating, Failure> {
    let home = folder.join(format!("{purpose}-{peer:?}").to_lowercase());
    std::fs::create_dir_all(&home).map_err(|error| Failure::Io(home.display().to_string(), error))?;
    let (chain, key) = authority.vouch(vec!["127.0.0.1".to_owned()])?.write(&home, "server")?;
    let tls = Tls { chain, key, authority: authority.file.clone() };
    let (participant, server, name, running) = match peer.database() {
        None => koine::start_federating(options.koine.as_deref(), &home, &tls).await?,
        Some(database) => synapse::start_federating(&home, &tls, database).await?,
    };
    Ok(Federating { participant, server, name, running })
}

/// What a server shows to others, and whom it believes.
#[derive(Debug)]
pub struct Tls {
    /// Its certificate.
    pub chain: PathBuf,
    /// The key.
    pub key: PathBuf,
    /// Whose certificates it believes.
    pub authority: PathBuf,
}

impl Results {
    /// A server that was to be brought up, if it is. What is measured is koine; another that is not there is left out aloud.
    fn up(&mut self, peer: Peer, started: Result<Federating, Failure>) -> Result<Option<Federating>, Failure> {
        match started {
            Ok(up) => {
                if !self.servers.iter().any(|known| known.name == up.participant.name) {
                    self.servers.push(up.participant.clone());
                }
                Ok(Some(up))
            }
            Err(failure) if peer == Peer::Koine => Err(failure),
            Err(failure) => {
                eprintln!("\n******** SKIPPED: {peer:?}: {failure}\n");
                self.skipped.push(format!("{peer:?}: {failure}"));
                Ok(None)
            }
        }
    }

    fn take(&mut self, measured: Result<Vec<Line>, Failure>, what: &str) {
        match measured {
            Ok(lines) => {
                for line in &lines {
                    eprintln!("{}", serde_json::to_string(line).unwrap_or_default());
                }
                self.lines.extend(lines);
            }
            Err(failure) => {
                eprintln!("NOT MEASURED: {what}: {failure}");
                self.skipped.push(format!("{what}: {failure}"));
            }
        }
    }
}
