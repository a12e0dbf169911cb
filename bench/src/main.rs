//! koine-bench: a load generator that speaks the public Matrix client-server API, so that it drives any homeserver.
//!
//! `run` drives a server that is already there and prints one JSON line per scenario; `compare` brings up this checkout
//! and its peers, measures them in turns and writes `bench/results/` and `bench/RESULTS.md`. What the scenarios do and
//! how to read the numbers: `bench/README.md`.

mod compare;
mod cost;
mod federation;
mod growth;
mod http;
mod mail;
mod matrix;
mod meter;
mod plot;
mod procfs;
mod record;
mod scenario;
mod wire;
mod world;
mod xmpp;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::matrix::Server;
use crate::scenario::Scenario;
use crate::world::{Sizes, World};

/// Drives homeservers through the public client-server API and measures them.
#[derive(Debug, Parser)]
#[command(version)]
struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Measures a server that is running.
    Run(RunOptions),
    /// Brings up this checkout and its peers, measures them in turns, and writes the results.
    Compare(compare::Options),
    /// Measures what federation costs: joining and receiving in big rooms, messages from server to server.
    Federation(federation::Options),
    /// Brings up servers that speak XMPP, measures them in turns, and writes XMPP.md.
    Xmpp(xmpp::Options),
    /// Takes mail in beside Postfix, measures, and writes MAIL.md.
    Mail(mail::Options),
    /// Measures how the cost of each operation grows with members, history, rooms and accounts, and writes GROWTH.md.
    Growth(growth::Options),
    /// Counts what a message and a login cost: CPU, disk, system calls, allocations, bytes, and writes COST.md.
    Cost(cost::Options),
    /// Writes RESULTS.md anew from a file of results, or FEDERATION.md, XMPP.md, MAIL.md,
    /// GROWTH.md or COST.md from one of those.
    Report {
        /// A file of `bench/results/`.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct RunOptions {
    /// Client-server API over plain HTTP.
    #[arg(long, default_value = "http://127.0.0.1:8008")]
    url: String,
    /// Name of the server in the output.
    #[arg(long, default_value = "server")]
    name: String,
    /// Process of the server; found by its port where it runs on this machine.
    #[arg(long)]
    pid: Option<u32>,
    /// Synapse's `registration_shared_secret`, where open registration is off.
    #[arg(long)]
    shared_secret: Option<String>,
    /// Only these scenarios.
    #[arg(long, value_enum, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// How often each is measured.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    #[command(flatten)]
    sizes: Sizes,
}

/// Anything that ends the tool with a message.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A call to a server failed where nothing could go on without it.
    #[error(transparent)]
    Call(#[from] matrix::CallError),
    /// A file or process could not be handled.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// Results cannot be read or written.
    #[error("the results cannot be read or written: {0}")]
    Results(#[from] serde_json::Error),
    /// Something said in words.
    #[error("{0}")]
    Words(String),
}

fn main() -> ExitCode {
    let command = Command::parse_from(with_default_action(std::env::args().collect()));
    // One thread: the generator must not compete with the server for more than one core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(interruptible(command)),
        Err(error) => Err(Failure::Io("no runtime".to_owned(), error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("koine-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// `compare` is what is meant when no action is named, as in `cargo xtask bench` and `cargo xtask bench -- --rounds 1`.
fn with_default_action(mut arguments: Vec<String>) -> Vec<String> {
    if arguments.get(1).is_some_and(|first| first == "--") {
        arguments.remove(1);
    }
    let named = |first: &String| !first.starts_with("--") || matches!(first.as_str(), "--help" | "--version");
    if !arguments.get(1).is_some_and(named) {
        arguments.insert(1.min(arguments.len()), "compare".to_owned());
    }
    arguments
}

/// Carries the command out. When interrupted its future is dropped, and with it every server it started ends.
async fn interruptible(command: Command) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| Failure::Io("signals".to_owned(), error))?;
    tokio::select! {
        outcome = act(command) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::Words("interrupted".to_owned())),
        _ = terminated.recv() => Err(Failure::Words("terminated".to_owned())),
    }
}

async fn act(command: Command) -> Result<(), Failure> {
    match command.action {
        Action::Run(options) => run(options).await,
        Action::Compare(options) => compare::run(options).await,
        Action::Federation(options) => federation::run(options).await,
        Action::Report { file } if file.to_string_lossy().ends_with("-federation.json") => {
            federation::report_again(&file)
        }
        Action::Xmpp(options) => xmpp::run(options).await,
        Action::Report { file } if file.to_string_lossy().ends_with("-xmpp.json") => {
            record::report_again::<xmpp::Results>(&file)
        }
        Action::Mail(options) => mail::run(options).await,
        Action::Report { file } if file.to_string_lossy().ends_with("-mail.json") => {
            record::report_again::<mail::Results>(&file)
        }
        Action::Cost(options) => cost::run(options).await,
        Action::Report { file } if file.to_string_lossy().ends_with("-cost.json") => {
            record::report_again::<cost::Results>(&file)
        }
        Action::Growth(options) => growth::run(options).await,
        Action::Report { file } if file.to_string_lossy().ends_with("-growth.json") => {
            record::report_again::<growth::Results>(&file)
        }
        Action::Report { file } => compare::report_again(&file),
    }
}

async fn run(options: RunOptions) -> Result<(), Failure> {
    let authority = authority(&options.url)?;
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let pid = options.pid.or_else(|| port.and_then(procfs::listener));
    if pid.is_none() {
        eprintln!("koine-bench: the server's process is unknown; CPU and memory are left out (--pid)");
    }
    let server = Server { name: options.name, authority, shared_secret: options.shared_secret };
    let mut world = World::new(server, pid.into_iter().collect(), options.sizes);
    let scenarios = if options.scenarios.is_empty() { Scenario::USUAL.to_vec() } else { options.scenarios };
    let steps = scenarios.into_iter().flat_map(|scenario| scenario.steps(&world.sizes)).collect::<Vec<_>>();
    for step in steps {
        for _ in 0..options.rounds {
            let line = step.run(&mut world).await?;
            println!("{}", serde_json::to_string(&line)?);
        }
    }
    Ok(())
}

/// `host:port` of a plain HTTP address.
fn authority(url: &str) -> Result<String, Failure> {
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| Failure::Words(format!("{url}: only plain http:// addresses can be driven")))?;
    let host = rest.split('/').next().unwrap_or(rest);
    Ok(if host.rsplit_once(':').is_some() { host.to_owned() } else { format!("{host}:80") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparing_is_what_happens_unless_something_else_is_asked_for() {
        let started = |arguments: &[&str]| {
            let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            with_default_action(arguments).join(" ")
        };
        assert_eq!(started(&["bench"]), "bench compare");
        assert_eq!(started(&["bench", "--", "--rounds", "1"]), "bench compare --rounds 1");
        assert_eq!(started(&["bench", "run", "--name", "x"]), "bench run --name x");
        assert_eq!(started(&["bench", "--help"]), "bench --help");
    }
}
