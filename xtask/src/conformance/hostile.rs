//! Bad input: what a stranger or an unlucky operator can do to a server. Its cases are in `conformance/hostile`.

use std::process::Command;

use super::server::Server;
use super::{Result, Summary, Yard};

/// Exit status by which the cases say: went well, but something could not be tried here.
const WITH_SKIPS: i32 = 77;

pub fn run(yard: &Yard, names: &[String]) -> Result<Summary> {
    println!("hostile input");
    let mut server = Server::start(yard, "hostile")?;
    let mut cases = Command::new("python3");
    cases.arg(yard.conformance.join("hostile/hostile.py"));
    cases.args(["--url", &server.url, "--pid", &server.pid().to_string(), "--koine"]).arg(&yard.koine).args(names);
    let status = cases.status()?;
    let mut summary = Summary::default();
    if let Some(end) = server.ended() {
        summary.failures.push(format!("hostile: koine ended ({end}); see {}", server.log().display()));
    } else if !status.success() && status.code() != Some(WITH_SKIPS) {
        summary.failures.push(format!("hostile: {status}; the server's log is {}", server.log().display()));
    } else {
        summary.passed += 1;
    }
    if status.code() == Some(WITH_SKIPS) {
        summary.not_run.push("hostile: some cases need more rights than this machine gives (named above)".into());
    }
    Ok(summary)
}
