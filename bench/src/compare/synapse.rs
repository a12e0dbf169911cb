//! Synapse from PyPI: installed once into a virtual environment, run as one process on SQLite or on PostgreSQL.
//!
//! Set up to be measured, not to be kept from work: rate limits out of the way, open registration, presence off, and a low
//! bcrypt cost, so that preparing two hundred people does not take minutes (registration is not measured).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::compare::process::{Running, cache_folder, free_port, output};
use crate::compare::{Participant, postgres};
use crate::federation::Tls;
use crate::matrix::Server;

/// The release that is compared with.
const VERSION: &str = "1.163.2";
const SETTINGS: &str =
    "rate limits raised out of the way, open registration, presence off, bcrypt_rounds 4, logs at WARNING";
const SQLITE: &str = "one process, SQLite (write-ahead log, synchronous=FULL: durable)";
/// Its driver, among the packages of PyPI.
const DRIVER: &str = "psycopg2-binary";

/// Where it keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    Sqlite,
    /// A cluster of its own.
    Postgres,
}

impl Database {
    /// The name of a Synapse on it.
    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "synapse",
            Self::Postgres => "synapse-postgres",
        }
    }
}

/// Installs it if need be, and starts it.
pub async fn start(folder: &Path, database: Database) -> Result<(Participant, Server, Running), Failure> {
    let home = folder.join(database.name());
    let port = free_port()?;
    launch(&home, port, configuration(&home, port, "localhost"), database).await
}

/// Starts one that other servers reach, in `folder`; its name comes third.
pub async fn start_federating(
    folder: &Path,
    tls: &Tls,
    database: Database,
) -> Result<(Participant, Server, String, Running), Failure> {
    let home = folder.join(database.name());
    let (port, federation_port) = (free_port()?, free_port()?);
    let name = format!("127.0.0.1:{federation_port}");
    let mut config = configuration(&home, port, &name);
    let listener = format!(
        "  - port: {federation_port}\n    type: http\n    tls: true\n    bind_addresses: ['127.0.0.1']\n    \
         resources: [{{ names: [federation] }}]\ndatabase:"
    );
    config = config.replacen("database:", &listener, 1);
    config.push_str(&format!(
        "tls_certificate_path: {}\ntls_private_key_path: {}\nfederation_verify_certificates: false\n\
         federation_ip_range_blacklist: []\n\
         rc_federation: {{ window_size: 1, sleep_limit: 1000000, sleep_delay: 1, reject_limit: 1000000, concurrent: 100 }}\n",
        tls.chain.display(),
        tls.key.display()
    ));
    let (participant, server, running) = launch(&home, port, config, database).await?;
    Ok((participant, server, name, running))
}

async fn launch(
    home: &Path,
    port: u16,
    mut configuration: String,
    database: Database,
) -> Result<(Participant, Server, Running), Failure> {
    let python = install()?;
    let (mut kept_in, mut cluster) = (SQLITE.to_owned(), None);
    if database == Database::Postgres {
        install_driver(&python)?;
        let started = postgres::start().await?;
        configuration = on_postgres(&configuration, home, &started.socket);
        kept_in = format!(
            "one process, PostgreSQL {} with the settings it comes with (fsync and synchronous_commit on), over a Unix \
             socket; CPU, memory and disk are those of both",
            started.version
        );
        cluster = Some(started.running);
    }
    let io = |error| Failure::Io(home.display().to_string(), error);
    std::fs::create_dir_all(home).map_err(io)?;
    let config = home.join("homeserver.yaml");
    std::fs::write(home.join("log.yaml"), LOG_CONFIG).map_err(io)?;
    std::fs::write(&config, configuration).map_err(io)?;
    let module = |what: &[&str]| {
        let mut command = Command::new(&python);
        command.args(["-m", "synapse.app.homeserver", "-c"]).arg(&config).args(what).current_dir(home);
        command
    };
    output(&mut module(&["--generate-keys"]))?;
    let mut running = Running::start(module(&[]), home.join("output.log"))?;
    if let Some(cluster) = cluster {
        running = running.upon(cluster);
    }
    let authority = format!("127.0.0.1:{port}");
    running.until_ready(&authority).await?;
    let name = database.name().to_owned();
    let settings = format!("{kept_in}; {SETTINGS}");
    let participant = Participant { name: name.clone(), version: VERSION.to_owned(), settings };
    Ok((participant, Server { name, authority, shared_secret: None }, running))
}

