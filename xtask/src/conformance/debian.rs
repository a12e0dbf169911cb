//! Programs that a run needs and a machine may lack: installed from Debian's packages where that can be done.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::output_of;

/// What packages would ask before they are installed: whoever needs Postfix here brings all of its configuration.
const ANSWERS: [(&str, &str); 1] = [("postfix", "postfix postfix/main_mailer_type select No configuration")];

/// Makes sure that programs can be started; `programs` are pairs of a program and the package that brings it.
///
/// # Errors
/// Says what is missing where it cannot be installed: no root, no Debian, or no such package. Nothing failed then; the run
/// just cannot be tried here.
pub fn ensure(programs: &[(&str, &str)]) -> Result<(), String> {
    let missing: Vec<_> = programs.iter().filter(|(program, _)| !is_there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.iter().map(|(program, _)| *program).collect::<Vec<_>>().join(", ");
    let root = output_of(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !root || !is_there("apt-get") {
        return Err(format!("{names}: not installed, and only root of a Debian system could install it"));
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args).stdout(Stdio::null());
        // Packages of servers begin to run what they bring, unless they are told not to.
        command.env("RUNLEVEL", "1");
        command.status().is_ok_and(|status| status.success())
    };
    let mut install = vec!["install", "--quiet", "--yes", "--no-install-recommends"];
    install.extend(missing.iter().map(|(_, package)| *package));
    for (_, answer) in ANSWERS.iter().filter(|(package, _)| install.contains(package)) {
        settle(answer);
    }
    if (apt(&["update", "--quiet"]) && apt(&install)) && missing.iter().all(|(program, _)| is_there(program)) {
        return Ok(());
    }
    Err(format!("{names}: not installed, and apt-get does not install it here"))
}

/// Answers a question before it is asked. Where that does not work, the package's own default is taken.
fn settle(answer: &str) {
    let asked = Command::new("debconf-set-selections").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    if let Ok(mut asked) = asked {
        if let Some(mut stdin) = asked.stdin.take() {
            let _ = writeln!(stdin, "{answer}");
        }
        let _ = asked.wait();
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
