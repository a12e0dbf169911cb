//! One throw-away koine for a walk or for bad input.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::{Result, Yard};

const READY_TIMEOUT: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(20);
/// `koine local` takes its ports one after another from the base.
const PORTS: u16 = 11;

/// A running `koine local --ephemeral`; ends with the value.
pub struct Server {
    child: Child,
    log: PathBuf,
    pub url: String,
    /// Where clients of XMPP come, with STARTTLS or without.
    pub xmpp: u16,
}

impl Server {
    /// Starts one and returns when it answers.
    pub fn start(yard: &Yard, name: &str) -> Result<Self> {
        Self::start_with(yard, name, &[])
    }

    /// The same with further arguments.
    pub fn start_with(yard: &Yard, name: &str, arguments: &[String]) -> Result<Self> {
        let port = free_ports()?;
        let log = yard.cached("conformance-logs")?.join(format!("{name}.server.log"));
        let out = File::create(&log)?;
        let child = Command::new(&yard.koine)
            .args(["local", "--ephemeral", "--no-demo", "--port-base", &port.to_string()])
            .args(arguments)
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .map_err(|e| format!("{}: {e}", yard.koine.display()))?;
        let mut server = Self { child, log, url: format!("http://127.0.0.1:{port}"), xmpp: port + 3 };
        server.await_ready(port)?;
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its standard output and error go.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its data folder, as it says when it is ready.
    pub fn data(&self) -> Result<PathBuf> {
        let text = fs::read_to_string(&self.log)?;
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix("Data "));
        let path =
            line.and_then(|line| line.split_whitespace().next()).ok_or("koine does not say where its data are")?;
        Ok(PathBuf::from(path))
    }

    /// Has it ended by itself? Then with what.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    fn await_ready(&mut self, port: u16) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        while !answers(port) {
            if let Some(status) = self.ended() {
                let text = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(format!("koine ended before it was ready ({status}):\n{text}").into());
            }
            if Instant::now() > deadline {
                return Err(format!("koine is not ready after {READY_TIMEOUT:?}; see {}", self.log.display()).into());
            }
            std::thread::sleep(READY_POLL);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM lets it remove its throw-away folder; a server that does not heed it is killed.
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while asked.as_ref().is_ok_and(std::process::ExitStatus::success) && Instant::now() < deadline {
            if self.ended().is_some() {
                return;
            }
            std::thread::sleep(READY_POLL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /_matrix/client/versions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

/// The first of a block of ports that nobody listens on.
fn free_ports() -> Result<u16> {
    // Below the range that outgoing connections use; begins at another place in each process.
    let offset = u16::try_from(std::process::id() % 1000)? * PORTS;
    let bases = (11_000 + offset..31_000).step_by(usize::from(PORTS));
    let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let base = bases.into_iter().find(|&base| (base..base + PORTS).all(is_free));
    Ok(base.ok_or("no free block of ports")?)
}
