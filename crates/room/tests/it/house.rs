//! A server's rooms for tests: alice, bob and carol at example.org.

use std::sync::Arc;

use koine_graph::SigningKey;
use koine_room::{CommandError, CreateRoom, Preset, Profile, Room, Rooms, RoomsConfig, Sender};
use koine_store::{DomainId, Engine, MemoryEngine, Shard};
use ruma_common::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, UserId,
    owned_server_name, user_id,
};
use serde_json::{Value, json, value::to_raw_value};

pub fn alice() -> &'static UserId {
    user_id!("@alice:example.org")
}

pub fn bob() -> &'static UserId {
    user_id!("@bob:example.org")
}

pub fn carol() -> &'static UserId {
    user_id!("@carol:example.org")
}

/// Every server's key.
pub fn key() -> SigningKey {
    SigningKey::from_seed("test", &[7; 32]).expect("a key")
}

/// Rooms on an engine that outlives them.
pub struct House {
    pub engine: Arc<dyn Engine>,
    pub rooms: Arc<Rooms>,
}

impl House {
    pub fn new() -> Self {
        Self::on(Arc::new(MemoryEngine::new()))
    }

    pub fn on(engine: Arc<dyn Engine>) -> Self {
        Self::named(engine, owned_server_name!("example.org"))
    }

    /// A server of another name.
    pub fn elsewhere(name: &str) -> Self {
        Self::named(Arc::new(MemoryEngine::new()), name.try_into().expect("a server's name"))
    }

    fn named(engine: Arc<dyn Engine>, server_name: OwnedServerName) -> Self {
        let shard = Shard::open(engine.clone()).expect("the engine opens");
        let config = RoomsConfig {
            domain: DomainId(1),
            server_name,
            signing_key: key(),
            cache_bytes: 8 << 20,
            now: MilliSecondsSinceUnixEpoch::now,
            opaque_id: koine_room::opaque_id,
        };
        Self { engine, rooms: Rooms::open(shard, config).expect("rooms open") }
    }

    /// The same data under a new process.
    pub fn restarted(self) -> Self {
        let Self { engine, rooms } = self;
        rooms.shard().close();
        drop(rooms);
        Self::on(engine)
    }

    /// The same for a server of another name.
    pub fn restarted_as(self, name: &str) -> Self {
        let Self { engine, rooms } = self;
        rooms.shard().close();
        drop(rooms);
        Self::named(engine, name.try_into().expect("a server's name"))
    }

    pub async fn create(&self, preset: Preset, version: RoomVersionId) -> OwnedRoomId {
        self.rooms.create(new_room(preset, version)).await.expect("the room is made")
    }

    pub async fn public_room(&self) -> OwnedRoomId {
        self.create(Preset::PublicChat, RoomVersionId::V11).await
    }

    pub async fn join(&self, user: &UserId, room: &RoomId) -> Result<(), CommandError> {
        self.rooms.join(user, room, &Profile::default(), None, serde_json::Map::new()).await
    }

    pub async fn say(&self, user: &UserId, room: &RoomId, text: &str) -> OwnedEventId {
        let content = to_raw_value(&json!({ "msgtype": "m.text", "body": text })).expect("JSON");
        let sender = Sender { user, device: None };
        self.rooms.send(sender, room, "m.room.message", &content, None).await.expect("the message is sent")
    }

    pub async fn set(
        &self,
        user: &UserId,
        room: &RoomId,
        kind: &str,
        content: Value,
    ) -> Result<OwnedEventId, CommandError> {
        let content = to_raw_value(&content).expect("JSON");
        self.rooms.set_state(Sender { user, device: None }, room, kind, "", &content).await
    }

    pub fn room(&self, id: &RoomId) -> Arc<Room> {
        self.rooms.room(id).expect("the room is here")
    }

    /// Bodies of the room's messages, oldest first.
    pub fn bodies(&self, id: &RoomId) -> Vec<String> {
        let room = self.room(id);
        let mut events = room.newest(i64::MIN, i64::MAX, 1000).expect("readable");
        events.reverse();
        events.iter().filter_map(|placed| placed.event.content_field("body")).collect()
    }
}

pub fn new_room(preset: Preset, version: RoomVersionId) -> CreateRoom {
    CreateRoom {
        creator: alice().to_owned(),
        profile: Profile { displayname: Some("Alice".into()), avatar_url: None },
        version,
        preset,
        creation_content: serde_json::Map::new(),
        power_levels: serde_json::Map::new(),
        initial_state: vec![],
        name: Some("A room".into()),
        topic: None,
        alias: None,
        invite: vec![],
        is_direct: false,
        listed: false,
    }
}
