//! Walks: one program per client library goes through the steps of an ordinary day and stops at the first wrong thing.
//!
//! Each gets the address of a fresh koine as its argument and its data folder as `KOINE_DATA`, prints one line per step, and exits with 0 when all went well.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use super::server::Server;
use super::{Result, Summary, Yard, build, debian, install_once, must};
use crate::tree;

/// Installs what a walk needs and gives the command that takes it.
type Prepare = fn(&Yard) -> Result<Command>;

const WALKS: [(&str, Prepare); 11] = [
    ("nio", nio),
    ("js", js),
    ("encryption", encryption),
    ("rust", rust),
    ("app", app),
    ("mautrix", mautrix),
    ("slixmpp", slixmpp),
    ("xmppjs", xmppjs),
    ("profanity", profanity),
    ("converse", converse),
    ("chat", chat),
];

/// Programs that are no packages of the walk's language: the program, and the Debian package that brings it.
const PROGRAMS: [(&str, &[(&str, &str)]); 2] =
    [("profanity", &[("profanity", "profanity"), ("tmux", "tmux")]), ("converse", &[("chromium", "chromium")])];

/// So many lines of a walk that failed stand in the summary too.
const LAST_LINES: usize = 6;

/// How koine-chat is built for tests: whole, and with sessions that may be renewed within seconds.
pub const CHAT_FEATURES: &str = "fast-rotation";

pub fn run(yard: &Yard, names: &[String]) -> Result<Summary> {
    if let Some(unknown) = names.iter().find(|n| WALKS.iter().all(|(w, _)| w != n)) {
        return Err(format!("no walk is called {unknown}").into());
    }
    let mut summary = Summary::default();
    for (name, prepare) in WALKS {
        if !names.is_empty() && !names.iter().any(|n| n == name) {
            continue;
        }
        println!("walk {name}");
        let programs = PROGRAMS.iter().filter(|(walk, _)| *walk == name).flat_map(|(_, programs)| *programs);
        if let Err(why) = debian::ensure(&programs.copied().collect::<Vec<_>>()) {
            summary.not_run.push(format!("walk {name}: {why}"));
            continue;
        }
        let mut walk = prepare(yard)?;
        let mut arguments = Vec::new();
        if name == "mautrix" {
            let registration = registration(yard)?;
            arguments.extend(["--appservice".to_owned(), registration.display().to_string()]);
            walk.env("KOINE_APPSERVICE", registration);
        }
        let mut server = Server::start_with(yard, &format!("walk-{name}"), &arguments)?;
        let (status, last) = take(walk.arg(&server.url).env("KOINE_DATA", server.data()?))?;
        if let Some(end) = server.ended() {
            summary
                .failures
                .push(format!("walk {name}: koine ended during it ({end}); see {}", server.log().display()));
        } else if status.success() {
            summary.passed += 1;
        } else {
            let log = server.log().display();
            summary.alone.push(name.to_string());
            summary.failures.push(format!("walk {name}: {status}; the server's log is {log}; its last lines\n{last}"));
        }
    }
    Ok(summary)
}

/// Takes a walk to its end, printing what it prints; how it ended, and its last lines.
fn take(walk: &mut Command) -> Result<(ExitStatus, String)> {
    let mut walk = walk.stdout(Stdio::piped()).spawn()?;
    let mut last = VecDeque::new();
    for line in BufReader::new(walk.stdout.take().expect("it was asked for")).lines() {
        let line = line?;
        println!("{line}");
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(format!("    {line}"));
    }
    Ok((walk.wait()?, Vec::from(last).join("\n")))
}

/// matrix-nio.
fn nio(yard: &Yard) -> Result<Command> {
    python(yard, "nio")
}

/// mautrix, as the framework of a bridge.
fn mautrix(yard: &Yard) -> Result<Command> {
    python(yard, "mautrix")
}

/// What makes the bridge known to the server: JSON, which is YAML too.
fn registration(yard: &Yard) -> Result<PathBuf> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let secret = || rand_hex(16);
    let own = |sigil: char| format!(r#"[{{ "exclusive": true, "regex": "{sigil}walk_.*" }}]"#);
    let text = format!(
        r#"{{ "id": "walk", "url": "http://127.0.0.1:{port}", "as_token": "{}", "hs_token": "{}",
    "sender_localpart": "walkbot", "rate_limited": false, "receive_ephemeral": true,
    "de.sorunome.msc2409.push_ephemeral": true, "org.matrix.msc3202": true, "io.element.msc4190": true,
    "namespaces": {{ "users": {}, "aliases": {}, "rooms": [] }} }}
