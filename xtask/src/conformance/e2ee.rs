//! The life of encrypted rooms, shown on two federating servers with real clients. Its scenes are in `conformance/e2ee`.

use std::fs;
use std::process::Command;

use super::{Result, Summary, Yard, walks};

const DEVICES: &str = "devices.mjs";

pub fn run(yard: &Yard, args: &[String]) -> Result<Summary> {
    if let Some(unknown) = args.first() {
        return Err(format!("the demonstration takes no {unknown}: each scene goes on from the one before").into());
    }
    println!("end-to-end encryption");
    let python = walks::python_of(yard, "slixmpp")?;
    // Packages are found beside the program that wants them.
    let home = walks::packages_of(yard, "js")?;
    let source = yard.conformance.join("e2ee");
    fs::copy(source.join(DEVICES), home.join(DEVICES))?;
    let mut demo = Command::new(python);
    demo.arg("-B").arg(source.join("demo.py")).arg("--koine").arg(&yard.koine).arg("--devices").arg(home.join(DEVICES));
    let mut summary = Summary::default();
    demo.arg("--nio").arg(walks::python_of(yard, "nio")?);
    match walks::koine_chat() {
        Ok(program) => {
            demo.arg("--chat").arg(program);
        }
        // The demonstration says so, too.
        Err(why) => summary.not_run.push(format!("e2ee: scenes with koine-chat: {why}")),
    }
    let status = demo.status()?;
    if status.success() {
        summary.passed += 1;
    } else {
        summary.failures.push(format!("e2ee: {status}; the scene that failed stands above"));
    }
    Ok(summary)
}
