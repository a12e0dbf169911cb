//! Two Koine servers, Prosody and ejabberd talk to each other. The servers, their people and the steps are in
//! `conformance/xmpp-servers`.
//!
//! They run in a network of their own, with a name server of their own, so that nothing of the machine is touched: that takes root.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Result, Summary, Yard, install_once, must, output_of};

/// Programs that are needed, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 4] = [
    ("/usr/bin/prosody", "prosody"),
    ("/usr/sbin/ejabberdctl", "ejabberd"),
    ("/usr/bin/unshare", "util-linux"),
    ("/sbin/ip", "iproute2"),
];

/// `names`: beginnings of the steps to walk; none means all.
pub fn run(yard: &Yard, names: &[String]) -> Result<Summary> {
    println!("XMPP with Prosody and ejabberd");
    let mut summary = Summary::default();
    if let Err(reason) = prepare() {
        summary.not_run.push(format!("xmpp-servers: {reason}"));
        return Ok(summary);
    }
    let source = yard.conformance.join("xmpp-servers");
    let venv = yard.cached("xmpp-servers")?;
    let requirements = source.join("requirements.txt");
    let installed = install_once(&venv, &requirements, || {
        must(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        must(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "--requirement"]).arg(&requirements))
    });
    if let Err(error) = installed {
        summary.not_run.push(format!("xmpp-servers: slixmpp cannot be installed here: {error}"));
        return Ok(summary);
    }
    let folder = yard.cached("conformance-logs")?.join("xmpp-servers");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut walk = Command::new("unshare");
    walk.args(["--net", "--mount", "--"]).arg(venv.join("bin/python")).arg("-B").arg(source.join("walk.py"));
    walk.arg("--koine").arg(&yard.koine).arg("--folder").arg(&folder);
    walk.arg("--known").arg(source.join("known-failures.tsv")).args(names).stdout(Stdio::piped());
    let mut walk = walk.spawn()?;
    let lines = walk.stdout.take().ok_or("the walk has no output")?;
    for line in BufReader::new(lines).lines() {
        let line = line?;
        println!("{line}");
        match line.split_once(' ') {
            Some(("well" | "known", _)) => summary.passed += 1,
            Some(("WRONG", what)) => summary.failures.push(format!("xmpp-servers: {}", what.trim_start())),
            _ => {}
        }
    }
    let status = walk.wait()?;
    if !status.success() && summary.failures.is_empty() {
        let logs = folder.display();
        summary.failures.push(format!("xmpp-servers: the walk ended early ({status}); logs are in {logs}"));
    }
    Ok(summary)
}

/// Installs what is missing; or says why the walk cannot be taken here.
fn prepare() -> Result<()> {
    if output_of(Command::new("id").arg("-u"))?.trim() != "0" {
        return Err("a network of its own takes root".into());
    }
    let missing: Vec<_> =
        PROGRAMS.iter().filter(|(path, _)| !Path::new(path).exists()).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        let install = |args: &[&str]| {
            let mut command = Command::new("apt-get");
            command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
            // Packages of servers begin to run what they bring, unless they are told not to.
            must(command.env("RUNLEVEL", "1"))
        };
        let begun = install(&["update", "--quiet"]).and_then(|()| {
            let args = ["install", "--quiet", "--yes", "--no-install-recommends"];
            install(&[&args[..], &missing].concat())
        });
        begun.map_err(|error| format!("{missing:?} cannot be installed here: {error}"))?;
    }
    // A container may be root and still not be let.
    must(Command::new("unshare").args(["--net", "--mount", "true"])).map_err(|error| error.to_string().into())
}
