//! A server with alice, and bob who has an address of mail and nothing else.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hickory_resolver::proto::rr::rdata::TLSA;
use koine_account::{AccountConfig, Accounts, LimitConfig, NewAccount, PasswordConfig, Registration};
use koine_graph::SigningKey;
use koine_mail::out::{Answering, Found, Lookup, LookupError, Out, OutConfig, OutCores};
use koine_media::{Media, Place};
use koine_net::guard::{Guard, LOOPBACK};
use koine_projection::mail::Address;
use koine_room::{CreateRoom, Preset, Profile, Room, Rooms, RoomsConfig, Sender};
use koine_store::{DomainId, Engine, MemoryEngine, Shard};
use parking_lot::Mutex;
use ruma_common::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId, UserId,
};
use serde_json::{Map, Value, json, value::to_raw_value};

/// What stands under a name.
type Names<T> = Mutex<HashMap<String, Vec<T>>>;

/// What DNS knows.
#[derive(Clone, Default)]
pub struct Zone {
    pub exchanges: Arc<Names<(u16, String)>>,
    pub addresses: Arc<Names<IpAddr>>,
    pub silent: Arc<Mutex<bool>>,
    /// `None` under a name is an answer that does not come.
    pub certificates: Arc<Mutex<HashMap<String, Option<Vec<TLSA>>>>>,
    /// Names whose records are signed.
    pub signed: Arc<Mutex<HashSet<String>>>,
}

impl Zone {
    fn found<T>(&self, records: Vec<T>, name: &str) -> Result<Found<T>, LookupError> {
        Ok(Found { records, name: name.to_owned(), is_proven: self.signed.lock().contains(name) })
    }

    fn answer<T: Clone>(&self, of: &Names<T>, name: &str) -> Result<Found<T>, LookupError> {
        if *self.silent.lock() {
            return Err(LookupError::Failed("no answer".into()));
        }
        self.found(of.lock().get(name).cloned().ok_or(LookupError::NotFound)?, name)
    }
}

impl Lookup for Zone {
    fn exchanges<'a>(&'a self, domain: &'a str) -> Answering<'a, Found<(u16, String)>> {
        Box::pin(async move { self.answer(&self.exchanges, domain) })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> Answering<'a, Found<IpAddr>> {
        Box::pin(async move { self.answer(&self.addresses, host) })
    }

    fn certificates<'a>(&'a self, name: &'a str) -> Answering<'a, Found<TLSA>> {
        Box::pin(async move {
            match self.certificates.lock().get(name).cloned() {
                Some(Some(records)) => self.found(records, name),
                Some(None) => Err(LookupError::Failed("the resolver says SERVFAIL".into())),
                None => Err(LookupError::NotFound),
            }
        })
    }

    fn texts<'a>(&'a self, _: &'a str) -> Answering<'a, Vec<String>> {
        Box::pin(async move { Err(LookupError::NotFound) })
    }
}

pub struct World {
    pub out: Out,
    pub rooms: Arc<Rooms>,
    pub accounts: Arc<Accounts>,
    pub media: Media,
    pub zone: Zone,
    pub clock: Arc<AtomicU64>,
    pub folder: Arc<tempfile::TempDir>,
    config: OutConfig,
    engine: Arc<dyn Engine>,
}

pub fn alice() -> OwnedUserId {
    OwnedUserId::try_from("@alice:example.org").expect("a user")
}

/// Whoever has an address of mail.
pub fn ghost(address: &str) -> OwnedUserId {
    let server: OwnedServerName = "example.org".try_into().expect("a name");
    let address = Address::parse(address).expect("an address");
    let name = koine_projection::id::ghost_from_address(&address, &server).expect("it is short");
    format!("@{name}:example.org").try_into().expect("a user")
}

/// Keys that sign, made once for all tests: making them takes long.
fn put_keys(folder: &std::path::Path) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use mail_auth::dkim::generate::DkimKeyPair;
    static KEYS: std::sync::OnceLock<[(&str, String); 2]> = std::sync::OnceLock::new();
    let pem = |label: &str, key: &DkimKeyPair| {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(key.private_key()))
    };
    let keys = KEYS.get_or_init(|| {
        let rsa = DkimKeyPair::generate_rsa(2048).expect("a key");
        let ed25519 = DkimKeyPair::generate_ed25519().expect("a key");
        [("dkim-rsa.pem", pem("RSA PRIVATE KEY", &rsa)), ("dkim-ed25519.pem", pem("PRIVATE KEY", &ed25519))]
    });
    for (name, pem) in keys {
        std::fs::write(folder.join(name), pem).expect("a writable folder");
    }
}

