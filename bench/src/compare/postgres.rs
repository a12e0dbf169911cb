//! PostgreSQL of Debian's packages, as a cluster of its own that lives for one run.
//!
//! It refuses to run as root, so that its processes are started as the user the package made for it, on a folder of that
//! user's. It listens at a socket in that folder and nowhere else. Settings are those it comes with: `fsync` and
//! `synchronous_commit` on.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::compare::process::{Running, WorkFolder, output};

/// Where Debian has the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Whose the processes are where the tool runs as root.
const USER: &str = "postgres";
/// The user and the name of the database.
pub const ROLE: &str = "synapse";
/// How long it may take until it answers.
const START_WAIT_MAX: Duration = Duration::from_secs(30);

/// One that is up.
pub struct Cluster {
    /// The process, which ends before its folder goes.
    pub running: Running,
    /// Where its socket is.
    pub socket: PathBuf,
    /// `15.14`
    pub version: String,
}

/// Makes one with an empty database, and starts it.
pub async fn start() -> Result<Cluster, Failure> {
    let programs = programs()?;
    let version = output(Command::new(programs.join("postgres")).arg("--version"))?;
    let version = version_of(&version).to_owned();
    // Not beside the other data: its user may not be let through the folders of root.
    let folder = WorkFolder::at(Path::new("/var/tmp").join(format!("koine-bench-{}-postgres", number())))?;
    let user = user()?;
    let io = |error| Failure::Io(folder.path.display().to_string(), error);
    fs::set_permissions(&folder.path, fs::Permissions::from_mode(0o700)).map_err(io)?;
    if let Some((uid, gid)) = user {
        chown(&folder.path, Some(uid), Some(gid)).map_err(io)?;
    }
    let command = |program: &str| {
        let mut command = Command::new(programs.join(program));
        command.current_dir(&folder.path).env("LC_ALL", "C");
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        command
    };
    let data = folder.path.join("data");
    // Nobody but root and that user gets as far as the socket, so that everybody who does is believed.
    let settings = ["--encoding=UTF8", "--locale=C", "--auth=trust", "--username"];
    output(command("initdb").args(settings).arg(ROLE).arg("--pgdata").arg(&data))?;
    let mut server = command("postgres");
    server.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-c", "fsync=on", "-c"]);
    server.arg(format!("unix_socket_directories={}", folder.path.display()));
    let socket = folder.path.clone();
    let log = folder.path.join("postgres.log");
    let running = Running::start(server, log.clone())?.within(folder);
    let client = |program: &str| {
        let mut command = Command::new(programs.join(program));
        command.arg("--host").arg(&socket).arg("--username").arg(ROLE);
        command
    };
    let began = Instant::now();
    while output(client("pg_isready").arg("--dbname").arg("postgres")).is_err() {
        if began.elapsed() > START_WAIT_MAX {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(Failure::Words(format!("PostgreSQL does not answer; it said:\n{said}")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    output(client("createdb").arg(ROLE))?;
    Ok(Cluster { running, socket, version })
}

/// A number for the folder: several may run for one run of the tool.
fn number() -> String {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    format!("{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed))
}

/// The folder of the programs, which are installed where that can be done.
fn programs() -> Result<PathBuf, Failure> {
    if let Some(there) = newest(Path::new(VERSIONS)) {
        return Ok(there);
    }
    let missing = |why: &str| Failure::Words(format!("PostgreSQL is not there, and {why}: apt-get install postgresql"));
    if !is_root()? {
        return Err(missing("only root could install it"));
    }
    eprintln!("installing postgresql from Debian's packages");
    let apt = |arguments: &[&str]| {
        // Packages of servers begin to run what they bring, unless they are told not to.
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
        output(command.stdin(Stdio::null()))
    };
    apt(&["update", "--quiet"])?;
    apt(&["install", "--quiet", "--yes", "--no-install-recommends", "postgresql"])?;
    newest(Path::new(VERSIONS)).ok_or_else(|| missing("the package did not bring it"))
}

/// The programs of the highest version in a folder.
fn newest(versions: &Path) -> Option<PathBuf> {
    let found = fs::read_dir(versions).ok()?.flatten().filter_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        let programs = entry.path().join("bin");
        programs.join("initdb").exists().then_some((number, programs))
    });
    found.max().map(|(_, programs)| programs)
}

fn is_root() -> Result<bool, Failure> {
    Ok(output(Command::new("id").arg("-u"))? == "0")
}

/// Whose the processes are to be, where it may not be the user of this one.
fn user() -> Result<Option<(u32, u32)>, Failure> {
    if !is_root()? {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").map_err(|error| Failure::Io("/etc/passwd".to_owned(), error))?;
    let ids = ids_of(&users, USER);
    ids.map(Some).ok_or_else(|| Failure::Words(format!("PostgreSQL does not run as root, and there is no user {USER}")))
}

/// User and group of somebody, by what passwd(5) says.
fn ids_of(users: &str, name: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next()? == name;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        is_it.then_some((uid, gid))
    })
}

/// `15.14` of `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn version_of(said: &str) -> &str {
    said.split(' ').find(|word| word.starts_with(|first: char| first.is_ascii_digit())).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_user_are_read() {
        assert_eq!(version_of("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"), "15.14");
        let users = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(ids_of(users, "postgres"), Some((101, 104)));
        assert_eq!(ids_of(users, "post"), None);
    }

    #[test]
    fn newest_version_is_taken_by_its_number() {
        let folder = std::env::temp_dir().join(format!("koine-bench-versions-{}", std::process::id()));
        for version in ["9", "15", "common"] {
            fs::create_dir_all(folder.join(version).join("bin")).expect("a folder");
            fs::write(folder.join(version).join("bin/initdb"), "").expect("a file");
        }
        let found = newest(&folder);
        let expected = folder.join("15/bin");
        fs::remove_dir_all(&folder).expect("a folder that goes");
        assert_eq!(found, Some(expected));
    }
}
