//! The steps of a long check: each runs whatever became of the others, and a table at the end says how it went.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How one step went.
pub struct Outcome {
    /// Checks that passed in it; 1 for a step that is one check.
    pub passed: usize,
    /// Checks that did not.
    pub failed: usize,
    /// What could not be tried, with the reason.
    pub not_run: Vec<String>,
    /// What passed only when it was done once more, with what went wrong at first.
    pub again: Vec<String>,
}

impl Outcome {
    /// A step that is one check.
    pub fn of(fine: bool) -> Self {
        Self::counted(usize::from(fine), usize::from(!fine))
    }

    /// A step of several checks.
    pub fn counted(passed: usize, failed: usize) -> Self {
        Self { passed, failed, not_run: Vec::new(), again: Vec::new() }
    }
}

/// All steps so far.
pub struct Steps {
    started: Instant,
    done: Vec<(&'static str, Duration, Outcome)>,
}

impl Steps {
    /// None yet.
    pub fn new() -> Self {
        Self { started: Instant::now(), done: Vec::new() }
    }

    /// Runs a step.
    pub fn step(&mut self, name: &'static str, run: impl FnOnce() -> Outcome) {
        println!("\n=== {name}");
        let started = Instant::now();
        let outcome = run();
        self.done.push((name, started.elapsed(), outcome));
    }

    /// Prints the table and the closing line; whether nothing failed.
    pub fn finish(self) -> bool {
        println!("\n{:<14} {:>8} {:>8} {:>8}", "step", "passed", "failed", "seconds");
        for (name, time, outcome) in &self.done {
            println!("{name:<14} {:>8} {:>8} {:>8}", outcome.passed, outcome.failed, time.as_secs());
        }
        println!("{:<14} {:>8} {:>8} {:>8}", "together", "", "", self.started.elapsed().as_secs());
        for line in self.done.iter().flat_map(|(_, _, outcome)| &outcome.not_run) {
            println!("NOT RUN  {line}");
        }
        for line in self.done.iter().flat_map(|(_, _, outcome)| &outcome.again) {
            println!("AGAIN    {line}");
        }
        let sum = |part: fn(&Outcome) -> usize| self.done.iter().map(|(_, _, outcome)| part(outcome)).sum::<usize>();
        let (passed, failed) = (sum(|outcome| outcome.passed), sum(|outcome| outcome.failed));
        println!("\n{passed} passed, {failed} failed");
        failed == 0
    }
}

/// A command that is one check.
pub fn command(command: &mut Command) -> Outcome {
    Outcome::of(command.status().is_ok_and(|status| status.success()))
}

/// A run of `cargo test`: shown as it goes, and its tests counted.
pub fn cargo_test(command: &mut Command) -> Outcome {
    let Ok(mut child) = command.stdout(Stdio::piped()).spawn() else { return Outcome::of(false) };
    let mut outcome = Outcome::counted(0, 0);
    let stdout = child.stdout.take().expect("it was asked for");
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        // Thousands of lines of success hide the one that matters.
        if !line.ends_with("... ok") {
            println!("{line}");
        }
        if let Some((passed, failed)) = test_result(&line) {
            outcome.passed += passed;
            outcome.failed += failed;
        }
    }
    let fine = child.wait().is_ok_and(|status| status.success());
    if !fine && outcome.failed == 0 {
        outcome.failed = 1;
    }
    outcome
}

/// Counts from `test result: ok. 12 passed; 0 failed; ...`.
fn test_result(line: &str) -> Option<(usize, usize)> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |word: &str| counts.split("; ").find_map(|part| part.strip_suffix(word)?.trim().parse().ok());
    Some((count(" passed")?, count(" failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_the_closing_line_of_cargo_test() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(test_result(line), Some((12, 3)));
        assert_eq!(test_result("test foo ... ok"), None);
    }
}
