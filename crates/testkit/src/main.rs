//! `simulate`: worlds of many seeds, one after another, or one of them in detail.

use std::process::{Command, ExitCode};

use clap::Parser;
use koine_testkit::{plan::Plan, simulate};
use ruma_common::RoomVersionId;

/// Seeds that one process simulates: what a world leaves behind in memory goes with it.
const SEEDS_PER_PROCESS: u64 = 20;

/// Lets servers share a room on a pretend network, and looks whether they agree in the end.
#[derive(Parser)]
struct Options {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many.
    #[arg(long, default_value_t = 30)]
    seeds: u64,
    /// A room version for all, instead of one that each seed draws.
    #[arg(long)]
    version: Option<RoomVersionId>,
    /// Prints what happened.
    #[arg(long)]
    trace: bool,
    /// One line for each seed.
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if std::env::var_os("KOINE_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_env("KOINE_LOG");
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let fine = if options.seeds > SEEDS_PER_PROCESS { in_processes(&options) } else { here(&options) };
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn here(options: &Options) -> bool {
    let mut failed = 0;
    for seed in options.from..options.from + options.seeds {
        let outcome = simulate(Plan::new(seed, options.version.clone()));
        if options.trace {
            outcome.trace.iter().for_each(|line| println!("{line}"));
        }
        if options.verbose || !outcome.failures.is_empty() {
            println!("seed {seed}: {} [{}]", outcome.what, outcome.fingerprint());
        }
        outcome.failures.iter().for_each(|failure| println!("    {failure}"));
        failed += u64::from(!outcome.failures.is_empty());
    }
    println!("{} passed, {failed} failed", options.seeds - failed);
    failed == 0
}

fn in_processes(options: &Options) -> bool {
    let Ok(program) = std::env::current_exe() else { return false };
    let mut fine = true;
    let end = options.from + options.seeds;
    let mut from = options.from;
    while from < end {
        let seeds = SEEDS_PER_PROCESS.min(end - from);
        let mut command = Command::new(&program);
        command.args(["--from", &from.to_string(), "--seeds", &seeds.to_string()]);
        if let Some(version) = &options.version {
            command.args(["--version", version.as_str()]);
        }
        command.args(options.trace.then_some("--trace")).args(options.verbose.then_some("--verbose"));
        fine &= command.status().is_ok_and(|status| status.success());
        from += seeds;
    }
    fine
}
