//! A server in this process, whole but for its disk, for targets that talk to one.

pub mod api;
pub mod streams;

use std::sync::Arc;

use koine_account::{AccountConfig, Accounts, LimitConfig, PasswordConfig, Registration};
use koine_graph::SigningKey;
use koine_media::{Media, Place};
use koine_push::PushRules;
use koine_room::{Rooms, RoomsConfig};
use koine_store::{DomainId, MemoryEngine, Shard};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedServerName, owned_server_name};

/// Where everybody lives.
pub const DOMAIN: &str = "fuzz.test";
/// What everybody says to log in.
pub const PASSWORD: &str = "secret secret";

/// What every protocol is served from.
pub struct Parts {
    pub domain: DomainId,
    pub accounts: Arc<Accounts>,
    pub rooms: Arc<Rooms>,
    pub media: Media,
    pub push: Arc<PushRules>,
    /// Where the media lie, for as long as somebody reads them.
    _folder: tempfile::TempDir,
}

impl Parts {
    /// Of a server that nobody uses yet, and that lets everybody do as much as they like.
    pub fn new() -> Self {
        let passwords = PasswordConfig { argon2_memory_kib: 8, argon2_passes: 1, scram_iterations: 4_096 };
        let limits = LimitConfig::unlimited();
        let config = AccountConfig { passwords, limits, registration: Registration::Open, ..AccountConfig::default() };
        let (domain, server_name): (_, OwnedServerName) = (DomainId(1), owned_server_name!("fuzz.test"));
        let shard = Shard::open(Arc::new(MemoryEngine::new())).expect("an empty engine opens");
        let clock = Arc::new(MilliSecondsSinceUnixEpoch::now);
        let accounts = Accounts::new(shard.clone(), domain, server_name.clone(), config, clock);
        let rooms = RoomsConfig {
            domain,
            server_name: server_name.clone(),
            signing_key: SigningKey::from_seed("fuzz", &[7; 32]).expect("a valid key id"),
            cache_bytes: 16 * 1024 * 1024,
            now: MilliSecondsSinceUnixEpoch::now,
            opaque_id: koine_room::opaque_id,
        };
        let rooms = Rooms::open(shard.clone(), rooms).expect("an empty store opens");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = Place { domain, server_name, folder: folder.path().to_owned() };
        let media = Media::open(shard, place, koine_media::Config::default()).expect("an empty folder opens");
        let push = Arc::new(PushRules::new(accounts.clone()));
        Self { domain, accounts, rooms, media, push, _folder: folder }
    }
}

impl Default for Parts {
    fn default() -> Self {
        Self::new()
    }
}
