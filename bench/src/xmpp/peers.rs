//! Servers that speak XMPP, brought up on a folder that is thrown away.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::compare::process::{Running, free_port, output};
use crate::compare::{Participant, koine};

use super::stream::{Address, Stream};

/// How long a server may take until it listens.
const START_WAIT_MAX: Duration = Duration::from_secs(30);
/// koine listens for XMPP three ports further than for the web.
const XMPP_PORT: u16 = 3;

/// A server this tool can bring up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    Koine,
    Prosody,
}

/// A server that is up.
pub struct Contestant {
    pub participant: Participant,
    pub at: Address,
    pub running: Running,
}

/// Brings one up.
pub async fn start(peer: Peer, binary: Option<&Path>, folder: &Path) -> Result<Contestant, Failure> {
    match peer {
        Peer::Koine => {
            let (participant, server, running) = koine::start(binary, folder).await?;
            let port = server.authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            let port = port.ok_or_else(|| Failure::Words("koine has no port".to_owned()))? + XMPP_PORT;
            let at = Address { port, domain: "localhost".to_owned(), rooms: "rooms.localhost".to_owned() };
            Ok(Contestant { participant, at, running })
        }
        Peer::Prosody => prosody(folder).await,
    }
}

/// Prosody as Debian has it, with archives in SQLite, and without TLS, as the others are measured.
async fn prosody(folder: &Path) -> Result<Contestant, Failure> {
    let folder = folder.join("prosody");
    let written = |error| Failure::Io(folder.display().to_string(), error);
    std::fs::create_dir_all(&folder).map_err(written)?;
    let port = free_port()?;
    let here = folder.display();
    let config = format!(
        r#"pidfile = "{here}/prosody.pid"
data_path = "{here}"
run_as_root = true
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_require_encryption = false
allow_registration = true
authentication = "internal_hashed"
storage = {{ archive = "sql"; muc_log = "sql" }}
default_storage = "internal"
sql = {{ driver = "SQLite3", database = "{here}/prosody.sqlite" }}
archive_expires_after = "never"
modules_enabled = {{ "roster", "saslauth", "disco", "private", "vcard4", "vcard_legacy", "pep", "blocklist", "carbons",
  "smacks", "csi_simple", "version", "uptime", "time", "ping", "register", "mam", "offline", "posix" }}
modules_disabled = {{ "s2s", "tls" }}
log = {{ warn = "{here}/prosody.log" }}
VirtualHost "localhost"
Component "rooms.localhost" "muc"
  modules_enabled = {{ "muc_mam" }}
  muc_log_by_default = true
"#
    );
    std::fs::write(folder.join("prosody.cfg.lua"), config).map_err(written)?;
    let mut command = Command::new("prosody");
    command.arg("--config").arg(folder.join("prosody.cfg.lua")).arg("-F").current_dir(&folder);
    let running = Running::start(command, folder.join("output.log"))?;
    let at = Address { port, domain: "localhost".to_owned(), rooms: "rooms.localhost".to_owned() };
    let began = Instant::now();
    while let Err(error) = Stream::open(&at).await {
        if began.elapsed() > START_WAIT_MAX {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let about = output(Command::new("prosodyctl").arg("about")).unwrap_or_default();
    let version = about.lines().next().unwrap_or_default().trim_start_matches("Prosody").trim().to_owned();
    let settings = "archives in SQLite with its defaults, the rest in files, stream management, carbons and PEP on";
    let participant = Participant { name: "prosody".to_owned(), version, settings: settings.to_owned() };
    Ok(Contestant { participant, at, running })
}
