//! Several servers, each with the others at hand. Requests go from router to router.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use koine_account::{AccountConfig, Accounts};
use koine_graph::SigningKey;
use koine_matrix_federation::{
    Bounds, Cores, Federation, FederationConfig, Future, Incoming, PeerError, Peers, router,
};
use koine_room::{CommandError, CreateRoom, Preset, Profile, Room, Rooms, RoomsConfig, Sender};
use koine_store::{DomainId, Engine, MemoryEngine, Shard};
use parking_lot::Mutex;
use ruma_common::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId,
    ServerName, UserId,
};
use serde_json::{Value, json, value::to_raw_value};
use tower::ServiceExt as _;

/// How an answer arrives.
type Arrival = Arc<dyn Fn(Bytes) -> Box<dyn Incoming> + Send + Sync>;

/// An answer to a path, if there is one.
type Instead = Arc<dyn Fn(&str) -> Option<Value> + Send + Sync>;

/// What connects the servers.
#[derive(Default)]
pub struct Links {
    routers: Mutex<HashMap<OwnedServerName, Router>>,
    /// Servers that cannot be reached.
    down: Mutex<HashSet<OwnedServerName>>,
    /// Answers that arrive in another way than as a whole, by a part of their path.
    arriving: Mutex<Option<(&'static str, Arrival)>>,
    /// Servers that take requests and never answer.
    silent: Mutex<HashSet<OwnedServerName>>,
    /// What a server answers in place of itself, by the path.
    instead: Mutex<Option<(OwnedServerName, Instead)>>,
    /// A part of paths that are not answered for now.
    held_up: Mutex<Option<&'static str>>,
    /// What was asked, as `origin path`.
    pub asked: Mutex<Vec<String>>,
}

impl Links {
    pub fn set_down(&self, name: &str, down: bool) {
        let name = OwnedServerName::try_from(name).expect("a name");
        match down {
            true => self.down.lock().insert(name),
            false => self.down.lock().remove(&name),
        };
    }

    /// Nobody answers to paths with `part` in them, until it is `None`.
    pub fn hold_up(&self, part: Option<&'static str>) {
        *self.held_up.lock() = part;
    }

    /// Successful answers to paths with `part` in them arrive as `arrival` says.
    pub fn answer_with(
        &self,
        part: &'static str,
        arrival: impl Fn(Bytes) -> Box<dyn Incoming> + Send + Sync + 'static,
    ) {
        *self.arriving.lock() = Some((part, Arc::new(arrival)));
    }

    /// From now on the server takes requests and never answers.
    pub fn silence(&self, name: &ServerName) {
        self.silent.lock().insert(name.to_owned());
    }

    /// The server answers so where there is such an answer.
    pub fn answer_instead(&self, name: &ServerName, answer: impl Fn(&str) -> Option<Value> + Send + Sync + 'static) {
        *self.instead.lock() = Some((name.to_owned(), Arc::new(answer)));
    }

    /// Puts other endpoints beside those of a server.
    pub fn add_endpoints(&self, name: &ServerName, endpoints: Router) {
        let mut routers = self.routers.lock();
        let router = routers.remove(name).unwrap_or_default();
        routers.insert(name.to_owned(), endpoints.merge(router));
    }

    fn is_cut(&self, one: &ServerName, other: &ServerName) -> bool {
        let down = self.down.lock();
        down.contains(one) || down.contains(other)
    }

