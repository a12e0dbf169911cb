//! `cargo xtask`: everyday tasks of the project, in plain Rust, so that they run wherever the project builds.

mod conformance;
mod fuzz;
mod ledger;
mod licences;
mod packages;
mod steps;
mod test;
mod tidy;
mod tree;

use std::{env, process::ExitCode};

const USAGE: &str = "\
cargo xtask TASK

  test         all checks: formats, lints, tidiness, ledger, licences, tests, real clients, conformance suites
               (`test --quick` leaves out real clients and conformance suites)
  tidy         what the compiler does not check: rows of crates, module comments, links, sizes, table tags
  ledger       compares the tags in the code with spec/matrix-operations.tsv (`ledger --missing` lists what is not done, `ledger
               --compliance` what the compliance suites of XMPP ask for)
  licences     whether every dependency may be used under Apache-2.0
  conformance  suites, clients and servers written by others, and bad luck of all kinds; see conformance/
  faults       what it survives: `faults --kills 300 crash`; the same as `conformance faults`
  demo         `demo e2ee` shows the life of encrypted rooms across two servers; the same as `conformance e2ee`
  simulate     servers on a pretend network, and whether they agree: `simulate --seeds 1000`; `simulate -- --help` says more
  fuzz         what strangers can send, made up by libFuzzer: `fuzz` takes each target for a minute, `fuzz --seconds 3600 xml` one for an hour
  bench        load and latency of a release build; `cargo xtask bench -- --help` says more";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let (task, rest) = args.split_first().map_or(("help", args.as_slice()), |(task, rest)| (task.as_str(), rest));
    let fine = match task {
        "test" => test::run(rest),
        "tidy" => findings("tidy", tidy::check()),
        "ledger" if rest == ["--missing"] => findings("ledger", ledger::print_missing().map(|()| Vec::new())),
        "ledger" if rest == ["--compliance"] => findings("ledger", ledger::print_compliance().map(|()| Vec::new())),
        "ledger" => findings("ledger", ledger::check()),
        "licences" => findings("licences", licences::check()),
        "conformance" => conformance_alone(rest),
        "faults" => conformance_alone(&args),
        "demo" => conformance_alone(rest),
        "simulate" => release("koine-testkit", &["--bin", "simulate"], rest),
        "fuzz" => findings("fuzz", fuzz::run(rest)),
        "bench" => release("koine-bench", &[], rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            true
        }
        other => {
            eprintln!("there is no task {other}\n\n{USAGE}");
            false
        }
    };
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints what a check found; whether that was nothing.
fn findings(check: &str, found: Result<Vec<String>, String>) -> bool {
    match found {
        Ok(found) => {
            found.iter().for_each(|finding| println!("{finding}"));
            println!(
                "{check}: {}",
                if found.is_empty() { "fine".to_owned() } else { format!("{} findings", found.len()) }
            );
            found.is_empty()
        }
        Err(error) => {
            eprintln!("{check}: {error}");
            false
        }
    }
}

fn conformance_alone(args: &[String]) -> bool {
    match conformance::run(args) {
        Ok(summary) => {
            println!("{}", summary.report());
            summary.is_ok()
        }
        Err(error) => {
            eprintln!("{error}");
            false
        }
    }
}

/// Runs a program of the workspace in its release build.
fn release(package: &str, which: &[&str], args: &[String]) -> bool {
    let mut command = tree::cargo();
    let args = args.strip_prefix(&["--".to_owned()]).unwrap_or(args);
    command.args(["run", "--release", "--package", package]).args(which).arg("--").args(args);
    command.status().is_ok_and(|status| status.success())
}
