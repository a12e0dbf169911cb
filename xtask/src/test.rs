//! `cargo xtask test`: everything that must hold before a change lands.

use crate::{
    conformance, ledger, licences,
    steps::{Outcome, Steps, cargo_test, command},
    tidy,
    tree::cargo,
};

/// Conformance runs that are part of it.
const CONFORMANCE: [&str; 10] =
    ["hostile", "faults", "mail", "walks", "e2ee", "federation", "xmpp-servers", "smack", "compare", "complement"];

/// Those of them that depend on other people's programs and the races these have in themselves (a thread's message that matrix-js-sdk
/// has by /sync before its answer ends its retry with an exception): what fails is done once more, and told if it passes then.
/// Nothing that is ours alone is.
const WITH_OTHERS: [&str; 6] = ["mail", "walks", "e2ee", "federation", "xmpp-servers", "smack"];

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
    let (first, failures) = conforms_once(what);
    if first.failed == 0 || !WITH_OTHERS.contains(&what) {
        return first;
    }
    println!("\n=== {what}, once more");
    let (mut second, _) = conforms_once(what);
    if second.failed == 0 {
        second.again.extend(failures.into_iter().map(|failure| format!("{what}: {failure}")));
    }
    second
}

/// How it went, and what failed.
fn conforms_once(what: &str) -> (Outcome, Vec<String>) {
    match conformance::run(&[what.to_owned()]) {
        Ok(summary) => {
            println!("{}", summary.report());
            let counted = Outcome::counted(summary.passed, summary.failures.len());
            (Outcome { not_run: summary.not_run, ..counted }, summary.failures)
        }
        Err(error) => {
            println!("{what}: {error}");
            (Outcome::of(false), vec![error.to_string()])
        }
    }
}
