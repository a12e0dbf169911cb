//! A room with its events and states in memory, for tests that need a graph.

#![expect(clippy::needless_pass_by_value, reason = "stories read better with contents written in place")]

use std::collections::{BTreeSet, HashMap};

use koine_graph::{
    Draft, Event, Legacy, RoomVersionRules, SigningKey, StateMap,
    auth::{self, AuthState, CheckError, Refusal},
    resolve::{EventSource, resolve},
    state::MemoryNodes,
};
use ruma_common::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId, ServerName,
};
use serde_json::{Value, json, value::to_raw_value};

/// A room.
pub struct World {
    pub rules: RoomVersionRules,
    pub events: HashMap<OwnedEventId, Event>,
    pub nodes: MemoryNodes,
    /// State after each event.
    pub after: HashMap<OwnedEventId, StateMap>,
    pub room_id: Option<OwnedRoomId>,
    pub last: Vec<OwnedEventId>,
    made: u32,
}

pub fn key() -> SigningKey {
    SigningKey::from_seed("1", &[3; 32]).expect("a fine version")
}

pub fn user(name: &str) -> OwnedUserId {
    let id = if name.contains(':') { format!("@{name}") } else { format!("@{name}:example.org") };
    OwnedUserId::try_from(id).expect("a user id")
}

impl World {
    /// A room in which nothing happened.
    pub fn empty(version: &RoomVersionId) -> Self {
        let rules = koine_graph::rules(version).expect("supported");
        let room_id = (!rules.authorization.room_create_event_id_as_room_id)
            .then(|| OwnedRoomId::try_from("!room:example.org").expect("a room id"));
        Self {
            rules,
            events: HashMap::new(),
            nodes: MemoryNodes::new(),
            after: HashMap::new(),
            room_id,
            last: Vec::new(),
            made: 0,
        }
    }

    /// A room that alice made, with her in it.
    pub fn new(version: &RoomVersionId) -> Self {
        let mut world = Self::empty(version);
        world.ok("alice", "m.room.create", Some(""), json!({ "creator": "@alice:example.org" }));
        world.join("alice");
        world
    }

    /// ... with her power levels and open doors, as rooms usually are.
    pub fn open(version: &RoomVersionId) -> Self {
        let mut world = Self::new(version);
        let mut users = json!({ "@alice:example.org": 100 });
        if world.rules.authorization.explicitly_privilege_room_creators {
            users = json!({});
        }
        world.ok("alice", "m.room.power_levels", Some(""), json!({ "users": users }));
        world.ok("alice", "m.room.join_rules", Some(""), json!({ "join_rule": "public" }));
        world
    }

    pub fn join(&mut self, name: &str) {
        let user = user(name);
        self.ok(name, "m.room.member", Some(user.as_str()), json!({ "membership": "join" }));
    }

    /// Sends after the newest events; the room must allow it.
    pub fn ok(&mut self, sender: &str, kind: &str, state_key: Option<&str>, content: Value) -> Event {
        let prev = self.last.clone();
        let event = self.send_after(&prev, sender, kind, state_key, content.clone(), None);
        event.unwrap_or_else(|refusal| panic!("{sender} {kind} {content}: {refusal}"))
    }

    /// Sends after the newest events; the room must refuse it.
    pub fn refused(&mut self, sender: &str, kind: &str, state_key: Option<&str>, content: Value) -> Refusal {
        let prev = self.last.clone();
        match self.send_after(&prev, sender, kind, state_key, content.clone(), None) {
            Ok(_) => panic!("{sender} {kind} {content} was allowed"),
            Err(refusal) => refusal,
        }
    }

    /// The state that events after `prev` come into.
    pub fn before(&mut self, prev: &[OwnedEventId]) -> StateMap {
        let states: Vec<StateMap> = prev.iter().map(|id| self.after[id]).collect();
        let change = resolve(&self.rules, &self.nodes, &Events(&self.events), &states).expect("all is there");
        self.nodes.keep(change)
    }

