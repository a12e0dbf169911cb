//! Mail that goes out.
//!
//! ```text
//! log ── follow ── batch ── plan ── queue ── schedule ── deliver ── smtp, tls     to the servers of other domains
//!                                     │                    │├─ mx, proven        which those are, and whether that is signed
//!                                     │                    │├─ mta_sts, dane     what they ask for
//!                                     │                    │├─ compose, dkim     what is said, signed
//!                                     │                    │└─ outbox            a folder instead
//!                                   status ◂── bounce, suppress                  what became of it, told in the room
//! ```
//!
//! Invariants: what an entry of the log comes to is written together with our place in the log; a mail is in the queue until
//! its server has taken it, until it is lost and its author was told, or until there is nothing to say any more; a mail is
//! composed from the events when it is tried; in memory there is nothing but what is under way. Nothing is mailed out of a
//! room for encrypted messages.

mod admin;
mod batch;
mod bounce;
mod compose;
mod config;
mod dane;
mod deliver;
mod dkim;
mod follow;
mod link;
mod mta_sts;
mod mx;
mod outbox;
mod plan;
mod proven;
mod queue;
mod schedule;
mod smtp;
mod status;
mod suppress;
mod tables;
mod tls;

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, Mac as _};
use koine_account::Accounts;
use koine_media::Media;
use koine_net::{Client, guard::Guard};
use koine_room::{RoomNo, Rooms};
use koine_store::{DomainId, Position, Shard};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use ruma_common::OwnedUserId;
use sha2::Sha256;
use tokio::sync::{Notify, OnceCell, Semaphore};

pub use koine_projection::mail::Address;

pub use self::{
    admin::{Lane, Queue},
    bounce::{Outcome, PREFIX as BOUNCES},
    config::{Deliver, OutConfig, SmarthostConfig, SmarthostTls},
    mx::{Answering, Found, Lookup, LookupError},
    proven::Proven,
    suppress::{LISTED_MAX, Suppressed},
};
use self::{dkim::Keys, smtp::Patience, tables::FACT, tls::Tls};

/// Rooms whose correspondents are remembered.
const ROOMS_REMEMBERED_MAX: usize = 10_000;
/// Bytes of a proof in an address of a file.
const PROOF_BYTES: usize = 16;
/// Where the secret stands.
const SECRET: &str = "secret";

/// What an [`Out`] is made of.
pub struct OutCores {
    /// The tenant.
    pub domain: DomainId,
    /// Rooms.
    pub rooms: Arc<Rooms>,
    /// People.
    pub accounts: Arc<Accounts>,
    /// Files.
    pub media: Media,
    /// DNS.
    pub dns: Arc<dyn Lookup>,
    /// Fetches policies.
    pub web: Client,
    /// Which addresses may be connected to.
    pub guard: Guard,
    /// Further authorities that are believed, a file.
    pub authorities: Option<PathBuf>,
    /// Where keys and the folder of mails are.
    pub data_dir: PathBuf,
    /// Where the web server is reached.
    pub base_url: Option<String>,
    /// The name by which we greet.
    pub hostname: String,
    /// Settings.
    pub config: OutConfig,
    /// The time, in milliseconds since the epoch.
    pub now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// How long another server may take for each step, if not as long as RFC 5321 says. For tests.
    pub patience: Option<Duration>,
}

/// Mail that goes out, of one domain. Cloning it costs a counter.
#[derive(Clone)]
pub struct Out(Arc<Inner>);

struct WeakOut(Weak<Inner>);

struct Inner {
    cores: OutCores,
    /// The domain of addresses: the server's name without a port.
    host: String,
    secret: [u8; 32],
    tls: Tls,
    keys: OnceCell<Keys>,
    patience: Patience,
    /// Whom events of a room are mailed to.
    correspondents: Cache<RoomNo, Arc<[OwnedUserId]>>,
    /// Held while the log is read: how far it was, and what of that is written down.
    following: tokio::sync::Mutex<Option<(Position, Position)>>,
    /// Destinations that are being served.
    busy: Mutex<HashSet<String>>,
    /// Memory for mails under way.
    letters: Semaphore,
    /// There may be something to do.
    work: Arc<Notify>,
}

