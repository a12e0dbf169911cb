//! Servers that take mail, brought up on a folder that is thrown away: koine, and Postfix that hands on to Dovecot by LMTP.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::compare::Participant;
use crate::compare::process::{Running, free_port, output};
use crate::matrix::Server;

/// How long a server may take until it listens.
const START_WAIT_MAX: Duration = Duration::from_secs(60);
/// The domain of the recipients.
pub const DOMAIN: &str = "bench.test";

/// A server this tool can bring up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    Koine,
    Postfix,
}

/// A server that is up.
pub struct Contestant {
    pub participant: Participant,
    /// Where it takes mail.
    pub smtp: u16,
    /// Its processes, each with those it began.
    pub pids: Vec<u32>,
    /// Where mails lie once they are delivered, if that is later than the answer.
    pub delivered: Option<PathBuf>,
    /// For Matrix clients.
    pub matrix: Option<Server>,
    // In the order in which they are to end.
    _master: Option<Master>,
    _running: Running,
}

/// Brings one up.
pub async fn start(peer: Peer, binary: Option<&Path>, folder: &Path) -> Result<Contestant, Failure> {
    match peer {
        Peer::Koine => koine(binary, &folder.join("koine"), "").await.map(|(contestant, _)| contestant),
        Peer::Postfix => postfix(&folder.join("postfix")).await,
    }
}

fn written(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure::Io(path.display().to_string(), error))
}

fn made(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::Io(folder.display().to_string(), error))
}

/// koine on a folder, which may have been used before; and how long it took until it answered.
pub async fn koine(binary: Option<&Path>, folder: &Path, outgoing: &str) -> Result<(Contestant, Duration), Failure> {
    let Some(binary) = binary else {
        return Err(Failure::Words("which koine is measured has to be said: --koine".to_owned()));
    };
    made(folder)?;
    let (http, smtp) = (free_port()?, free_port()?);
    let config = folder.join("koine.toml");
    written(
        &config,
        &format!(
            r#"server_name = "{DOMAIN}"
data_dir = "data"
[accounts]
registration = "open"
[accounts.limits.message]
burst = 1000000
per_second = 1000000.0
[metrics]
enabled = false
[mail]
enabled = true
[mail.incoming]
trusted_networks = ["127.0.0.0/8"]
[mail.outgoing]
deliver = "nowhere"
{outgoing}
[[listeners]]
address = "127.0.0.1:{http}"
[[listeners]]
address = "127.0.0.1:{smtp}"
serves = "smtp"
"#
        ),
    )?;
    let mut command = Command::new(binary);
    command.arg("serve").arg("--config").arg(&config).current_dir(folder);
    let mut running = Running::start(command, folder.join("koine.log"))?;
    let authority = format!("127.0.0.1:{http}");
    let took = running.until_ready(&authority).await?;
    let version = output(Command::new(binary).arg("--version"))?.trim_start_matches("koine").trim().to_owned();
    let settings = "one process, embedded engine, default memory budget; 250 when the event is on disk";
    let contestant = Contestant {
        participant: Participant { name: "koine".to_owned(), version, settings: settings.to_owned() },
        smtp,
        pids: vec![running.pid()],
        delivered: None,
        matrix: Some(Server { name: "koine".to_owned(), authority, shared_secret: None }),
        _master: None,
        _running: running,
    };
    Ok((contestant, took))
}

/// What of Postfix's is asked by its command.
struct Master {
    config: PathBuf,
}

impl Drop for Master {
    fn drop(&mut self) {
        if let Err(error) = output(Command::new("postfix").arg("-c").arg(&self.config).arg("stop")) {
            eprintln!("Postfix could not be ended: {error}");
        }
    }
}

/// Postfix as Debian has it, in folders of its own, which hands everything to Dovecot.
async fn postfix(folder: &Path) -> Result<Contestant, Failure> {
    made(folder)?;
    let (dovecot, lmtp) = dovecot(folder).await?;
    let config = folder.join("etc");
    for name in ["etc", "spool", "data"] {
        made(&folder.join(name))?;
    }
    output(Command::new("chown").arg("postfix").arg(folder.join("data")))?;
    let (here, smtp) = (folder.display(), free_port()?);
    written(
        &config.join("main.cf"),
        &format!(
            "compatibility_level = 3.6
queue_directory = {here}/spool
data_directory = {here}/data
multi_instance_name = postfix-bench
myhostname = mx.{DOMAIN}
mydestination =
mynetworks = 127.0.0.0/8
inet_protocols = ipv4
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
disable_dns_lookups = yes
virtual_mailbox_domains = {DOMAIN}
virtual_mailbox_maps = static:all
virtual_transport = lmtp:inet:127.0.0.1:{lmtp}
message_size_limit = 50000000
mailbox_size_limit = 0
maillog_file = {here}/postfix.log
maillog_file_prefixes = {here}
alias_maps =
local_recipient_maps =
"
        ),
    )?;
    let services = "pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
";
    written(&config.join("master.cf"), &format!("127.0.0.1:{smtp} inet n - n - - smtpd\n{services}"))?;
    output(Command::new("postfix").arg("-c").arg(&config).arg("start"))?;
    let master = Master { config };
    listens(smtp).await?;
    let pid = fs::read_to_string(folder.join("spool/pid/master.pid")).unwrap_or_default();
    let pid = pid.trim().parse().map_err(|_| Failure::Words("Postfix tells no process".to_owned()))?;
    let postfix = output(Command::new("postconf").args(["-h", "mail_version"]))?;
    let version = output(Command::new("dovecot").arg("--version"))?;
    let participant = Participant {
        name: "postfix".to_owned(),
        version: format!("{postfix} with Dovecot {}", version.split(' ').next().unwrap_or_default()),
        settings: "Debian's packages; 250 when the mail is in the queue on disk, from where it goes to Dovecot by LMTP and into a Maildir; CPU is that of both, until the last mail lies there".to_owned(),
    };
    Ok(Contestant {
        participant,
        smtp,
        pids: vec![pid, dovecot.pid()],
        delivered: Some(folder.join("home")),
        matrix: None,
        _master: Some(master),
        _running: dovecot,
    })
}

/// Dovecot with nothing but LMTP; its port.
async fn dovecot(folder: &Path) -> Result<(Running, u16), Failure> {
    let (here, port) = (folder.display(), free_port()?);
    made(&folder.join("home"))?;
    output(Command::new("chown").arg("nobody").arg(folder.join("home")))?;
    let config = folder.join("dovecot.conf");
    written(
        &config,
        &format!(
            "protocols = lmtp
ssl = no
base_dir = {here}/run
state_dir = {here}/state
log_path = {here}/dovecot.log
default_internal_user = dovecot
default_login_user = dovenull
postmaster_address = postmaster@{DOMAIN}
mail_location = maildir:{here}/home/%u
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={here}/home/%u allow_all_users=yes
}}
"
        ),
    )?;
    let mut command = Command::new("dovecot");
    command.arg("-F").arg("-c").arg(&config);
    let running = Running::start(command, folder.join("output.log"))?;
    listens(port).await?;
    Ok((running, port))
}

async fn listens(port: u16) -> Result<(), Failure> {
    let began = Instant::now();
    while began.elapsed() < START_WAIT_MAX {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Failure::Words(format!("nobody listens at port {port}")))
}

/// Mails that lie in Maildirs below a folder.
pub fn mails_in(folder: &Path) -> usize {
    let people = fs::read_dir(folder).into_iter().flatten().flatten();
    people.map(|person| fs::read_dir(person.path().join("new")).map_or(0, Iterator::count)).sum()
}
