//! Two Koine servers and two Synapse servers share rooms. The servers, their people and the steps are in
//! `conformance/federation`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::{Result, Summary, Yard, install_once, must};

/// `names`: beginnings of the steps to walk; none means all.
pub fn run(yard: &Yard, names: &[String]) -> Result<Summary> {
    println!("federation with Synapse");
    let source = yard.conformance.join("federation");
    let venv = yard.cached("synapse")?;
    let requirements = source.join("requirements.txt");
    let installed = install_once(&venv, &requirements, || {
        must(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        must(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "--requirement"]).arg(&requirements))
    });
    let mut summary = Summary::default();
    if let Err(error) = installed {
        summary.not_run.push(format!("federation: Synapse cannot be installed here: {error}"));
        return Ok(summary);
    }
    let folder = yard.cached("conformance-logs")?.join("federation");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut walk = Command::new(venv.join("bin/python"));
    walk.arg("-B").arg(source.join("walk.py")).arg("--koine").arg(&yard.koine).arg("--folder").arg(&folder);
    walk.arg("--known").arg(source.join("known-failures.tsv")).args(names).stdout(Stdio::piped());
    let mut walk = walk.spawn()?;
    let lines = walk.stdout.take().ok_or("the walk has no output")?;
    for line in BufReader::new(lines).lines() {
        let line = line?;
        println!("{line}");
        match line.split_once(' ') {
            Some(("well" | "known", _)) => summary.passed += 1,
            Some(("WRONG", what)) => summary.failures.push(format!("federation: {}", what.trim_start())),
            _ => {}
        }
    }
    let status = walk.wait()?;
    if !status.success() && summary.failures.is_empty() {
        summary.failures.push(format!("federation: the walk ended early ({status}); logs are in {}", folder.display()));
    }
    Ok(summary)
}