impl World {
    pub async fn new(config: OutConfig) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        put_keys(folder.path());
        let clock = Arc::new(AtomicU64::new(1_800_000_000_000));
        let world = Self::on(Arc::new(MemoryEngine::new()), config, Zone::default(), clock, folder);
        for name in ["alice", "carol"] {
            let wanted =
                NewAccount { name: Some(name.into()), password: Some("secret secret".into()), ..NewAccount::default() };
            world.accounts.create(wanted).await.expect("the name is free");
        }
        // From here on the log is followed.
        world.settle().await;
        world
    }

    /// To a server of the test: it is the MX of example.net.
    pub async fn towards(server: &super::server::Server, config: OutConfig) -> Self {
        let world = Self::new(OutConfig { port: server.address.port(), ..config }).await;
        world.zone.exchanges.lock().insert("example.net".into(), vec![(10, "mx.example.net".into())]);
        world.zone.addresses.lock().insert("mx.example.net".into(), vec![server.address.ip()]);
        world
    }

    fn on(
        engine: Arc<dyn Engine>,
        config: OutConfig,
        zone: Zone,
        clock: Arc<AtomicU64>,
        folder: Arc<tempfile::TempDir>,
    ) -> Self {
        let domain = DomainId(1);
        let server_name: OwnedServerName = "example.org".try_into().expect("a name");
        let shard = Shard::open(engine.clone()).expect("the engine opens");
        let passwords = PasswordConfig { argon2_memory_kib: 8, argon2_passes: 1, scram_iterations: 4096 };
        let of_accounts = AccountConfig {
            passwords,
            registration: Registration::Open,
            limits: LimitConfig::unlimited(),
            ..AccountConfig::default()
        };
        let now = Arc::new(MilliSecondsSinceUnixEpoch::now);
        let accounts = Accounts::new(shard.clone(), domain, server_name.clone(), of_accounts, now);
        let of_rooms = RoomsConfig {
            domain,
            server_name: server_name.clone(),
            signing_key: SigningKey::from_seed("test", &[7; 32]).expect("a key"),
            cache_bytes: 8 << 20,
            now: MilliSecondsSinceUnixEpoch::now,
            opaque_id: koine_room::opaque_id,
        };
        let rooms = Rooms::open(shard.clone(), of_rooms).expect("rooms open");
        let place = Place { domain, server_name, folder: folder.path().join("media") };
        let media = Media::open(shard, place, koine_media::Config::default()).expect("media open");
        let authorities = folder.path().join("authorities.pem");
        let time = clock.clone();
        let out = Out::open(OutCores {
            domain,
            rooms: rooms.clone(),
            accounts: accounts.clone(),
            media: media.clone(),
            dns: Arc::new(zone.clone()),
            web: koine_net::Client::new(&koine_net::Config::default()).expect("a client"),
            guard: Guard::new(LOOPBACK.to_vec()),
            authorities: authorities.exists().then_some(authorities),
            data_dir: folder.path().to_owned(),
            base_url: Some("https://web.example.org".into()),
            hostname: "mail.example.org".into(),
            config: config.clone(),
            now_ms: Arc::new(move || time.load(Ordering::Relaxed)),
            patience: Some(Duration::from_secs(5)),
        })
        .expect("it opens");
        Self { out, rooms, accounts, media, zone, clock, folder, config, engine }
    }

    /// The same after a restart; `edit` changes the settings.
    pub fn restarted(self, edit: impl FnOnce(&mut OutConfig)) -> Self {
        let Self { out, rooms, accounts, media, zone, clock, folder, mut config, engine } = self;
        rooms.shard().close();
        drop((out, rooms, accounts, media));
        edit(&mut config);
        Self::on(engine, config, zone, clock, folder)
    }

    /// Certificates in this file are believed after a restart.
    pub fn believe(&self, pem: &str) {
        std::fs::write(self.folder.path().join("authorities.pem"), pem).expect("a writable folder");
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds * 1_000, Ordering::Relaxed);
    }

    pub async fn settle(&self) {
        self.out.settle().await.expect("the store works");
    }

    /// The lines are said, a minute passes, and what is due is done.
    pub async fn after_silence(&self) {
        self.settle().await;
        self.pass(61);
        self.settle().await;
    }

    /// A room of alice and people with addresses of mail.
    pub async fn room(&self, addresses: &[&str]) -> OwnedRoomId {
        self.room_named(None, addresses).await
    }

    pub async fn room_named(&self, name: Option<&str>, addresses: &[&str]) -> OwnedRoomId {
        let new = CreateRoom {
            creator: alice(),
            profile: Profile { displayname: Some("Alice".into()), avatar_url: None },
            version: RoomVersionId::V11,
            preset: Preset::TrustedPrivateChat,
            creation_content: Map::new(),
            power_levels: Map::new(),
            initial_state: vec![],
            name: name.map(ToOwned::to_owned),
            topic: None,
            alias: None,
            invite: addresses.iter().map(|address| (ghost(address), Profile::default())).collect(),
            is_direct: name.is_none(),
            listed: false,
        };
        let id = self.rooms.create(new).await.expect("the room is made");
        for address in addresses {
            let profile = Profile { displayname: Some(format!("Bob ({address})")), avatar_url: None };
            self.rooms.join(&ghost(address), &id, &profile, None, Map::new()).await.expect("the ghost was invited");
        }
        id
    }

    pub async fn send(&self, user: &UserId, room: &OwnedRoomId, kind: &str, content: Value) -> OwnedEventId {
        let content = to_raw_value(&content).expect("JSON");
        self.rooms.send(Sender { user, device: None }, room, kind, &content, None).await.expect("it is taken")
    }

    pub async fn say(&self, room: &OwnedRoomId, text: &str) -> OwnedEventId {
        self.send(&alice(), room, "m.room.message", json!({ "msgtype": "m.text", "body": text })).await
    }

    pub fn room_of(&self, id: &OwnedRoomId) -> Arc<Room> {
        self.rooms.room(id).expect("it is there")
    }

    /// What correspondents' notices in a room say, oldest first.
    pub fn notices(&self, id: &OwnedRoomId) -> Vec<(String, Value)> {
        let mut events = self.room_of(id).newest(i64::MIN, i64::MAX, 1_000).expect("readable");
        events.reverse();
        let content = |placed: &koine_room::Placed| -> Value {
            serde_json::from_str(placed.event.content().get()).expect("JSON")
        };
        let notices = events.iter().map(|placed| content(placed)).filter(|content| content["msgtype"] == "m.notice");
        notices.map(|content| (content["body"].as_str().unwrap_or_default().to_owned(), content)).collect()
    }
}
