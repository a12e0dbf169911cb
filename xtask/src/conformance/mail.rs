//! Mail with real peers: Postfix, swaks, smtplib, clients of Matrix and XMPP, and a DNS of the test. The steps are in
//! `conformance/mail`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::{Result, Summary, Yard, debian, install_once, must};

/// Programs that some steps need, and the Debian packages that bring them: without one, its steps are not taken.
const PROGRAMS: [(&str, &str); 3] = [("postfix", "postfix"), ("dovecot", "dovecot-lmtpd"), ("swaks", "swaks")];
/// What nothing goes without.
const NEEDED: [(&str, &str); 1] = [("openssl", "openssl")];

/// `names`: beginnings of the steps to walk; none means all.
pub fn run(yard: &Yard, names: &[String]) -> Result<Summary> {
    println!("mail");
    let mut summary = Summary::default();
    if let Err(reason) = debian::ensure(&NEEDED) {
        summary.not_run.push(format!("mail: {reason}"));
        return Ok(summary);
    }
    if let Err(reason) = debian::ensure(&PROGRAMS) {
        // The steps that miss one say so.
        println!("{reason}");
    }
    let venv = yard.cached("mail")?;
    let requirements = yard.conformance.join("mail/requirements.txt");
    let installed = install_once(&venv, &requirements, || {
        must(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        must(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "--requirement"]).arg(&requirements))
    });
    if let Err(error) = installed {
        summary.not_run.push(format!("mail: slixmpp and dkimpy cannot be installed here: {error}"));
        return Ok(summary);
    }
    let folder = yard.cached("conformance-logs")?.join("mail");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut walk = Command::new(venv.join("bin/python"));
    walk.arg("-B").arg(yard.conformance.join("mail/walk.py")).arg("--koine").arg(&yard.koine);
    walk.arg("--folder").arg(&folder).args(names).stdout(Stdio::piped());
    let mut walk = walk.spawn()?;
    let lines = walk.stdout.take().ok_or("the walk has no output")?;
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
