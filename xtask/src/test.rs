//! `cargo xtask test`: everything that must hold before a change lands.

use std::iter;

use crate::{
    conformance::{self, Summary},
    ledger, licences,
    steps::{Outcome, Steps, cargo_test, command},
    tidy,
    tree::cargo,
};

/// Conformance runs that are part of it.
const CONFORMANCE: [&str; 10] =
    ["hostile", "faults", "mail", "walks", "e2ee", "federation", "xmpp-servers", "smack", "compare", "complement"];

/// Those of them that depend on other people's programs and the races these have in themselves (a thread's message that matrix-js-sdk
/// has by /sync before its answer ends its retry with an exception): what fails is done again, alone where that can be, and told
/// if it passes then. Nothing that is ours alone is.
const WITH_OTHERS: [&str; 6] = ["mail", "walks", "e2ee", "federation", "xmpp-servers", "smack"];
/// How often what fails is done again.
const AGAIN_MAX: usize = 2;

/// Runs all checks; whether all passed. `--quick` leaves out what needs other ecosystems' packages.
pub fn run(args: &[String]) -> bool {
    let quick = match args {
        [] => false,
        [flag] if flag == "--quick" => true,
        _ => {
            eprintln!("usage: cargo xtask test [--quick]");
            return false;
        }
    };
    let mut steps = Steps::new();
    steps.step("formats", || command(cargo().args(["fmt", "--all", "--check"])));
    steps.step("tidy", || findings(tidy::check()));
    steps.step("ledger", || findings(ledger::check()));
    steps.step("licences", || findings(licences::check()));
    steps.step("lints", || command(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])));
    steps.step("tests", || cargo_test(cargo().args(["test", "--workspace", "--no-fail-fast"])));
    if !quick {
        // Not linted: that would cost the whole of matrix-sdk once more.
        let features = ["test", "--package", "koine-chat", "--features", conformance::CHAT_FEATURES];
        steps.step("koine-chat", || cargo_test(cargo().args(features)));
        for what in CONFORMANCE {
            steps.step(what, || conforms(what));
        }
    }
    steps.finish()
}

fn findings(found: Result<Vec<String>, String>) -> Outcome {
    let found = found.unwrap_or_else(|error| vec![error]);
    found.iter().for_each(|finding| println!("{finding}"));
    match found.len() {
        0 => Outcome::of(true),
        failed => Outcome::counted(0, failed),
    }
}

fn conforms(what: &str) -> Outcome {
    let mut summary = conforms_once(what, &[]);
    let mut again = Vec::new();
    let again_max = if WITH_OTHERS.contains(&what) { AGAIN_MAX } else { 0 };
    for _ in 0..again_max {
        if summary.is_ok() {
            break;
        }
        let Summary { passed, failures, mut alone, not_run } = summary;
        if alone.len() < failures.len() {
            alone.clear();
        }
        println!("\n=== {what}, once more {}", alone.join(" "));
        again.extend(failures.into_iter().map(|failure| format!("{what}: {failure}")));
        summary = conforms_once(what, &alone);
        // The rest is as it was.
        if !alone.is_empty() {
            summary.passed += passed;
            summary.not_run.extend(not_run);
        }
    }
    if !summary.is_ok() {
        again.clear();
    }
    let counted = Outcome::counted(summary.passed, summary.failures.len());
    Outcome { not_run: summary.not_run, again, ..counted }
}

/// Does a conformance run, or only what is named of it.
fn conforms_once(what: &str, only: &[String]) -> Summary {
    let args: Vec<String> = iter::once(what.to_owned()).chain(only.iter().cloned()).collect();
    let summary = conformance::run(&args).unwrap_or_else(|error| {
        println!("{what}: {error}");
        Summary { failures: vec![error.to_string()], ..Summary::default() }
    });
    println!("{}", summary.report());
    summary
}