"#,
        secret()?,
        secret()?,
        own('@'),
        own('#'),
    );
    let path = yard.cached("walk-mautrix")?.join("registration.json");
    fs::write(&path, text)?;
    Ok(path)
}

fn rand_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// slixmpp, with somebody who uses Matrix.
fn slixmpp(yard: &Yard) -> Result<Command> {
    python(yard, "slixmpp")
}

/// Profanity in a terminal, with somebody who uses Matrix.
fn profanity(yard: &Yard) -> Result<Command> {
    python(yard, "profanity")
}

/// Our own client, as scripts use it and as people see it.
fn chat(yard: &Yard) -> Result<Command> {
    let mut walk = python(yard, "chat")?;
    walk.env("KOINE_CHAT", koine_chat()?);
    Ok(walk)
}

/// Our own client: `KOINE_CHAT`, or else built first (dev profile), with its tests, so that its dependencies have the features
/// that they have when those are run: they cost ten minutes of the processor in each flavour.
pub fn koine_chat() -> Result<PathBuf> {
    match std::env::var_os("KOINE_CHAT") {
        Some(program) => Ok(Path::new(&program).canonicalize().map_err(|error| format!("KOINE_CHAT: {error}"))?),
        None => build("koine-chat", "koine-chat", &["--tests", "--features", CHAT_FEATURES]),
    }
}

/// In a virtual environment.
fn python(yard: &Yard, name: &str) -> Result<Command> {
    let mut walk = Command::new(python_of(yard, name)?);
    walk.arg(yard.conformance.join("walks").join(name).join("walk.py"));
    Ok(walk)
}

/// The interpreter of a walk's virtual environment, which is made if need be.
pub fn python_of(yard: &Yard, name: &str) -> Result<PathBuf> {
    let venv = yard.cached(&format!("walk-{name}"))?;
    let requirements = yard.conformance.join("walks").join(name).join("requirements.txt");
    install_once(&venv, &requirements, || {
        must(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        must(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "--requirement"]).arg(&requirements))
    })?;
    Ok(venv.join("bin/python"))
}

/// matrix-js-sdk.
fn js(yard: &Yard) -> Result<Command> {
    node(yard, "js", &["walk.mjs"])
}

/// matrix-js-sdk with its Rust crypto.
fn encryption(yard: &Yard) -> Result<Command> {
    node(yard, "js", &["encryption.mjs"])
}

/// @xmpp/client, over TLS and WebSocket.
fn xmppjs(yard: &Yard) -> Result<Command> {
    node(yard, "xmppjs", &["walk.mjs"])
}

/// Converse.js in Chromium, over a WebSocket, with somebody who uses Matrix.
fn converse(yard: &Yard) -> Result<Command> {
    node(yard, "converse", &["walk.mjs", "page.mjs", "matrix.mjs"])
}

/// Node looks for packages beside the program, so the programs are copied to where they are; the first is the walk.
fn node(yard: &Yard, name: &str, programs: &[&str]) -> Result<Command> {
    let home = packages_of(yard, name)?;
    for program in programs {
        fs::copy(yard.conformance.join("walks").join(name).join(program), home.join(program))?;
    }
    let mut walk = Command::new("node");
    walk.args(programs.first().map(|program| home.join(program)));
    Ok(walk)
}

/// The folder where the packages of a walk are, which are installed if need be.
pub fn packages_of(yard: &Yard, name: &str) -> Result<PathBuf> {
    let source = yard.conformance.join("walks").join(name);
    let home = yard.cached(&format!("walk-{name}"))?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(source.join(file), home.join(file))?;
    }
    install_once(&home, &source.join("package-lock.json"), || {
        must(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&home))
    })?;
    Ok(home)
}

/// matrix-sdk by itself.
fn rust(yard: &Yard) -> Result<Command> {
    rust_walk(yard, "koine-walk")
}

/// matrix-sdk-ui, as Element X has it.
fn app(yard: &Yard) -> Result<Command> {
    rust_walk(yard, "koine-walk-app")
}

/// A workspace of its own: matrix-sdk pins other versions of ruma than the server does.
fn rust_walk(yard: &Yard, program: &str) -> Result<Command> {
    let target = yard.cached("walk-rust")?;
    let manifest = yard.conformance.join("walks/rust/Cargo.toml");
    must(
        tree::cargo()
            .args(["build", "--quiet", "--locked", "--manifest-path"])
            .arg(manifest)
            .arg("--target-dir")
            .arg(&target),
    )?;
    Ok(Command::new(target.join("debug").join(program)))
}