    pub async fn call(&self, server: &ServerName, request: http::Request<Bytes>) -> Option<http::Response<Bytes>> {
        let router = self.routers.lock().get(server).cloned()?;
        let answer = router.oneshot(request.map(axum::body::Body::from)).await.expect("routers answer");
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Some(http::Response::from_parts(parts, body))
    }
}

struct Linked(Arc<Links>, OwnedServerName);

impl Peers for Linked {
    fn request<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        _: Bounds,
    ) -> Future<'a, Result<http::Response<Bytes>, PeerError>> {
        Box::pin(async move {
            let held_up = *self.0.held_up.lock();
            if self.0.is_cut(server, &self.1) || held_up.is_some_and(|part| request.uri().path().contains(part)) {
                return Err(PeerError::Unreachable("the link is cut".into()));
            }
            self.0.asked.lock().push(format!("{} {}", self.1, request.uri().path()));
            if self.0.silent.lock().contains(server) {
                return std::future::pending().await;
            }
            let instead = self.0.instead.lock().clone().filter(|(name, _)| name == server);
            if let Some(answer) = instead.and_then(|(_, answer)| answer(request.uri().path())) {
                return Ok(http::Response::new(answer.to_string().into()));
            }
            self.0.call(server, request).await.ok_or_else(|| PeerError::Unreachable("no such server".into()))
        })
    }

    fn open<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> Future<'a, Result<http::Response<Box<dyn Incoming>>, PeerError>> {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let answer = self.request(server, request, bounds).await?;
            let arrival = self.0.arriving.lock().clone().filter(|(part, _)| path.contains(part));
            let is_success = answer.status().is_success();
            Ok(answer.map(|body| match arrival {
                Some((_, arrival)) if is_success => arrival(body),
                _ => Box::new(Some(body)) as Box<dyn Incoming>,
            }))
        })
    }

    fn heard_from(&self, _: &ServerName) {}
}

/// A server.
pub struct House {
    pub name: OwnedServerName,
    pub rooms: Arc<Rooms>,
    pub accounts: Arc<Accounts>,
    pub federation: Federation,
    pub links: Arc<Links>,
    pub key: SigningKey,
}

impl House {
    pub async fn new(links: &Arc<Links>, name: &str) -> Self {
        Self::with(links, name, FederationConfig::default()).await
    }

    pub async fn with(links: &Arc<Links>, name: &str, config: FederationConfig) -> Self {
        Self::on(links, name, config, Arc::new(MemoryEngine::new())).await
    }

    /// The same server after a restart, on what it had written.
    pub async fn restarted(self) -> Self {
        let engine = self.rooms.shard().engine().clone();
        let (links, name) = (self.links.clone(), self.name.to_string());
        links.routers.lock().remove(&self.name);
        self.rooms.shard().close();
        drop(self);
        Self::on(&links, &name, FederationConfig::default(), engine).await
    }

    async fn on(links: &Arc<Links>, name: &str, config: FederationConfig, engine: Arc<dyn Engine>) -> Self {
        let federation_config = config;
        let server_name = OwnedServerName::try_from(name).expect("a name");
        let mut seed = [7; 32];
        seed.iter_mut().zip(name.bytes()).for_each(|(seed, byte)| *seed = byte);
        let key = SigningKey::from_seed("1", &seed).expect("a key");
        let shard = Shard::open(engine).expect("the engine opens");
        let clock = Arc::new(MilliSecondsSinceUnixEpoch::now);
        let accounts = Accounts::new(shard.clone(), DomainId(1), server_name.clone(), AccountConfig::default(), clock);
        let config = RoomsConfig {
            domain: DomainId(1),
            server_name: server_name.clone(),
            signing_key: key.clone(),
            cache_bytes: 8 << 20,
            now: MilliSecondsSinceUnixEpoch::now,
            opaque_id: koine_room::opaque_id,
        };
        let rooms = Rooms::open(shard, config).expect("rooms open");
        let federation = Federation::new(Cores {
            domain: DomainId(1),
            rooms: rooms.clone(),
            accounts: accounts.clone(),
            media: None,
            signing_key: key.clone(),
            peers: Arc::new(Linked(links.clone(), server_name.clone())),
            config: federation_config,
            now: MilliSecondsSinceUnixEpoch::now,
        });
        federation.start();
        links.routers.lock().insert(server_name.clone(), router(federation.clone()));
        Self { name: server_name, rooms, accounts, federation, links: links.clone(), key }
    }

