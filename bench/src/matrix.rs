//! The calls of the client-server API that the scenarios make [CS-API], over [`crate::http`].
//!
//! Only public endpoints, so that any homeserver can be driven; the one exception is Synapse's shared-secret
//! registration, used when a server has open registration switched off.

use std::time::Duration;

use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde_json::{Value, json};
use sha1::Sha1;

use crate::http::{Connection, HttpError, escaped};

/// How often a request is repeated when the server says `M_LIMIT_EXCEEDED` during preparation.
const LIMITED_RETRIES_MAX: usize = 40;
/// Longest wait before repeating a limited request.
const LIMITED_WAIT_MAX: Duration = Duration::from_secs(30);

/// Why a call did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer at all.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The server refused, with its own code and words.
    #[error("{method} {path} was refused: {status} {body}")]
    Refused {
        /// Method of the request.
        method: &'static str,
        /// Path of the request, without its query.
        path: String,
        /// HTTP status.
        status: u16,
        /// Beginning of the body.
        body: String,
        /// `retry_after_ms` of a limited request.
        retry_after_ms: Option<u64>,
    },
    /// The answer lacks what the specification promises.
    #[error("the answer to {0} cannot be read: {1}")]
    Unreadable(&'static str, serde_json::Error),
    /// The server offers no way to register that this tool knows.
    #[error("no way to register: open registration with m.login.dummy is off, and no shared secret is given")]
    RegistrationClosed,
    /// The server did what was asked, but not completely.
    #[error("the server answered {0} of {1} {2}")]
    Incomplete(usize, usize, &'static str),
}

/// A server to drive.
#[derive(Debug, Clone)]
pub struct Server {
    /// Name in the reports.
    pub name: String,
    /// `host:port` of the client-server API over plain HTTP.
    pub authority: String,
    /// Synapse's `registration_shared_secret`, where open registration is off.
    pub shared_secret: Option<String>,
}

/// A registered account, with the token of one device.
#[derive(Debug, Clone, Deserialize)]
pub struct Person {
    /// Access token.
    pub access_token: String,
}

/// One person at one connection.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    header: String,
}

/// What a sync is asked for.
#[derive(Debug, Clone, Copy)]
pub struct SyncAsk<'a> {
    /// Where the last one ended; `None` is an initial sync.
    pub since: Option<&'a str>,
    /// Longest wait for news.
    pub timeout_ms: u64,
    /// Inline filter, already escaped.
    pub filter: Option<&'a str>,
}

/// One page of history.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// Where the next page begins.
    pub end: Option<String>,
    /// The events, not looked into.
    pub chunk: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Refusal {
    retry_after_ms: Option<u64>,
}

impl Client {
    /// `person` on a connection of their own.
    pub fn new(server: &Server, person: &Person) -> Self {
        Self {
            connection: Connection::new(&server.authority),
            header: format!("Authorization: Bearer {}\r\n", person.access_token),
        }
    }

    /// One request, one answer; everything but 2xx is an error.
    pub async fn call(&mut self, method: &'static str, path: &str, body: &str) -> Result<&[u8], CallError> {
        let answer = self.connection.request(method, path, &self.header, body.as_bytes()).await?;
        if (200..300).contains(&answer.status) {
            return Ok(answer.body);
        }
        Err(refused(method, path, answer.status, answer.body))
    }

