//! Survival: kills, bad disks, bad networks, too much of everything. Its cases are in `conformance/faults`.

use std::process::Command;

use super::{Result, Summary, Yard, walks};

/// Exit status by which the cases say: went well, but something could not be tried here.
const WITH_SKIPS: i32 = 77;

/// `args`: names of cases, and `--kills N`, `--minutes N`, `--events N`; none means all, in short.
pub fn run(yard: &Yard, args: &[String]) -> Result<Summary> {
    println!("faults");
    // The people of that walk are these cases' people, too.
    let python = walks::python_of(yard, "slixmpp")?;
    let mut cases = Command::new(python);
    cases.arg("-B").arg(yard.conformance.join("faults/faults.py")).arg("--koine").arg(&yard.koine).args(args);
    let status = cases.status()?;
    let mut summary = Summary::default();
    match status.code() {
        Some(0) => summary.passed += 1,
        Some(WITH_SKIPS) => {
            summary.passed += 1;
            summary.not_run.push("faults: some cases need more than this machine gives (named above)".into());
        }
        _ => summary.failures.push(format!("faults: {status}; what was wrong stands above")),
    }
    Ok(summary)
}
