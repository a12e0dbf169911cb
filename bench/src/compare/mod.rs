//! Several servers measured in turns: brings them up, interleaves the rounds, writes the results, ends what it started.
//!
//! Every scenario of a round visits every server before the next begins, in an order that turns with the round, so that a
//! minute in which the machine was busy with something else does not fall upon one server alone.

pub(crate) mod koine;
pub(crate) mod postgres;
pub(crate) mod process;
mod report;
pub(crate) mod synapse;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::matrix::Server;
use crate::meter::Line;
use crate::procfs::{self, Machine};
use crate::scenario::{Scenario, Step};
use crate::world::{Sizes, World};
use process::Running;

/// What to compare.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Servers to bring up.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Peer::Koine, Peer::Synapse, Peer::SynapsePostgres])]
    peers: Vec<Peer>,
    /// A server that runs already, as NAME=http://127.0.0.1:PORT. May be repeated.
    #[arg(long, value_name = "NAME=URL")]
    also: Vec<String>,
    /// The koine binary to measure. Without it this checkout is built in the release profile.
    #[arg(long)]
    koine: Option<PathBuf>,
    /// Only these scenarios.
    #[arg(long, value_enum, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// The scenarios of clients (sliding sync, keys, search, push) instead of the usual ones; writes CLIENTS.md.
    #[arg(long, conflicts_with = "scenarios")]
    clients: bool,
    /// Rooms of the largest account at servers other than koine: it takes a tenth of a second of Synapse to prepare one.
    #[arg(long, default_value_t = 1_000)]
    others_rooms_max: usize,
    /// How often each scenario is measured at each server.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Folder that gets `results/` and `RESULTS.md`.
    #[arg(long, default_value = env!("CARGO_MANIFEST_DIR"))]
    out: PathBuf,
    #[command(flatten)]
    sizes: Sizes,
}

/// A server this tool can bring up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    Koine,
    /// With SQLite.
    Synapse,
    /// With PostgreSQL.
    SynapsePostgres,
}

impl Peer {
    /// The database, where it is Synapse.
    pub(crate) fn database(self) -> Option<synapse::Database> {
        match self {
            Self::Koine => None,
            Self::Synapse => Some(synapse::Database::Sqlite),
            Self::SynapsePostgres => Some(synapse::Database::Postgres),
        }
    }
}

/// A file of `bench/results/`.
#[derive(Debug, Serialize, Deserialize)]
struct Results {
    /// Day of the run, UTC.
    date: String,
    /// Where it ran.
    machine: Machine,
    /// Who took part.
    servers: Vec<Participant>,
    /// Sizes of the scenarios.
    sizes: Sizes,
    /// Rounds asked for.
    rounds: usize,
    /// What should have been measured and was not, with the reason.
    skipped: Vec<String>,
    /// Every line of every round.
    lines: Vec<Line>,
}

/// A server as the report names it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Participant {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) settings: String,
}

/// A server that is up.
struct Contestant {
    participant: Participant,
    world: World,
    /// Ends the server when dropped; `None` for one that was there before.
    _running: Option<Running>,
}

/// Brings up, measures, writes.
pub async fn run(options: Options) -> Result<(), Failure> {
    let folder = process::WorkFolder::new()?;
    let machine = Machine::here(&folder.path);
    let mut skipped = Vec::new();
    let mut contestants = bring_up(&options, &folder.path, &mut skipped).await?;
    let scenarios = match (options.clients, options.scenarios.is_empty()) {
        (true, _) => Scenario::CLIENTS.to_vec(),
        (false, true) => Scenario::USUAL.to_vec(),
        (false, false) => options.scenarios.clone(),
    };
    let steps: Vec<Step> = scenarios.into_iter().flat_map(|scenario| scenario.steps(&options.sizes)).collect();
    let limits = (options.rounds, options.others_rooms_max);
    let lines = measure(&mut contestants, &steps, limits, &mut skipped).await?;
    let results = Results {
        date: today(),
        machine,
        servers: contestants.iter().map(|contestant| contestant.participant.clone()).collect(),
        sizes: options.sizes,
        rounds: options.rounds,
        skipped,
        lines,
    };
    drop(contestants);
    write(&options.out, &results, options.clients)
}

/// Writes RESULTS.md anew from a file of results, into the folder above the file's.
pub fn report_again(file: &Path) -> Result<(), Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::Io(file.display().to_string(), error))?;
    let results: Results = serde_json::from_str(&text)?;
    let out = file.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    write_report(out, &results, &name)
}

