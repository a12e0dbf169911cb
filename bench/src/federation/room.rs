//! A room of many members that nobody ever was in: its events are made here, hashed and signed as their servers would.

use koine_graph::{Draft, Event, RoomVersionRules, SigningKey};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId};
use serde_json::{Value, json, value::to_raw_value};

/// The version of the room.
pub const VERSION: RoomVersionId = RoomVersionId::V11;

/// A server that exists for the keys it signs with.
pub struct Signer {
    /// Its name.
    pub name: OwnedServerName,
    /// Its key.
    pub key: SigningKey,
}

/// The room.
pub struct Room {
    /// Its id.
    pub id: OwnedRoomId,
    rules: RoomVersionRules,
    /// The state that is no membership, in the order of its making.
    pub state: Vec<Event>,
    /// Everybody's membership.
    pub members: Vec<Event>,
    newest: OwnedEventId,
    depth: u64,
    made: u64,
}

impl Room {
    /// A public room with `members` people, dealt out to `servers`, of which the first made it.
    pub fn new(name: &str, servers: &[Signer], members: usize) -> Self {
        let rules = koine_graph::rules(&VERSION).expect("a version that is supported");
        let first = servers.first().expect("some server");
        let id = OwnedRoomId::try_from(format!("!{name}:{}", first.name)).expect("a room id");
        let nobody = OwnedEventId::try_from("$none").expect("an event id");
        let mut room = Self { id, rules, state: Vec::new(), members: Vec::new(), newest: nobody, depth: 0, made: 0 };
        let maker = person(first, 0);
        room.set(first, &maker, "m.room.create", "", &json!({ "room_version": VERSION }));
        room.join(first, 0);
        let levels = json!({ "users": { (maker.as_str()): 100 }, "events_default": 0, "state_default": 50 });
        room.set(first, &maker, "m.room.power_levels", "", &levels);
        room.set(first, &maker, "m.room.join_rules", "", &json!({ "join_rule": "public" }));
        room.set(first, &maker, "m.room.history_visibility", "", &json!({ "history_visibility": "shared" }));
        room.set(first, &maker, "m.room.name", "", &json!({ "name": "A big room" }));
        for number in 1..members {
            room.join(&servers[number % servers.len()], number);
        }
        room
    }

    fn set(&mut self, server: &Signer, sender: &OwnedUserId, kind: &str, state_key: &str, content: &Value) {
        let event = self.make(server, sender, (kind, Some(state_key)), content);
        self.state.push(event);
    }

    fn join(&mut self, server: &Signer, number: usize) {
        let user = person(server, number);
        let content = json!({ "membership": "join", "displayname": format!("Member number {number}") });
        let event = self.make(server, &user, ("m.room.member", Some(user.as_str())), &content);
        self.members.push(event);
    }

    /// A message of the maker's that follows everything.
    pub fn message(&mut self, server: &Signer, text: &str) -> Event {
        let content = json!({ "msgtype": "m.text", "body": text });
        self.make(server, &person(server, 0), ("m.room.message", None), &content)
    }

    fn make(
        &mut self,
        server: &Signer,
        sender: &OwnedUserId,
        (kind, state_key): (&str, Option<&str>),
        content: &Value,
    ) -> Event {
        self.depth += 1;
        self.made += 1;
        let now = MilliSecondsSinceUnixEpoch::now();
        let draft = Draft {
            room_id: Some(self.id.clone()),
            sender: sender.clone(),
            kind: kind.to_owned(),
            state_key: state_key.map(ToOwned::to_owned),
            content: to_raw_value(content).expect("JSON"),
            redacts: None,
            prev_events: if self.made == 1 { Vec::new() } else { vec![self.newest.clone()] },
            auth_events: self.auth_events(sender, kind),
            depth: self.depth,
            origin_server_ts: now,
        };
        let event = draft.seal(&self.rules, &server.name, &server.key).expect("an event");
        self.newest = event.event_id().to_owned();
        event
    }

    fn auth_events(&self, sender: &OwnedUserId, kind: &str) -> Vec<OwnedEventId> {
        let mut wanted = vec!["m.room.create", "m.room.power_levels"];
        if kind == "m.room.member" {
            wanted.push("m.room.join_rules");
        }
        let state = self.state.iter().filter(|event| wanted.contains(&event.kind()));
        // The maker alone sends anything but joins.
        let own = self.members.first().filter(|member| member.state_key() == Some(sender.as_str()));
        state.chain(own).map(|event| event.event_id().to_owned()).collect()
    }

    /// What allows a join.
    fn auth_of_join(&self) -> Vec<&str> {
        let kinds = ["m.room.create", "m.room.power_levels", "m.room.join_rules"];
        self.state.iter().filter(|event| kinds.contains(&event.kind())).map(|event| event.event_id().as_str()).collect()
    }

    /// A template of somebody's joining. [SS-API §get_matrixfederationv1make_joinroomiduserid]
    pub fn template(&self, user: &str) -> Value {
        let event = json!({
            "type": "m.room.member", "room_id": self.id, "sender": user, "state_key": user, "depth": self.depth + 1,
            "content": { "membership": "join" }, "prev_events": [self.newest], "auth_events": self.auth_of_join(),
            "origin_server_ts": MilliSecondsSinceUnixEpoch::now(),
        });
        json!({ "room_version": VERSION, "event": event })
    }

    /// What somebody else made is the newest event now.
    pub fn follow(&mut self, id: OwnedEventId) {
        self.newest = id;
        self.depth += 1;
    }
}

/// A member, by number; number 0 of the first server made the room.
fn person(server: &Signer, number: usize) -> OwnedUserId {
    OwnedUserId::try_from(format!("@person{number}:{}", server.name)).expect("a user id")
}
