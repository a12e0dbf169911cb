//! The same requests to koine and to Synapse, and whether both answer alike. The requests are in `conformance/compare`,
//! with the reason for each difference that is meant.

use std::process::Command;

use super::server::Server;
use super::{Result, Summary, Yard};

/// `args` are handed on, such as `--verbose`.
pub fn run(yard: &Yard, args: &[String]) -> Result<Summary> {
    println!("answers compared with Synapse's");
    let mut summary = Summary::default();
    let python = yard.cached("synapse")?.join("bin/python");
    if !python.exists() {
        summary.not_run.push("compare: Synapse is not installed; the federation run does it".into());
        return Ok(summary);
    }
    let server = Server::start(yard, "compare")?;
    let mut compare = Command::new("python3");
    compare.arg("-B").arg(yard.conformance.join("compare/compare.py")).args(["--koine", &server.url]);
    let status = compare.arg("--synapse").arg(&python).args(args).status()?;
    match status.success() {
        true => summary.passed += 1,
        false => summary.failures.push(format!("compare: {status}; the server's log is {}", server.log().display())),
    }
    Ok(summary)
}
