//! This checkout's server: built in the release profile, run as `koine local` on a folder that is thrown away.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Failure;
use crate::compare::Participant;
use crate::compare::process::{Running, free_port, output};
use crate::federation::Tls;
use crate::matrix::Server;

const SETTINGS: &str = "koine local --no-demo (no rate limits): one process, embedded engine, every write durable before it is acknowledged, default memory budget";

/// How often three free ports in a row are looked for.
const PORT_TRIES_MAX: usize = 50;

/// Starts one that other servers reach, in `folder`; its name comes third.
pub async fn start_federating(
    binary: Option<&Path>,
    folder: &Path,
    tls: &Tls,
) -> Result<(Participant, Server, String, Running), Failure> {
    let (binary, origin) = match binary {
        Some(binary) => (binary.to_owned(), "a binary built before".to_owned()),
        None => (build()?, commit()),
    };
    let port = free_ports()?;
    let name = format!("127.0.0.1:{}", port + 1);
    let mut command = Command::new(&binary);
    command.arg("local").arg("--no-demo").arg("--port-base").arg(port.to_string()).arg("--server-name").arg(&name);
    command.arg("--tls-cert").arg(&tls.chain).arg("--tls-key").arg(&tls.key).arg("--federation-ca").arg(&tls.authority);
    command.arg("--data-dir").arg(folder.join("koine")).current_dir(folder);
    let mut running = Running::start(command, folder.join("koine.log"))?;
    let authority = format!("127.0.0.1:{port}");
    running.until_ready(&authority).await?;
    let participant =
        Participant { name: "koine".to_owned(), version: version(&binary, &origin), settings: SETTINGS.to_owned() };
    Ok((participant, Server { name: "koine".to_owned(), authority, shared_secret: None }, name, running))
}

/// Builds it unless `binary` is given, and starts it.
pub async fn start(binary: Option<&Path>, folder: &Path) -> Result<(Participant, Server, Running), Failure> {
    start_with(binary, folder, &[]).await
}

/// The same with more arguments of `koine local`.
pub async fn start_with(
    binary: Option<&Path>,
    folder: &Path,
    arguments: &[String],
) -> Result<(Participant, Server, Running), Failure> {
    let (binary, origin) = match binary {
        Some(binary) => (binary.to_owned(), "a binary built before".to_owned()),
        None => (build()?, commit()),
    };
    let port = free_ports()?;
    let mut command = Command::new(&binary);
    command.arg("local").arg("--no-demo").arg("--port-base").arg(port.to_string());
    command.arg("--data-dir").arg(folder.join("koine")).args(arguments).current_dir(folder);
    let mut running = Running::start(command, folder.join("koine.log"))?;
    let authority = format!("127.0.0.1:{port}");
    let ready = running.until_ready(&authority).await?;
    eprintln!("koine was ready after {} ms", ready.as_millis());
    let participant =
        Participant { name: "koine".to_owned(), version: version(&binary, &origin), settings: SETTINGS.to_owned() };
    Ok((participant, Server { name: "koine".to_owned(), authority, shared_secret: None }, running))
}

/// Builds this checkout's server and tells where it lies.
fn build() -> Result<PathBuf, Failure> {
    eprintln!("building koine-server in the release profile");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "-p", "koine-server", "--message-format", "json"]).current_dir(root);
    let said = output(&mut command)?;
    said.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "koine")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| Failure::Words("cargo built no binary called koine".to_owned()))
}

/// The version it calls itself, and where it comes from.
fn version(binary: &Path, origin: &str) -> String {
    let own = output(Command::new(binary).arg("--version")).unwrap_or_default();
    format!("{} ({origin})", own.trim_start_matches("koine").trim())
}

/// The commit of this checkout.
fn commit() -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    output(Command::new("git").args(["-C", root, "describe", "--always", "--dirty"])).unwrap_or_default()
}

/// A `--port-base` N with N, N + 1 (TLS), N + 2 (metrics) and eight more (XMPP, mail) free. The client API listens on N.
fn free_ports() -> Result<u16, Failure> {
    for _ in 0..PORT_TRIES_MAX {
        // Below what the system hands out, of which connections that just ended hold thousands.
        let base = 10_000 + free_port()? % 20_000;
        let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (base..base + 11).all(free) {
            return Ok(base);
        }
    }
    Err(Failure::Words("no eleven free ports in a row".to_owned()))
}
