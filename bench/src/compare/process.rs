//! Processes this tool starts, and the folder their data lie in. Both are gone when their guards are dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::http::Connection;

/// How long a server may take from its start until it answers.
const START_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a server may take to end once asked to; then it is killed.
const END_WAIT_MAX: Duration = Duration::from_secs(10);

/// A server this tool started. Dropping it ends the server, then what that stands upon.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
    upon: Option<Box<Running>>,
    /// Goes when everything has ended.
    _folder: Option<WorkFolder>,
}

impl Running {
    /// Starts `command`, with its output in `log`.
    pub fn start(mut command: Command, log: PathBuf) -> Result<Self, Failure> {
        let io = |error| Failure::Io(format!("{command:?}"), error);
        let out = File::create(&log).map_err(io)?;
        let err = out.try_clone().map_err(io)?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().map_err(|error| Failure::Io(format!("{command:?}"), error))?;
        Ok(Self { child, log, upon: None, _folder: None })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// This server stands upon another, which ends after it and is measured with it: a database.
    pub fn upon(mut self, other: Self) -> Self {
        self.upon = Some(Box::new(other));
        self
    }

    /// This server has a folder of its own.
    pub fn within(mut self, folder: WorkFolder) -> Self {
        self._folder = Some(folder);
        self
    }

    /// Its process, and that of what it stands upon.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.pid()];
        pids.extend(self.upon.iter().flat_map(|other| other.pids()));
        pids
    }

    /// Waits until the server answers `GET /_matrix/client/versions`.
    pub async fn until_ready(&mut self, authority: &str) -> Result<Duration, Failure> {
        let began = Instant::now();
        loop {
            let mut connection = Connection::new(authority);
            if let Ok(answer) = connection.request("GET", "/_matrix/client/versions", "", b"").await
                && answer.status == 200
            {
                return Ok(began.elapsed());
            }
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || began.elapsed() > START_WAIT_MAX {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(15).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                let what = if ended.is_some() { "ended at its start" } else { "does not answer" };
                return Err(Failure::Words(format!("the server {what}; its last words:\n{}", tail.join("\n"))));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // There is no portable way in the standard library to ask a process to end; kill(1) is everywhere.
        let asked = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.child.id())).status();
        let began = Instant::now();
        while asked.is_ok() && began.elapsed() < END_WAIT_MAX {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // Errors mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder for the servers' data, on the disk of the home directory: a folder for temporary files may be memory, where
/// durable writes cost nothing.
#[derive(Debug)]
pub struct WorkFolder {
    /// Where it is.
    pub path: PathBuf,
}

impl WorkFolder {
    /// Makes it.
    pub fn new() -> Result<Self, Failure> {
        Self::named("all")
    }

    /// Another of the same run.
    pub fn named(name: &str) -> Result<Self, Failure> {
        Self::at(cache_folder()?.join(format!("bench-{}-{name}", std::process::id())))
    }

    /// One at that place.
    pub fn at(path: PathBuf) -> Result<Self, Failure> {
        std::fs::create_dir_all(&path).map_err(|error| Failure::Io(path.display().to_string(), error))?;
        Ok(Self { path })
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("{} could not be removed: {error}", self.path.display());
        }
    }
}

/// `$XDG_CACHE_HOME/koine`, or `~/.cache/koine`.
pub fn cache_folder() -> Result<PathBuf, Failure> {
    let base = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Some(home)) => Path::new(&home).join(".cache"),
        _ => {
            return Err(Failure::Words("neither XDG_CACHE_HOME nor HOME is set".to_owned()));
        }
    };
    Ok(base.join("koine"))
}

/// A port of the loopback address that nobody listens on.
pub fn free_port() -> Result<u16, Failure> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0");
    let port = listener.and_then(|listener| listener.local_addr()).map(|address| address.port());
    port.map_err(|error| Failure::Io("no free port".to_owned(), error))
}

/// Runs a command to its end; its trimmed output, or its complaint.
pub fn output(command: &mut Command) -> Result<String, Failure> {
    let said = command.output().map_err(|error| Failure::Io(format!("{command:?}"), error))?;
    if !said.status.success() {
        let complaint = String::from_utf8_lossy(&said.stderr);
        return Err(Failure::Words(format!("{command:?} failed: {}", complaint.trim())));
    }
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}
