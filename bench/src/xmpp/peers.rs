//! Servers that speak XMPP, brought up on a folder that is thrown away.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::compare::process::{Running, free_port, output};
use crate::compare::{Participant, koine};

use super::stream::{Address, Stream};

/// How long a server may take until it listens.
const START_WAIT_MAX: Duration = Duration::from_secs(90);
/// koine listens for XMPP three ports further than for the web.
const XMPP_PORT: u16 = 3;

/// A server this tool can bring up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    Koine,
    Prosody,
    Ejabberd,
}

/// A server that is up.
pub struct Contestant {
    pub participant: Participant,
    pub at: Address,
    /// Of koine, where it speaks Matrix.
    pub web_port: Option<u16>,
    pub running: Running,
}

/// Brings one up.
pub async fn start(peer: Peer, binary: Option<&Path>, folder: &Path) -> Result<Contestant, Failure> {
    match peer {
        Peer::Koine => {
            let (participant, server, running) = koine::start(binary, folder).await?;
            let port = server.authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            let web = port.ok_or_else(|| Failure::Words("koine has no port".to_owned()))?;
            let at =
                Address { port: web + XMPP_PORT, domain: "localhost".to_owned(), rooms: "rooms.localhost".to_owned() };
            Ok(Contestant { participant, at, web_port: Some(web), running })
        }
        Peer::Prosody => prosody(folder).await,
        Peer::Ejabberd => ejabberd(folder).await,
    }
}

/// Prosody as Debian has it, with archives in SQLite, and without TLS, as the others are measured.
async fn prosody(folder: &Path) -> Result<Contestant, Failure> {
    // Without its driver archives fail one by one, and what is left is another, cheaper thing.
    let driver = "require 'DBI'.Connect('SQLite3', ':memory:')";
    let works = ["lua5.4", "lua5.3", "lua5.2", "lua5.1"].iter().any(|lua| {
        let asked = Command::new(lua).args(["-e", &format!("assert({driver})")]).output();
        asked.is_ok_and(|answer| answer.status.success())
    });
    if !works {
        return Err(Failure::Words(
            "Prosody's archive needs Lua's SQLite driver: apt-get install lua-dbi-sqlite3".to_owned(),
        ));
    }
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
    let at = ready(port).await?;
    let about = output(Command::new("prosodyctl").arg("about")).unwrap_or_default();
    // What it warns of comes before.
    let mut words = about.lines().filter_map(|line| line.strip_prefix("Prosody ")?.split(' ').next());
    let version = words.find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    let version = version.unwrap_or("of unknown version").to_owned();
    let settings = "archives in SQLite with its defaults, the rest in files, stream management, carbons and PEP on";
    let participant = Participant { name: "prosody".to_owned(), version, settings: settings.to_owned() };
    Ok(Contestant { participant, at, web_port: None, running })
}

/// ejabberd as Debian has it, with everything in its own database, and without TLS.
async fn ejabberd(folder: &Path) -> Result<Contestant, Failure> {
    let folder = folder.join("ejabberd");
    let written = |error| Failure::Io(folder.display().to_string(), error);
    std::fs::create_dir_all(&folder).map_err(written)?;
    let code =
        ejabberd_code().ok_or_else(|| Failure::Words("ejabberd is not there: apt-get install ejabberd".to_owned()))?;
    let port = free_port()?;
    let config = format!(
        r#"hosts: ["localhost"]
loglevel: error
auth_method: internal
auth_password_format: scram
registration_timeout: infinity
listen:
  - {{ port: {port}, ip: "127.0.0.1", module: ejabberd_c2s, access: all, max_stanza_size: 262144 }}
modules:
  mod_blocking: {{}}
  mod_caps: {{}}
  mod_carboncopy: {{}}
  mod_client_state: {{}}
  mod_disco: {{}}
  mod_mam: {{ default: always, assume_mam_usage: true }}
  mod_muc: {{ host: "rooms.localhost", access: all, access_create: all, default_room_options: {{ mam: true }} }}
  mod_offline: {{}}
  mod_ping: {{}}
  mod_privacy: {{}}
  mod_pubsub: {{ plugins: [ "flat", "pep" ] }}
  mod_register: {{ ip_access: all, access: all, access_from: all }}
  mod_roster: {{ versioning: true }}
  mod_stream_mgmt: {{}}
  mod_version: {{}}
"#
    );
    let path = folder.join("ejabberd.yml");
    std::fs::write(&path, config).map_err(written)?;
    // Not by `ejabberdctl`, which would run it as another user and as a node of a cluster.
    let mut command = Command::new("erl");
    command.args(["-noinput", "-pa"]).arg(&code).args(["-mnesia", "dir"]).arg(format!("{:?}", folder.join("mnesia")));
    command.args(["-s", "ejabberd"]).current_dir(&folder);
    command.env("EJABBERD_CONFIG_PATH", &path).env("EJABBERD_LOG_PATH", folder.join("ejabberd.log"));
    command.env("HOME", &folder).env("ERL_CRASH_DUMP", folder.join("crash"));
    let running = Running::start(command, folder.join("output.log"))?;
    let at = ready(port).await?;
    let name = code.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let version = name.trim_start_matches("ejabberd-").to_owned();
    let settings = "archives, accounts and all else in Mnesia, stream management, carbons and PEP on";
    let participant = Participant { name: "ejabberd".to_owned(), version, settings: settings.to_owned() };
    Ok(Contestant { participant, at, web_port: None, running })
}

/// Where its code is.
fn ejabberd_code() -> Option<PathBuf> {
    let libraries = std::fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let packages = libraries.filter_map(|library| std::fs::read_dir(library).ok()).flatten();
    let of_ejabberd = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("ejabberd-");
    let code = packages.filter_map(Result::ok).filter(of_ejabberd).map(|entry| entry.path().join("ebin"));
    code.filter(|code| code.join("ejabberd.app").exists()).min()
}

/// Waits until a server takes sessions.
async fn ready(port: u16) -> Result<Address, Failure> {
    let at = Address { port, domain: "localhost".to_owned(), rooms: "rooms.localhost".to_owned() };
    let began = Instant::now();
    while let Err(error) = Stream::open(&at).await {
        if began.elapsed() > START_WAIT_MAX {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(at)
}