    pub fn draft(
        &mut self,
        prev: &[OwnedEventId],
        sender: &str,
        kind: &str,
        state_key: Option<&str>,
        content: &Value,
        ts: Option<u32>,
    ) -> (Draft, StateMap) {
        let state = self.before(prev);
        let content = to_raw_value(content).expect("JSON");
        let sender = user(sender);
        let auth_events = auth::needed(&self.rules, kind, &sender, state_key, &content)
            .into_iter()
            .filter_map(|(kind, state_key)| state.get(&self.nodes, kind, &state_key).expect("all is there"))
            .collect();
        self.made += 1;
        let draft = Draft {
            room_id: self.room_id.clone(),
            sender,
            kind: kind.to_owned(),
            state_key: state_key.map(ToOwned::to_owned),
            content,
            redacts: None,
            prev_events: prev.to_vec(),
            auth_events,
            depth: prev.iter().map(|id| self.events[id].depth()).max().unwrap_or(0) + 1,
            origin_server_ts: MilliSecondsSinceUnixEpoch(ts.unwrap_or(self.made).into()),
        };
        (draft, state)
    }

    pub fn seal(&self, draft: Draft) -> Event {
        let server = ServerName::parse("example.org").expect("a server name");
        let opaque_id = format!("e{}", self.made);
        let reference_hash = |id: &EventId| self.events.get(id).map(|event| event.reference_hash(&self.rules));
        let legacy = Legacy { opaque_id: &opaque_id, reference_hash: &reference_hash };
        draft.seal_with(&self.rules, &server, &key(), Some(&legacy)).expect("a fine draft")
    }

    /// Sends after these events.
    pub fn send_after(
        &mut self,
        prev: &[OwnedEventId],
        sender: &str,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
        ts: Option<u32>,
    ) -> Result<Event, Refusal> {
        let (draft, state) = self.draft(prev, sender, kind, state_key, &content, ts);
        let event = self.seal(draft);
        self.add(event, state)
    }

    /// Adds an event on top of `state`, if the room allows it.
    pub fn add(&mut self, event: Event, state: StateMap) -> Result<Event, Refusal> {
        let verdict = auth::check(&self.rules, &event, &At(self, state));
        verdict.map_err(|error| match error {
            CheckError::Refused(refusal) => refusal,
            CheckError::State(never) => match never {},
        })?;
        let auth_events: Vec<Event> = event.auth_events().iter().map(|id| self.events[id].clone()).collect();
        auth::check_auth_events(&self.rules, &event, &auth_events, |_| false).expect("selected by the same rules");
        if event.kind() == "m.room.create" {
            self.room_id = Some(event.room_id().to_owned());
        }
        let mut after = state;
        if let Some(state_key) = event.state_key() {
            let change = state.insert(&self.nodes, event.kind(), state_key, event.event_id()).expect("all is there");
            after = self.nodes.keep(change);
        }
        let id = event.event_id().to_owned();
        self.last = vec![id.clone()];
        self.after.insert(id.clone(), after);
        self.events.insert(id, event.clone());
        Ok(event)
    }

    /// Everything in the auth chains of these events, without them.
    pub fn auth_chain(&self, from: impl IntoIterator<Item = OwnedEventId>) -> BTreeSet<OwnedEventId> {
        let mut chain = BTreeSet::new();
        let mut next: Vec<OwnedEventId> =
            from.into_iter().flat_map(|id| self.events[&id].auth_events().to_vec()).collect();
        while let Some(id) = next.pop() {
            if chain.insert(id.clone()) {
                next.extend(self.events[&id].auth_events().iter().cloned());
            }
        }
        chain
    }
}

/// Events in memory.
pub struct Events<'a>(pub &'a HashMap<OwnedEventId, Event>);

impl EventSource for Events<'_> {
    type Error = std::convert::Infallible;

    fn event(&self, id: &EventId) -> Result<Option<Event>, Self::Error> {
        Ok(self.0.get(id).cloned())
    }
}

/// A state of a world.
pub struct At<'a>(pub &'a World, pub StateMap);

impl AuthState for At<'_> {
    type Error = std::convert::Infallible;

    fn get(&self, kind: &str, state_key: &str) -> Result<Option<Event>, Self::Error> {
        let id = self.1.get(&self.0.nodes, kind, state_key).expect("all nodes are there");
        Ok(id.map(|id| self.0.events[&id].clone()))
    }
}