impl Out {
    /// Ready to work. Nothing is sent before [`start`](Self::start). Blocks for as long as the store takes.
    ///
    /// # Errors
    /// A sentence, if the store cannot be read or a file of authorities cannot be used.
    pub fn open(cores: OutCores) -> Result<Self, String> {
        let secret = secret(cores.rooms.shard(), cores.domain)?;
        let tls = Tls::new(cores.authorities.as_ref())?;
        let host = cores.rooms.server_name().host().to_ascii_lowercase();
        let patience = cores.patience.map_or_else(Patience::default, |time| Patience {
            greeting: time,
            command: time,
            piece: time,
            end: time,
        });
        Ok(Self(Arc::new(Inner {
            cores,
            host,
            secret,
            tls,
            keys: OnceCell::new(),
            patience,
            correspondents: Cache::new(ROOMS_REMEMBERED_MAX),
            following: tokio::sync::Mutex::default(),
            busy: Mutex::default(),
            letters: Semaphore::new(compose::LETTERS_KIB),
            work: Arc::default(),
        })))
    }

    /// Begins to follow the log and to send. Needs a tokio runtime; the tasks end when the shard does, or the last owner lets
    /// go.
    pub fn start(&self) {
        follow::start(self);
        schedule::start(self);
    }

    fn downgrade(&self) -> WeakOut {
        WeakOut(Arc::downgrade(&self.0))
    }

    fn rooms(&self) -> &Arc<Rooms> {
        &self.0.cores.rooms
    }

    fn accounts(&self) -> &Arc<Accounts> {
        &self.0.cores.accounts
    }

    fn shard(&self) -> &Shard {
        self.0.cores.rooms.shard()
    }

    fn domain(&self) -> DomainId {
        self.0.cores.domain
    }

    fn host(&self) -> &str {
        &self.0.host
    }

    fn config(&self) -> &OutConfig {
        &self.0.cores.config
    }

    fn now_ms(&self) -> u64 {
        (self.0.cores.now_ms)()
    }

    /// There may be something to do.
    fn wake(&self) {
        self.0.work.notify_one();
    }

    /// The folder of mails that go nowhere else.
    fn outbox_folder(&self) -> PathBuf {
        self.config().outbox.clone().unwrap_or_else(|| self.0.cores.data_dir.join("outbox"))
    }

    /// The keys that sign, made when they are first needed.
    async fn keys(&self) -> Result<&Keys, String> {
        let (folder, host) = (self.0.cores.data_dir.clone(), self.host().to_owned());
        let open = || async {
            let opened = tokio::task::spawn_blocking(move || Keys::open(&folder, &host)).await;
            opened.map_err(|error| error.to_string())?
        };
        self.0.keys.get_or_try_init(open).await
    }

    fn mac(&self, purpose: &str, of: &[&str]) -> [u8; 32] {
        let mut hmac = Hmac::<Sha256>::new_from_slice(&self.0.secret).expect("a key may have any length");
        for part in [purpose].iter().chain(of) {
            hmac.update(&(part.len() as u64).to_be_bytes());
            hmac.update(part.as_bytes());
        }
        hmac.finalize().into_bytes().into()
    }

    fn proof(&self, purpose: &str, of: &[&str]) -> String {
        BASE32_NOPAD.encode(&self.mac(purpose, of)[..PROOF_BYTES]).to_ascii_lowercase()
    }
}

/// The secret that return addresses and links are proven with, made when there is none.
fn secret(shard: &Shard, domain: DomainId) -> Result<[u8; 32], String> {
    let read = || -> Result<Option<[u8; 32]>, String> {
        let row = shard.get(&FACT, domain, SECRET).map_err(|error| error.to_string())?;
        Ok(row.and_then(|bytes| bytes.try_into().ok()))
    };
    if let Some(secret) = read()? {
        return Ok(secret);
    }
    let new: [u8; 32] = rand::random();
    let made = shard.submit(move |txn| {
        if !matches!(txn.get(&FACT, domain, SECRET), Ok(Some(_))) {
            txn.put(&FACT, domain, SECRET, &new.to_vec());
        }
    });
    made.wait().map_err(|error| error.to_string())?;
    read()?.ok_or_else(|| "the secret that was written is not there".to_owned())
}