async fn bring_up(options: &Options, folder: &Path, skipped: &mut Vec<String>) -> Result<Vec<Contestant>, Failure> {
    let mut contestants = Vec::new();
    for peer in &options.peers {
        let started = match peer.database() {
            None => koine::start(options.koine.as_deref(), folder).await,
            Some(database) => synapse::start(folder, database).await,
        };
        match started {
            Ok((participant, server, running)) => contestants.push(Contestant {
                participant,
                world: World::new(server, running.pids(), options.sizes.clone()),
                _running: Some(running),
            }),
            Err(failure) if *peer == Peer::Koine => return Err(failure),
            Err(failure) => skip(skipped, format!("{peer:?} as a whole: {failure}")),
        }
    }
    for also in &options.also {
        let (name, url) = also.split_once('=').ok_or_else(|| Failure::Words(format!("{also}: not NAME=URL")))?;
        let authority = crate::authority(url)?;
        let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let server = Server { name: name.to_owned(), authority, shared_secret: None };
        contestants.push(Contestant {
            participant: Participant {
                name: name.to_owned(),
                version: "unknown".to_owned(),
                settings: format!("was already running at {url}"),
            },
            world: World::new(server, port.and_then(procfs::listener).into_iter().collect(), options.sizes.clone()),
            _running: None,
        });
    }
    if contestants.is_empty() {
        return Err(Failure::Words("no server to measure".to_owned()));
    }
    Ok(contestants)
}

async fn measure(
    contestants: &mut [Contestant],
    steps: &[Step],
    (rounds, others_rooms_max): (usize, usize),
    skipped: &mut Vec<String>,
) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    let mut given_up: BTreeMap<(String, String), ()> = BTreeMap::new();
    let count = contestants.len();
    for round in 0..rounds {
        for step in steps {
            let scenario = step.name();
            // Memory after the start is what it shows; in later rounds the servers have worked.
            if step.scenario == Scenario::Idle && round > 0 {
                continue;
            }
            for turn in 0..count {
                let contestant = &mut contestants[(round + turn) % count];
                let name = contestant.participant.name.clone();
                if given_up.contains_key(&(scenario.clone(), name.clone())) {
                    continue;
                }
                if name != "koine" && step.account_rooms().is_some_and(|rooms| rooms > others_rooms_max) {
                    let what = format!("{scenario} at {name}: it prepares {others_rooms_max} rooms and no more");
                    skip(skipped, format!("{what} (--others-rooms-max)"));
                    given_up.insert((scenario.clone(), name), ());
                    continue;
                }
                eprintln!("round {} of {rounds}: {scenario} at {name}", round + 1);
                match step.run(&mut contestant.world).await {
                    Ok(line) => {
                        println!("{}", serde_json::to_string(&line)?);
                        lines.push(line);
                    }
                    Err(error) => {
                        skip(skipped, format!("{scenario} at {name}, from round {}: {error}", round + 1));
                        given_up.insert((scenario.clone(), name), ());
                    }
                }
            }
        }
    }
    Ok(lines)
}

/// Notes what is not measured, and says it loudly.
fn skip(skipped: &mut Vec<String>, what: String) {
    eprintln!("\n******** SKIPPED: {what}\n");
    skipped.push(what);
}

fn write(out: &Path, results: &Results, clients: bool) -> Result<(), Failure> {
    let name = name_of(results, if clients { CLIENTS } else { "" });
    let folder = out.join("results");
    let file = folder.join(&name);
    let text = serde_json::to_string_pretty(results)? + "\n";
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&file, text))
        .map_err(|error| Failure::Io(file.display().to_string(), error))?;
    write_report(out, results, &name)
}

fn write_report(out: &Path, results: &Results, name: &str) -> Result<(), Failure> {
    let text = report::markdown(results, name);
    let file = out.join(if name.ends_with(&format!("{CLIENTS}.json")) { "CLIENTS.md" } else { "RESULTS.md" });
    std::fs::write(&file, &text).map_err(|error| Failure::Io(file.display().to_string(), error))?;
    println!("{text}");
    if !results.skipped.is_empty() {
        eprintln!("\n******** SKIPPED, so not in the tables:\n{}\n", results.skipped.join("\n"));
    }
    Ok(())
}

/// How files of results of the scenarios of clients end.
const CLIENTS: &str = "-clients";

/// `2026-11-22-intel-xeon-processor.json`.
fn name_of(results: &Results, kind: &str) -> String {
    let words: Vec<String> = results
        .machine
        .cpu
        .replace("(R)", " ")
        .replace("(TM)", " ")
        .split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    format!("{}-{}{kind}.json", results.date, words.join("-"))
}

/// Today's date, UTC.
pub(crate) fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    date_of_day(seconds / 86_400)
}

/// The Gregorian date `days` after 1970-01-01, counting years of 365 or 366 days and then months.
fn date_of_day(mut days: u64) -> String {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(date_of_day(0), "1970-01-01");
        assert_eq!(date_of_day(11_016), "2000-02-29");
        assert_eq!(date_of_day(20_779), "2026-11-22");
    }
}
