//! The socket of the admin commands: one line of JSON there, one line back.
//!
//! `{"command": "user list", "arguments": {...}}` is answered by `{"answer": ...}` or `{"refusal": "..."}`.

use std::{
    fs, io,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream as BlockingStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    time::timeout,
};
use tracing::{debug, warn};

use super::Refusal;
use crate::program::Server;

const FILE: &str = "admin.sock";
/// Bytes of a question.
const QUESTION_MAX: u64 = 64 * 1024;
/// From connecting to the end of the question.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes of an answer; a list of a million accounts fits.
const ANSWER_MAX: u64 = 256 * 1024 * 1024;
/// The longest path that a socket can have, on every system that we know.
const PATH_MAX: usize = 100;

#[derive(Serialize, Deserialize)]
struct Question {
    command: String,
    arguments: Json,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Answer(Json),
    Refusal(String),
}

/// The open socket. Its file goes with it.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Opens the socket in the data folder, which only the server's user may enter. `None` if its path would be too long for
    /// a socket: the server works without.
    pub fn open(data_dir: &Path) -> io::Result<Option<Self>> {
        let path = data_dir.join(FILE);
        if path.as_os_str().len() > PATH_MAX {
            warn!(path = %path.display(), "no admin commands: the path of their socket would be longer than {PATH_MAX} bytes");
            return Ok(None);
        }
        // What a crash left; whoever is alive holds the lock of the store, so nobody listens there.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Some(Self { listener, path }))
    }

    /// Answers until dropped.
    pub async fn run(self, server: Arc<Server>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let server = server.clone();
                    tokio::spawn(async move {
                        if let Err(error) = answer(stream, &server).await {
                            debug!(reason = %error, "admin command not answered");
                        }
                    });
                }
                Err(error) => {
                    warn!(reason = %error, "cannot take an admin command");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn answer(mut stream: UnixStream, server: &Arc<Server>) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    timeout(QUESTION_TIME_MAX, tokio::io::BufReader::new(reader.take(QUESTION_MAX)).read_line(&mut line)).await??;
    let reply = match serde_json::from_str::<Question>(&line) {
        Ok(Question { command, arguments }) => match super::run(&command, arguments, server).await {
            Ok(answer) => Reply::Answer(answer),
            Err(refusal) => Reply::Refusal(refusal.to_string()),
        },
        Err(error) => Reply::Refusal(format!("the question is not understood: {error}")),
    };
    let mut text = serde_json::to_vec(&reply)?;
    text.push(b'\n');
    writer.write_all(&text).await
}

/// On the operator's side: asks the server that runs on this data folder.
pub fn ask(data_dir: &Path, command: &str, arguments: Json) -> Result<Json, Refusal> {
    let path = data_dir.join(FILE);
    let mut stream = BlockingStream::connect(&path).map_err(|error| {
        let folder = data_dir.display();
        Refusal::because(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!("no server runs on the data folder {folder}; start it, or say where its data is with --data-dir or --config")
            }
            io::ErrorKind::PermissionDenied => format!("not allowed to ask the server of {folder}; become the user that it runs as"),
            _ => format!("cannot ask the server of {folder}: {error}"),
        })
    })?;
    let lost = |error: io::Error| Refusal::because(format!("the server did not answer: {error}"));
    let mut text =
        serde_json::to_vec(&Question { command: command.to_owned(), arguments }).map_err(Refusal::because)?;
    text.push(b'\n');
    stream.write_all(&text).map_err(lost)?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_MAX)).read_line(&mut line).map_err(lost)?;
    match serde_json::from_str(&line).map_err(|error| lost(error.into()))? {
        Reply::Answer(answer) => Ok(answer),
        Reply::Refusal(reason) => Err(Refusal::because(reason)),
    }
}