    /// Like [`Client::call`], but waits and repeats when the server limits the rate. For preparation only.
    pub async fn call_patiently(&mut self, method: &'static str, path: &str, body: &str) -> Result<Vec<u8>, CallError> {
        let mut tries = 0;
        loop {
            match self.call(method, path, body).await {
                Ok(answer) => return Ok(answer.to_vec()),
                Err(CallError::Refused { status: 429, retry_after_ms, .. }) if tries < LIMITED_RETRIES_MAX => {
                    let wait = Duration::from_millis(retry_after_ms.unwrap_or(500)).min(LIMITED_WAIT_MAX);
                    tokio::time::sleep(wait).await;
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Creates a public room and gives its id. [CS-API §post_matrixclientv3createroom]
    pub async fn create_room(&mut self, name: &str) -> Result<String, CallError> {
        let body = json!({ "preset": "public_chat", "name": name }).to_string();
        room_id(self.call("POST", CREATE_ROOM, &body).await?)
    }

    /// [`Client::create_room`], waiting out any rate limit.
    pub async fn create_room_patiently(&mut self, name: &str) -> Result<String, CallError> {
        let body = json!({ "preset": "public_chat", "name": name }).to_string();
        room_id(&self.call_patiently("POST", CREATE_ROOM, &body).await?)
    }

    /// Creates a room as told, waiting out any rate limit.
    pub async fn create_room_of(&mut self, wanted: &Value) -> Result<String, CallError> {
        room_id(&self.call_patiently("POST", CREATE_ROOM, &wanted.to_string()).await?)
    }

    /// Uploads a file and gives its URI. [CS-API §post_matrixmediav3upload]
    pub async fn upload(&mut self, kind: &str, file: &[u8]) -> Result<String, CallError> {
        #[derive(Deserialize)]
        struct Uploaded {
            content_uri: String,
        }
        let headers = format!("{}Content-Type: {kind}\r\n", self.header);
        let answer = self.connection.request("POST", UPLOAD, &headers, file).await?;
        if (200..300).contains(&answer.status) {
            return Ok(read::<Uploaded>("upload", answer.body)?.content_uri);
        }
        Err(refused("POST", UPLOAD, answer.status, answer.body))
    }

    /// Joins a public room. [CS-API §post_matrixclientv3roomsroomidjoin]
    pub async fn join(&mut self, room: &str) -> Result<(), CallError> {
        self.call("POST", &join_path(room), "{}").await.map(drop)
    }

    /// [`Client::join`], waiting out any rate limit.
    pub async fn join_patiently(&mut self, room: &str) -> Result<(), CallError> {
        self.call_patiently("POST", &join_path(room), "{}").await.map(drop)
    }

    /// How many members a room has. [CS-API §get_matrixclientv3roomsroomidjoined_members]
    pub async fn joined_members(&mut self, room: &str) -> Result<usize, CallError> {
        #[derive(Deserialize)]
        struct Members {
            joined: std::collections::HashMap<String, serde::de::IgnoredAny>,
        }
        let path = format!("/_matrix/client/v3/rooms/{}/joined_members", escaped(room));
        Ok(read::<Members>("joined_members", self.call("GET", &path, "").await?)?.joined.len())
    }

    /// Sends a text message. `txn` must be new for this device. [CS-API §put_matrixclientv3roomsroomidsendeventtypetxnid]
    pub async fn send(&mut self, room: &str, txn: &str, text: &str) -> Result<(), CallError> {
        let body = format!(r#"{{"msgtype":"m.text","body":"{text}"}}"#);
        self.call("PUT", &send_path(room, txn), &body).await.map(drop)
    }

    /// [`Client::send`], waiting out any rate limit.
    pub async fn send_patiently(&mut self, room: &str, txn: &str, text: &str) -> Result<(), CallError> {
        let body = format!(r#"{{"msgtype":"m.text","body":"{text}"}}"#);
        self.call_patiently("PUT", &send_path(room, txn), &body).await.map(drop)
    }

    /// One `/sync`, as bytes. [CS-API §get_matrixclientv3sync]
    pub async fn sync(&mut self, ask: SyncAsk<'_>) -> Result<&[u8], CallError> {
        let mut path = format!("/_matrix/client/v3/sync?timeout={}", ask.timeout_ms);
        if let Some(since) = ask.since {
            path.push_str("&since=");
            path.push_str(&escaped(since));
        }
        if let Some(filter) = ask.filter {
            path.push_str("&filter=");
            path.push_str(filter);
        }
        self.call("GET", &path, "").await
    }

    /// Messages before `from`, newest first; from the end without it. [CS-API §get_matrixclientv3roomsroomidmessages]
    pub async fn page(&mut self, room: &str, from: Option<&str>, limit: usize) -> Result<Page, CallError> {
        let mut path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit={limit}", escaped(room));
        if let Some(from) = from {
            path.push_str("&from=");
            path.push_str(&escaped(from));
        }
        read("messages", self.call("GET", &path, "").await?)
    }
}

/// Simplified sliding sync. [MSC4186]
pub const SLIDING_SYNC: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
/// What clients ask `/sync` for that load members as they need them.
pub const LAZY_FILTER: &str =
    r#"{"room":{"timeline":{"limit":10},"state":{"lazy_load_members":true}},"presence":{"types":[]}}"#;
const CREATE_ROOM: &str = "/_matrix/client/v3/createRoom";
const UPLOAD: &str = "/_matrix/media/v3/upload";
const REGISTER: &str = "/_matrix/client/v3/register";
const ADMIN_REGISTER: &str = "/_synapse/admin/v1/register";

fn join_path(room: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/join", escaped(room))
}

fn send_path(room: &str, txn: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{txn}", escaped(room))
}

fn room_id(body: &[u8]) -> Result<String, CallError> {
    #[derive(Deserialize)]
    struct Created {
        room_id: String,
    }
    Ok(read::<Created>("createRoom", body)?.room_id)
}

fn read<'a, T: Deserialize<'a>>(what: &'static str, body: &'a [u8]) -> Result<T, CallError> {
    serde_json::from_slice(body).map_err(|error| CallError::Unreadable(what, error))
}

fn refused(method: &'static str, path: &str, status: u16, body: &[u8]) -> CallError {
    let retry_after_ms = serde_json::from_slice::<Refusal>(body).ok().and_then(|refusal| refusal.retry_after_ms);
    let shown = &body[..body.len().min(300)];
    CallError::Refused {
        method,
        path: path.split('?').next().unwrap_or(path).to_owned(),
        status,
        body: String::from_utf8_lossy(shown).into_owned(),
        retry_after_ms,
    }
}

/// `next_batch` of a sync answer.
pub fn next_batch(body: &[u8]) -> Result<String, CallError> {
    #[derive(Deserialize)]
    struct Synced {
        next_batch: String,
    }
    Ok(read::<Synced>("sync", body)?.next_batch)
}

/// How many joined rooms a sync answer holds.
pub fn joined_rooms(body: &[u8]) -> Result<usize, CallError> {
    #[derive(Deserialize)]
    struct Synced {
        #[serde(default)]
        rooms: Rooms,
    }
    #[derive(Deserialize, Default)]
    struct Rooms {
        #[serde(default)]
        join: std::collections::HashMap<String, serde::de::IgnoredAny>,
    }
    Ok(read::<Synced>("sync", body)?.rooms.join.len())
}

/// Registers `localpart` openly with `m.login.dummy`, or through Synapse's shared secret.
/// [CS-API §post_matrixclientv3register]
pub async fn register(server: &Server, localpart: &str) -> Result<Person, CallError> {
    let nobody = Person { access_token: String::new() };
    let mut client = Client::new(server, &nobody);
    client.header.clear();
    if let Some(secret) = &server.shared_secret {
        return register_by_secret(&mut client, secret, localpart).await;
    }
    let mut ask = json!({ "username": localpart, "password": password(localpart), "inhibit_login": false });
    match client.call_patiently("POST", REGISTER, &ask.to_string()).await {
        Ok(body) => read("register", &body),
        Err(CallError::Refused { status: 401, body, .. }) => {
            let stage: Value = read("register", body.as_bytes())?;
            ask["auth"] = json!({ "type": "m.login.dummy", "session": stage["session"] });
            let body = client.call_patiently("POST", REGISTER, &ask.to_string()).await?;
            read("register", &body)
        }
        Err(CallError::Refused { status: 403 | 404, .. }) => Err(CallError::RegistrationClosed),
        Err(error) => Err(error),
    }
}

/// Synapse's admin registration: a nonce, answered with an HMAC of it and the new account.
async fn register_by_secret(client: &mut Client, secret: &str, localpart: &str) -> Result<Person, CallError> {
    let nonce: Value = read("register", &client.call_patiently("GET", ADMIN_REGISTER, "").await?)?;
    let nonce = nonce["nonce"].as_str().unwrap_or_default();
    let signed = format!("{nonce}\0{localpart}\0{}\0notadmin", password(localpart));
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    let mac: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let ask = json!({
        "nonce": nonce, "username": localpart, "password": password(localpart), "admin": false, "mac": mac,
    });
    let body = client.call_patiently("POST", ADMIN_REGISTER, &ask.to_string()).await?;
    read("register", &body)
}

/// What somebody who was [registered](register) sends to log in once more, always as the same device.
/// [CS-API §post_matrixclientv3login]
pub fn login(localpart: &str) -> String {
    let identifier = json!({ "type": "m.id.user", "user": localpart });
    let password = password(localpart);
    json!({ "type": "m.login.password", "identifier": identifier, "device_id": "AGAIN", "password": password })
        .to_string()
}

/// Where that is sent.
pub const LOGIN: &str = "/_matrix/client/v3/login";

fn password(localpart: &str) -> String {
    format!("a long enough password of {localpart}")
}
