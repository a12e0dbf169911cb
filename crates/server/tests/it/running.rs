//! A `koine local` of one test, and the least of HTTP that it takes to talk to it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest wait for an answer; a server that needs longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test, with arguments.
pub fn koine(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_koine"));
    command.args(args).stdin(Stdio::null()).env_remove("KOINE_LOG");
    command
}

/// Runs the program to its end.
pub fn run(args: &[&str]) -> Output {
    koine(args).output().expect("the program starts")
}

/// What it printed.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `koine local` takes its ports one after another from the base.
const PORTS: u16 = 11;

/// Ports of a server, none of which anybody listens on.
pub fn free_ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Each test process begins somewhere else, below the ports that the kernel gives to outgoing connections.
    let start = 11_000 + (std::process::id() % 1_000) as u16 * 16;
    loop {
        let base = start + NEXT.fetch_add(PORTS, Ordering::Relaxed);
        if (base..base + PORTS).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return base;
        }
    }
}

/// A server that runs. Killed when dropped.
pub struct Running {
    child: Child,
    pub port: u16,
    pub data_dir: PathBuf,
    pub greeting: String,
    _folder: Option<TempDir>,
}

impl Running {
    /// In a new folder.
    pub fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut running = Self::start_in(&folder.path().join("data"), free_ports(), args);
        running._folder = Some(folder);
        running
    }

    /// In this folder. Returns once the server says that it is ready.
    pub fn start_in(data_dir: &Path, port: u16, args: &[&str]) -> Self {
        let base = port.to_string();
        let mut command = koine(&["local", "--server-name", "localhost", "--port-base", &base, "--data-dir"]);
        command.arg(data_dir).args(args).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
        let mut greeting = String::new();
        for line in lines.by_ref().map_while(Result::ok) {
            greeting += &line;
            greeting.push('\n');
            if line.contains("Ctrl-C ends the server") {
                break;
            }
        }
        // What it prints later must not block it.
        thread::spawn(move || lines.for_each(drop));
        Self { child, port, data_dir: data_dir.to_owned(), greeting, _folder: None }
    }

    /// Asks for something; status and JSON of the answer.
    pub fn ask(&self, method: &str, path: &str, token: Option<&str>, body: Option<Value>) -> (u16, Value) {
        let (status, text) = self.ask_at(self.port, method, path, token, body);
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// The same of another port, without looking at the answer.
    pub fn ask_at(
        &self,
        port: u16,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("it takes requests");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers in time");
        let answer = text(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a head has a status");
        (status, body.to_owned())
    }

    /// Logs in with a password; status and JSON of the answer.
    pub fn log_in(&self, user: &str, password: &str) -> (u16, Value) {
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": user },
            "password": password,
        });
        self.ask("POST", "/_matrix/client/v3/login", None, Some(body))
    }

    /// An access token of somebody with this password.
    pub fn token(&self, user: &str, password: &str) -> String {
        let (status, answer) = self.log_in(user, password);
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().expect("a token").to_owned()
    }

    /// Runs an admin command against this server.
    pub fn admin(&self, args: &[&str]) -> Output {
        koine(args).arg("--data-dir").arg(&self.data_dir).output().expect("the program starts")
    }

    /// The same, and takes the answer as JSON.
    pub fn admin_json(&self, args: &[&str]) -> Value {
        let output = self.admin(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Asks the server to end, as Ctrl-C does.
    pub fn interrupt(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the server runs");
    }

    /// Waits for its end; whether that was a clean one.
    pub fn ended(mut self) -> bool {
        self.child.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
