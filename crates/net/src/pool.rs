//! Connections that are kept, by server.
//!
//! Invariants: a connection is in the pool or with one request, never both (HTTP/2: in the pool, and with as many as there
//! are places); connections of one server are made one at a time while it is not known to speak HTTP/1.1, so that ten
//! requests to a fresh server make one HTTP/2 connection and not ten; a connection older than [`AGE_MAX`] is not used
//! for another request, so that a server that moved is found again.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use ruma_common::{OwnedServerName, ServerName};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{error::Error, exchange::Sender};

/// Connections of one server that are kept though nobody uses them.
const IDLE_PER_SERVER_MAX: usize = 8;
/// How long a connection is used for.
const AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// Requests that may wait for one server's places, for each place there is.
const WAITING_PER_PLACE_MAX: usize = 32;

/// All that are kept.
pub struct Pool {
    peers: Mutex<HashMap<OwnedServerName, Arc<Peer>>>,
    places_per_server: usize,
    idle_max: Duration,
    /// Places for connections, all servers together.
    pub open: Arc<Semaphore>,
}

/// One server's.
pub struct Peer {
    places: Arc<Semaphore>,
    places_count: usize,
    waiting: AtomicUsize,
    /// Held by whoever finds and connects to the server.
    pub connecting: tokio::sync::Mutex<()>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// HTTP/2: one for all.
    shared: Option<Connection>,
    /// HTTP/1.1: the one last used is last.
    idle: Vec<Connection>,
    /// The server is known to speak nothing newer.
    http1: bool,
    /// When and why connecting failed last.
    failed: Option<(Instant, Error)>,
}

/// A connection and what has to be known for using it.
pub struct Connection {
    pub sender: Sender,
    /// The `Host` header of its requests.
    pub host: Arc<str>,
    born: Instant,
    used: Instant,
}

impl Connection {
    pub fn new(sender: Sender, host: &str) -> Self {
        let now = Instant::now();
        Self { sender, host: host.into(), born: now, used: now }
    }

    /// For another request, if more than one can have it.
    fn share(&self) -> Option<Self> {
        let Sender::Two(sender) = &self.sender else { return None };
        let (sender, host) = (Sender::Two(sender.clone()), self.host.clone());
        Some(Self { sender, host, born: self.born, used: self.used })
    }

    fn is_usable(&self, idle_max: Duration, now: Instant) -> bool {
        !self.sender.is_closed() && now < self.born + AGE_MAX && now < self.used + idle_max
    }
}

impl Pool {
    pub fn new(open_max: usize, places_per_server: usize, idle_max: Duration) -> Self {
        let open = Arc::new(Semaphore::new(open_max.clamp(1, Semaphore::MAX_PERMITS)));
        Self { peers: Mutex::default(), places_per_server: places_per_server.max(1), idle_max, open }
    }

    /// A server's connections.
    pub fn peer(&self, server: &ServerName) -> Arc<Peer> {
        let mut peers = self.peers.lock();
        if let Some(peer) = peers.get(server) {
            return peer.clone();
        }
        let peer = Arc::new(Peer {
            places: Arc::new(Semaphore::new(self.places_per_server)),
            places_count: self.places_per_server,
            waiting: AtomicUsize::new(0),
            connecting: tokio::sync::Mutex::default(),
            kept: Mutex::default(),
        });
        peers.insert(server.to_owned(), peer.clone());
        peer
    }

    /// A connection of this server that can be used again.
    pub fn take(&self, peer: &Peer) -> Option<Connection> {
        let now = Instant::now();
        let mut kept = peer.kept.lock();
        if let Some(shared) = &mut kept.shared {
            if shared.is_usable(self.idle_max, now) {
                shared.used = now;
                return shared.share();
            }
            kept.shared = None;
        }
        while let Some(connection) = kept.idle.pop() {
            if connection.is_usable(self.idle_max, now) {
                return Some(connection);
            }
        }
        None
    }

    /// A place for one more connection. Idle ones give way when there is none.
    pub async fn place(&self) -> OwnedSemaphorePermit {
        if let Ok(place) = self.open.clone().try_acquire_owned() {
            return place;
        }
        for peer in self.peers.lock().values() {
            *peer.kept.lock() = Kept::default();
        }
        self.open.clone().acquire_owned().await.expect("nobody closes this semaphore")
    }

    /// Closes what was idle for too long and forgets servers that nobody talks to.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.peers.lock().retain(|_, peer| {
            let mut kept = peer.kept.lock();
            let usable = |connection: &Connection| connection.is_usable(self.idle_max, now);
            if kept.shared.as_ref().is_some_and(|shared| !usable(shared)) {
                kept.shared = None;
            }
            kept.idle.retain(usable);
            kept.shared.is_some() || !kept.idle.is_empty() || Arc::strong_count(peer) > 1
        });
    }

    /// How many servers have connections, or requests that wait for one.
    pub fn peers(&self) -> usize {
        self.peers.lock().len()
    }
}

impl Peer {
    /// A place for one request. Waits while others have them all, but not behind an endless queue.
    pub async fn place(&self) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        let waiting = Waiting::begin(&self.waiting);
        if waiting.before >= self.places_count * WAITING_PER_PLACE_MAX {
            return Err(Error::Busy { waiting: waiting.before });
        }
        Ok(self.places.clone().acquire_owned().await.expect("nobody closes this semaphore"))
    }

    /// A connection was made: keeps it for others, if others can have it at the same time.
    pub fn made(&self, connection: &Connection) {
        let mut kept = self.kept.lock();
        let shared = connection.share();
        kept.failed = None;
        kept.http1 = shared.is_none();
        if shared.is_some() {
            kept.shared = shared;
        }
    }

    /// A request is done: the connection waits for the next one.
    pub fn give_back(&self, mut connection: Connection) {
        connection.used = Instant::now();
        let mut kept = self.kept.lock();
        match &connection.sender {
            Sender::Two(_) => {
                if let Some(shared) = &mut kept.shared {
                    shared.used = connection.used;
                }
            }
            Sender::One(sender) if !sender.is_closed() && kept.idle.len() < IDLE_PER_SERVER_MAX => {
                kept.idle.push(connection);
            }
            Sender::One(_) => {}
        }
    }

    /// Connecting failed.
    pub fn connecting_failed(&self, error: &Error) {
        self.kept.lock().failed = Some((Instant::now(), error.clone()));
    }

    /// Why connecting failed, if it failed after this.
    pub fn failed_since(&self, since: Instant) -> Option<Error> {
        let kept = self.kept.lock();
        kept.failed.as_ref().filter(|(when, _)| *when >= since).map(|(_, error)| error.clone())
    }

    /// Whether connections need not be made one at a time.
    pub fn is_http1(&self) -> bool {
        self.kept.lock().http1
    }
}

/// Somebody who waits, until dropped.
struct Waiting<'a> {
    all: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn begin(all: &'a AtomicUsize) -> Self {
        Self { all, before: all.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}
