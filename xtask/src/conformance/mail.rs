//! Mail with real peers: Postfix, swaks, smtplib, and a DNS of the test. The steps are in `conformance/mail`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::{Result, Summary, Yard};

/// `names`: beginnings of the steps to walk; none means all.
pub fn run(yard: &Yard, names: &[String]) -> Result<Summary> {
    println!("mail");
    let folder = yard.cached("conformance-logs")?.join("mail");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut walk = Command::new("python3");
    walk.arg("-B").arg(yard.conformance.join("mail/walk.py")).arg("--koine").arg(&yard.koine);
    walk.arg("--folder").arg(&folder).args(names).stdout(Stdio::piped());
    let mut walk = walk.spawn()?;
    let lines = walk.stdout.take().ok_or("the walk has no output")?;
    let mut summary = Summary::default();
    for line in BufReader::new(lines).lines() {
        let line = line?;
        println!("{line}");
        match line.split_once(' ') {
            Some(("well", _)) => summary.passed += 1,
            Some(("notrun", what)) => summary.not_run.push(format!("mail: {what}")),
            Some(("WRONG", what)) => summary.failures.push(format!("mail: {what}")),
            _ => {}
        }
    }
    let status = walk.wait()?;
    if !status.success() && summary.failures.is_empty() {
        summary.failures.push(format!("mail: the walk ended early ({status}); logs are in {}", folder.display()));
    }
    Ok(summary)
}
