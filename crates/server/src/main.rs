//! `koine`: one server for federated messaging. This is the program: its commands, and what each of them starts.
//!
//! [`program`] wires stores, cores and protocols together; [`config`] is what it can be told; [`listener`] is how
//! strangers reach it; [`admin`] is how its operator does.

mod admin;
mod appservices;
mod config;
mod demo;
mod federation;
mod housekeeping;
mod listener;
mod local;
mod logging;
mod mail;
mod metrics;
mod process;
mod program;
mod quickstart;
mod shared_secret;
mod shutdown;
mod signing_key;
mod xmpp;

use std::{
    error::Error,
    future::Future,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::{Args, FromArgMatches as _, Parser, Subcommand};
use ruma_common::OwnedServerName;

use crate::{
    config::{Config, LogConfig, LogFormat},
    program::Program,
};

/// Hashing a password takes 20 MiB for a moment. The C library's allocator keeps such blocks, one for each thread that had
/// one; this one gives them back (132 MB after eight logins against 30).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What may go wrong is told to the person at the terminal.
type Outcome = Result<(), Box<dyn Error>>;

/// One server for federated messaging
#[derive(Debug, Parser)]
#[command(name = "koine", version, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Local(local::Local),
    Serve(Serve),
    /// Prints or checks the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    Quickstart(quickstart::Quickstart),
    Restore(admin::Restore),
}

/// Runs the server of a configuration file
#[derive(Debug, Args)]
struct Serve {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "koine.toml")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Prints a configuration with every setting, explained
    Example {
        /// The server's name in it
        #[arg(long, value_name = "NAME", default_value = "example.org")]
        server_name: OwnedServerName,
    },
    /// Says what is wrong with a configuration, if anything
    Check {
        /// The configuration
        #[arg(long, value_name = "FILE", default_value = "koine.toml")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let started = Instant::now();
    let help = admin::augment(<Cli as clap::CommandFactory>::command());
    let matches = help.get_matches();
    let outcome = match matches.subcommand() {
        Some((name, inner)) => match admin::dispatch(name, inner) {
            Some(answer) => answer.map(|text| println!("{}", text.trim_end())).map_err(Into::into),
            None => Cli::from_arg_matches(&matches).map_err(Into::into).and_then(|cli| run(cli.command, started)),
        },
        None => Ok(()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("koine: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, started: Instant) -> Outcome {
    match command {
        Command::Local(local) => {
            logging::start(&LogConfig { format: LogFormat::Text, filter: local::Local::LOG_FILTER.into() })?;
            with_runtime(async { Ok(local.run(started).await?) })
        }
        Command::Serve(serve) => {
            let config = load(&serve.config)?;
            logging::start(&config.log)?;
            with_runtime(async { Ok(Program::open(config)?.run().await?) })
        }
        Command::Config(ConfigCommand::Example { server_name }) => {
            print!("{}", config::example(server_name));
            Ok(())
        }
        Command::Config(ConfigCommand::Check { config }) => {
            let loaded = load(&config)?;
            println!("{} is fine: a server for {}", config.display(), loaded.server_name);
            Ok(())
        }
        Command::Quickstart(quickstart) => {
            print!("{}", quickstart.run()?);
            Ok(())
        }
        Command::Restore(restore) => {
            println!("{}", restore.run()?);
            Ok(())
        }
    }
}

fn load(path: &Path) -> Result<Config, Box<dyn Error>> {
    Config::load(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn with_runtime(work: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