    pub fn user(&self, name: &str) -> OwnedUserId {
        format!("@{name}:{}", self.name).try_into().expect("a user id")
    }

    pub async fn account(&self, name: &str) -> OwnedUserId {
        let wanted = koine_account::NewAccount { name: Some(name.to_owned()), ..Default::default() };
        self.accounts.create(wanted).await.expect("an account").0
    }

    pub async fn create(&self, creator: &UserId, preset: Preset, version: RoomVersionId) -> OwnedRoomId {
        self.make(creator, preset, version, None).await
    }

    /// A room of a certain kind.
    pub async fn create_of(&self, creator: &UserId, preset: Preset, kind: Option<&str>) -> OwnedRoomId {
        self.make(creator, preset, RoomVersionId::V11, kind).await
    }

    async fn make(&self, creator: &UserId, preset: Preset, version: RoomVersionId, kind: Option<&str>) -> OwnedRoomId {
        let mut creation_content = serde_json::Map::new();
        creation_content.extend(kind.map(|kind| ("type".to_owned(), json!(kind))));
        let wanted = CreateRoom {
            creator: creator.to_owned(),
            profile: Profile { displayname: Some("Maker".into()), avatar_url: None },
            version,
            preset,
            creation_content,
            power_levels: serde_json::Map::new(),
            initial_state: vec![],
            name: Some("A room".into()),
            topic: None,
            alias: None,
            invite: vec![],
            is_direct: false,
            listed: false,
        };
        self.rooms.create(wanted).await.expect("the room is made")
    }

    pub async fn join(&self, user: &UserId, room: &RoomId, via: &House) -> Result<(), CommandError> {
        let via = [via.name.clone()];
        self.rooms.join_via(user, room, &via, &Profile::default(), None, serde_json::Map::new()).await
    }

    pub async fn invite(&self, sender: &UserId, room: &RoomId, target: &UserId) -> Result<(), CommandError> {
        self.rooms.invite(sender, room, (target, &Profile::default()), None, serde_json::Map::new()).await
    }

    pub async fn say(&self, user: &UserId, room: &RoomId, text: &str) -> OwnedEventId {
        let content = to_raw_value(&json!({ "msgtype": "m.text", "body": text })).expect("JSON");
        let sender = Sender { user, device: None };
        self.rooms.send(sender, room, "m.room.message", &content, None).await.expect("the message is sent")
    }

    pub async fn set(&self, user: &UserId, room: &RoomId, kind: &str, content: Value) -> OwnedEventId {
        self.set_at(user, room, (kind, ""), content).await
    }

    pub async fn set_at(
        &self,
        user: &UserId,
        room: &RoomId,
        (kind, key): (&str, &str),
        content: Value,
    ) -> OwnedEventId {
        let content = to_raw_value(&content).expect("JSON");
        self.rooms.set_state(Sender { user, device: None }, room, kind, key, &content).await.expect("the state is set")
    }

    pub fn room(&self, id: &RoomId) -> Arc<Room> {
        self.rooms.room(id).expect("the room is here")
    }

    /// Bodies of the room's messages, oldest first.
    pub fn bodies(&self, id: &RoomId) -> Vec<String> {
        let mut events = self.room(id).newest(i64::MIN, i64::MAX, 1000).expect("readable");
        events.reverse();
        events.iter().filter_map(|placed| placed.event.content_field("body")).collect()
    }

    /// Ids of the current state, sorted.
    pub fn state(&self, id: &RoomId) -> Vec<OwnedEventId> {
        let room = self.room(id);
        let state = room.state_events(room.published().state, None).expect("readable");
        let mut ids: Vec<_> = state.iter().map(|placed| placed.event.event_id().to_owned()).collect();
        ids.sort();
        ids
    }
}

/// Two servers.
pub async fn pair() -> (House, House) {
    let links = Arc::new(Links::default());
    (House::new(&links, "one.example").await, House::new(&links, "two.example").await)
}

/// Waits, within bounds, until something holds that the tasks of the servers bring about.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come about that {what}");
}