/// The Python of the environment that holds Synapse.
fn install() -> Result<PathBuf, Failure> {
    let home = cache_folder()?.join("synapse");
    let python = home.join("bin/python");
    let installed = || {
        let mut command = Command::new(&python);
        output(command.args(["-c", "import importlib.metadata as m; print(m.version('matrix-synapse'))"]))
    };
    if installed().is_ok_and(|version| version == VERSION) {
        return Ok(python);
    }
    eprintln!("installing matrix-synapse {VERSION} into {}", home.display());
    output(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
    output(Command::new(&python).args(["-m", "pip", "install", "--quiet", &format!("matrix-synapse=={VERSION}")]))?;
    installed().map(|_| python)
}

/// What lets it speak to PostgreSQL.
fn install_driver(python: &Path) -> Result<(), Failure> {
    let installed = || output(Command::new(python).args(["-c", "import psycopg2"]));
    if installed().is_ok() {
        return Ok(());
    }
    eprintln!("installing {DRIVER} beside matrix-synapse");
    output(Command::new(python).args(["-m", "pip", "install", "--quiet", DRIVER]))?;
    installed().map(drop)
}

/// The lines that say where SQLite's file is.
fn sqlite(home: &Path) -> String {
    format!("  name: sqlite3\n  args: {{ database: {}/homeserver.db }}\n", home.display())
}

/// A configuration with the other database.
fn on_postgres(configuration: &str, home: &Path, socket: &Path) -> String {
    let (role, socket) = (postgres::ROLE, socket.display());
    let lines = format!(
        "  name: psycopg2\n  args: {{ host: {socket}, user: {role}, dbname: {role}, cp_min: 5, cp_max: 10 }}\n"
    );
    configuration.replacen(&sqlite(home), &lines, 1)
}

const LOG_CONFIG: &str = r"version: 1
handlers:
  console:
    class: logging.StreamHandler
root:
  level: WARNING
  handlers: [console]
";

fn configuration(home: &Path, port: u16, name: &str) -> String {
    let sqlite = sqlite(home);
    let home = home.display();
    let unlimited = "{ per_second: 1000000, burst_count: 1000000 }";
    format!(
        r#"server_name: "{name}"
public_baseurl: http://127.0.0.1:{port}/
pid_file: {home}/homeserver.pid
listeners:
  - port: {port}
    type: http
    bind_addresses: ['127.0.0.1']
    resources: [{{ names: [client] }}]
database:
{sqlite}log_config: {home}/log.yaml
media_store_path: {home}/media
signing_key_path: {home}/signing.key
macaroon_secret_key: not a secret, the folder lives for one run
form_secret: not a secret either
report_stats: false
room_list_publication_rules: [{{ action: allow }}]
trusted_key_servers: []
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4
presence: {{ enabled: false }}
ip_range_blacklist: []
rc_message: {unlimited}
rc_registration: {unlimited}
rc_login: {{ address: {unlimited}, account: {unlimited}, failed_attempts: {unlimited} }}
rc_joins: {{ local: {unlimited}, remote: {unlimited} }}
rc_joins_per_room: {unlimited}
rc_invites: {{ per_room: {unlimited}, per_user: {unlimited}, per_issuer: {unlimited} }}
rc_room_creation: {unlimited}
rc_admin_redaction: {unlimited}
rc_user_directory: {unlimited}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_takes_the_place_of_sqlite() {
        let home = Path::new("/home/of/it");
        let config = configuration(home, 8008, "localhost");
        assert!(
            config.contains("database:\n  name: sqlite3\n  args: { database: /home/of/it/homeserver.db }\nlog_config:")
        );
        let config = on_postgres(&config, home, Path::new("/socket"));
        assert!(config.contains("database:\n  name: psycopg2\n  args: { host: /socket, user: synapse,"), "{config}");
        assert!(!config.contains("sqlite"), "{config}");
    }
}
