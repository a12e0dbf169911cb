//! One server of a world: rooms, accounts and federation over a disk in memory, which a crash leaves behind.

use std::sync::Arc;

use koine_account::{AccountConfig, Accounts};
use koine_graph::SigningKey;
use koine_matrix_federation::{Cores, Federation, FederationConfig, router};
use koine_room::{Room, Rooms, RoomsConfig};
use koine_store::{DomainId, MemoryEngine, Shard, ShardConfig};
use parking_lot::Mutex;
use ruma_common::{OwnedServerName, OwnedUserId, RoomId};

use crate::{
    chance, clock,
    network::{Network, Plug},
};

const DOMAIN: DomainId = DomainId(1);
const CACHE_BYTES: u64 = 8 << 20;

/// A server.
pub struct House {
    name: OwnedServerName,
    network: Arc<Network>,
    disk: MemoryEngine,
    running: Mutex<Arc<Running>>,
}

/// What a crash ends.
pub struct Running {
    /// Its rooms.
    pub rooms: Arc<Rooms>,
    /// Its people.
    pub accounts: Arc<Accounts>,
}

impl House {
    /// An empty server with an address on the network.
    pub fn new(network: &Arc<Network>, name: &str) -> Self {
        let name = OwnedServerName::try_from(name).expect("a server's name");
        let disk = MemoryEngine::new();
        let running = Mutex::new(start(network, &name, &disk));
        Self { name, network: network.clone(), disk, running }
    }

    /// Its name.
    pub fn name(&self) -> &OwnedServerName {
        &self.name
    }

    /// Somebody of it.
    pub fn user(&self, name: &str) -> OwnedUserId {
        format!("@{name}:{}", self.name).try_into().expect("a user's id")
    }

    /// What runs now.
    pub fn running(&self) -> Arc<Running> {
        self.running.lock().clone()
    }

    /// Its rooms.
    pub fn rooms(&self) -> Arc<Rooms> {
        self.running().rooms.clone()
    }

    /// A room, if it knows it.
    pub fn room(&self, id: &RoomId) -> Option<Arc<Room>> {
        self.rooms().room(id).ok()
    }

    /// Ends at once, and begins again with what was on its disk. What the old one still has under way goes nowhere.
    pub fn crash(&self) {
        self.network.serve(&self.name, None);
        let mut running = self.running.lock();
        running.rooms.shard().close();
        *running = start(&self.network, &self.name, &self.disk);
    }

    /// Makes an account, so that others can invite it.
    pub async fn open_account(&self, name: &str) -> OwnedUserId {
        let wanted = koine_account::NewAccount { name: Some(name.to_owned()), ..Default::default() };
        let accounts = self.running().accounts.clone();
        accounts.create(wanted).await.expect("nobody has the name").0
    }
}

fn start(network: &Arc<Network>, name: &OwnedServerName, disk: &MemoryEngine) -> Arc<Running> {
    let mut seed = [7; 32];
    seed.iter_mut().zip(name.as_bytes()).for_each(|(seed, byte)| *seed = *byte);
    let signing_key = SigningKey::from_seed("1", &seed).expect("a key");
    let config = ShardConfig { works_in_caller: true, ..ShardConfig::default() };
    let shard = Shard::open_with(Arc::new(disk.clone()), config).expect("the disk is readable");
    let clock = Arc::new(clock::now);
    let accounts = Accounts::new(shard.clone(), DOMAIN, name.clone(), AccountConfig::default(), clock);
    let config = RoomsConfig {
        domain: DOMAIN,
        server_name: name.clone(),
        signing_key: signing_key.clone(),
        cache_bytes: CACHE_BYTES,
        now: clock::now,
        opaque_id: chance::opaque_id,
    };
    let rooms = Rooms::open(shard, config).expect("the disk is readable");
    let federation = Federation::new(Cores {
        domain: DOMAIN,
        rooms: rooms.clone(),
        accounts: accounts.clone(),
        media: None,
        signing_key,
        peers: Arc::new(Plug { network: network.clone(), name: name.clone() }),
        config: FederationConfig::default(),
        now: clock::now,
    });
    federation.start();
    network.serve(name, Some(router(federation)));
    Arc::new(Running { rooms, accounts })
}
