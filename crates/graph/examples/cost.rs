//! What the steps of sending a message cost, in microseconds: `cargo run --release -p koine-graph --example cost`.
//!
//! Not a benchmark to compare machines by: a look at which step has become dear.

use std::{collections::HashMap, convert::Infallible, hint::black_box, time::Instant};

use koine_graph::{
    ClientForm, Draft, Event, SigningKey, StateMap,
    auth::{self, AuthState},
    state::{Edit, MemoryNodes},
};
use ruma_common::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId, ServerName, UserId,
};
use serde_json::{json, value::to_raw_value};

const ROUNDS: u32 = 20_000;
const MEMBERS: u32 = 100_000;

fn time(name: &str, mut work: impl FnMut()) {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        work();
    }
    println!("{name:<40} {:>8.2}", start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
}

struct At<'a>(&'a MemoryNodes, &'a HashMap<OwnedEventId, Event>, StateMap);

impl AuthState for At<'_> {
    type Error = Infallible;

    fn get(&self, kind: &str, state_key: &str) -> Result<Option<Event>, Infallible> {
        let id = self.2.get(self.0, kind, state_key).expect("all nodes are in memory");
        Ok(id.and_then(|id| self.1.get(&id).cloned()))
    }
}

fn main() {
    let rules = koine_graph::rules(&RoomVersionId::V11).expect("supported");
    let server = ServerName::parse("example.org").expect("a server name");
    let key = SigningKey::from_seed("1", &[1; 32]).expect("a fine version");
    let alice = UserId::parse("@alice:example.org").expect("a user id");
    let (mut nodes, mut events) = (MemoryNodes::new(), HashMap::new());
    let draft = |kind: &str,
                 state_key: Option<&str>,
                 content: &serde_json::Value,
                 prev: &[OwnedEventId],
                 auth: &[OwnedEventId]| Draft {
        room_id: Some(OwnedRoomId::try_from("!room:example.org").expect("a room id")),
        sender: alice.clone(),
        kind: kind.to_owned(),
        state_key: state_key.map(ToOwned::to_owned),
        content: to_raw_value(content).expect("JSON"),
        redacts: None,
        prev_events: prev.to_vec(),
        auth_events: auth.to_vec(),
        depth: 5,
        origin_server_ts: MilliSecondsSinceUnixEpoch(1_700_000_000_000_u64.try_into().expect("a small number")),
    };

    let mut ids: Vec<OwnedEventId> = Vec::new();
    let mut edits: Vec<Edit> = Vec::new();
    for (kind, state_key, content) in [
        ("m.room.create", "", json!({ "room_version": "11" })),
        ("m.room.member", alice.as_str(), json!({ "membership": "join", "displayname": "Alice" })),
        ("m.room.power_levels", "", json!({ "users": { alice.as_str(): 100 }, "events": { "m.room.name": 50 } })),
    ] {
        let event =
            draft(kind, Some(state_key), &content, &ids, &ids).seal(&rules, &server, &key).expect("a fine draft");
        ids.push(event.event_id().to_owned());
        edits.push(Edit::set(kind, state_key, event.event_id().to_owned()));
        events.insert(event.event_id().to_owned(), event);
    }
    let some_id = ids.first().expect("three ids").clone();
    edits.extend((0..MEMBERS).map(|n| Edit::set("m.room.member", &format!("@user{n}:example.org"), some_id.clone())));
    let change = StateMap::EMPTY.apply(&nodes, edits).expect("nothing to fetch");
    let state = nodes.keep(change);

    let content =
        json!({ "msgtype": "m.text", "body": "a message of ordinary length, as people send them all day long" });
    let prev = ids.get(2..).unwrap_or_default();
    let message = draft("m.room.message", None, &content, prev, &ids);
    let event = message.clone().seal(&rules, &server, &key).expect("a fine draft");
    println!("{} bytes\n", event.json().len());

    time("clone a draft", || drop(black_box(message.clone())));
    time("seal (with that clone)", || drop(black_box(message.clone().seal(&rules, &server, &key))));
    time("  of which ed25519", || {
        black_box(key.sign(event.json()));
    });
    let at = At(&nodes, &events, state);
    time("select auth events", || {
        for (kind, state_key) in auth::needed(&rules, event.kind(), &alice, None, event.content()) {
            black_box(state.get(&nodes, kind, &state_key)).expect("all nodes are in memory");
        }
    });
    time("auth check", || auth::check(&rules, &event, &at).expect("allowed"));
    time("from stored", || drop(black_box(Event::from_stored(event.json().clone(), event.event_id().to_owned()))));
    time("parse and check a stranger's", || drop(black_box(Event::parse(&rules, event.json()))));
    time("client form", || drop(black_box(event.client_json(&rules, ClientForm::Full, None))));
    time("redact", || drop(black_box(koine_graph::redact(&rules, &event))));
    time("state lookup among 100,000", || drop(black_box(state.get(&nodes, "m.room.member", "@user77:example.org"))));
    let mut round = 0_u32;
    let (mut made, mut bytes) = (0, 0);
    time("state insert among 100,000", || {
        round += 1;
        let user = OwnedUserId::try_from(format!("@new{round}:example.org")).expect("a user id");
        let change = state.insert(&nodes, "m.room.member", user.as_str(), &some_id).expect("all nodes are in memory");
        made += change.nodes.len();
        bytes += change.nodes.iter().map(|node| node.bytes.len()).sum::<usize>();
    });
    println!("\n{:.1} nodes, {} bytes per insert", made as f64 / f64::from(ROUNDS), bytes / ROUNDS as usize);
}
