//! What resolving two branches of a big room costs, beside another implementation of the same algorithm:
//! `cargo run --release -p koine-graph --example forks [members] [conflicting events]`.
//!
//! The room has that many members. In each branch half of so many of them change their names, all of them different
//! ones, and the maker raises somebody. Both implementations are given events that are parsed; the other one besides the
//! whole auth chains, which it asks for.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    time::{Duration, Instant},
};

use koine_graph::{
    Draft, Event, RoomVersionRules, SigningKey, StateMap,
    resolve::{EventSource, resolve},
    state::{Edit, MemoryNodes},
};
use ruma_common::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, ServerName,
    UserId,
    room_version_rules::{StateResolutionV2Rules, StateResolutionVersion},
};
use ruma_events::{StateEventType, TimelineEventType};
use ruma_state_res::utils::event_id_set::EventIdSet;
use serde_json::{Value, json, value::RawValue, value::to_raw_value};

struct Room {
    rules: RoomVersionRules,
    key: SigningKey,
    events: HashMap<OwnedEventId, Event>,
    nodes: MemoryNodes,
    ts: u32,
}

impl Room {
    /// Adds a state event to a state.
    fn set(&mut self, state: StateMap, sender: &str, kind: &str, state_key: &str, content: &Value) -> StateMap {
        self.ts += 1;
        let mut wanted = vec![("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", sender)];
        if kind == "m.room.member" {
            wanted.push(("m.room.join_rules", ""));
        }
        let auth = wanted.iter().filter_map(|(kind, key)| state.get(&self.nodes, kind, key).expect("in memory"));
        let draft = Draft {
            room_id: Some(OwnedRoomId::try_from("!room:example.org").expect("a room id")),
            sender: OwnedUserId::try_from(sender).expect("a user id"),
            kind: kind.to_owned(),
            state_key: Some(state_key.to_owned()),
            content: to_raw_value(content).expect("JSON"),
            redacts: None,
            prev_events: Vec::new(),
            auth_events: auth.collect(),
            depth: 5,
            origin_server_ts: MilliSecondsSinceUnixEpoch(self.ts.into()),
        };
        let server = ServerName::parse("example.org").expect("a server name");
        let event = draft.seal(&self.rules, &server, &self.key).expect("a fine draft");
        let edit = Edit::set(kind, state_key, event.event_id().to_owned());
        self.events.insert(event.event_id().to_owned(), event);
        let change = state.apply(&self.nodes, [edit]).expect("in memory");
        self.nodes.keep(change)
    }
}

/// Events in memory, with the heights that were found out.
struct Source<'a>(&'a Room, RefCell<HashMap<OwnedEventId, u32>>);

impl EventSource for Source<'_> {
    type Error = Infallible;

    fn event(&self, id: &EventId) -> Result<Option<Event>, Infallible> {
        Ok(self.0.events.get(id).cloned())
    }

    fn height(&self, id: &EventId) -> Result<Option<u32>, Infallible> {
        Ok(self.1.borrow().get(id).copied())
    }

    fn learned_heights(&self, heights: Vec<(OwnedEventId, u32)>) {
        self.1.borrow_mut().extend(heights);
    }
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|number| number.parse::<usize>().ok());
    let (members, conflicts) = (numbers.next().unwrap_or(10_000), numbers.next().unwrap_or(1_000));
    let rules = koine_graph::rules(&RoomVersionId::V11).expect("supported");
    let key = SigningKey::from_seed("1", &[1; 32]).expect("a fine version");
    let mut room = Room { rules, key, events: HashMap::new(), nodes: MemoryNodes::new(), ts: 0 };
    let person = |number: usize| format!("@person{number}:example.org");
    let maker = person(0);
    let mut state = StateMap::EMPTY;
    state = room.set(state, &maker, "m.room.create", "", &json!({ "room_version": "11" }));
    state = room.set(state, &maker, "m.room.member", &maker, &json!({ "membership": "join" }));
    let levels = |who: &str| json!({ "users": { (maker.as_str()): 100, (who): 50 } });
    state = room.set(state, &maker, "m.room.power_levels", "", &levels(&person(1)));
    state = room.set(state, &maker, "m.room.join_rules", "", &json!({ "join_rule": "public" }));
    for number in 1..members {
        let user = person(number);
        state = room.set(state, &user, "m.room.member", &user, &json!({ "membership": "join" }));
    }
    let mut branches = [state, state];
    for (at, branch) in branches.iter_mut().enumerate() {
        *branch = room.set(*branch, &maker, "m.room.power_levels", "", &levels(&person(2 + at)));
        for number in 0..conflicts / 2 {
            let user = person(10 + 2 * number + at);
            let content = json!({ "membership": "join", "displayname": format!("Number {number}") });
            *branch = room.set(*branch, &user, "m.room.member", &user, &content);
        }
    }
    println!("{members} members, {conflicts} conflicting events");

    let source = Source(&room, RefCell::default());
    let ours = |what: &str| {
        let began = Instant::now();
        let change = resolve(&room.rules, &room.nodes, &source, &branches).expect("all is there");
        println!("koine-graph, {what:<34} {:>9.1} ms", ms(began.elapsed()));
        change
    };
    let first = ours("heights not known yet");
    let again = ours("heights known");
    assert_eq!(first.map, again.map);

    let began = Instant::now();
    let maps = branches.map(|branch| plain(&room, branch));
    let chains = branches.map(|branch| chain(&room, branch));
    println!("ruma-state-res, maps and chains gathered      {:>9.1} ms", ms(began.elapsed()));
    let began = Instant::now();
    let theirs = by_the_other(&room, &maps, chains.to_vec());
    println!("ruma-state-res alone                          {:>9.1} ms", ms(began.elapsed()));
    let map = room.nodes.keep(again);
    let resolved = plain(&room, map);
    let same = theirs.iter().all(|(key, id)| resolved.get(key) == Some(id)) && theirs.len() == resolved.len();
    println!("the same state: {same}");
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

type Plain = HashMap<(StateEventType, String), OwnedEventId>;

fn plain(room: &Room, state: StateMap) -> Plain {
    let entries = state.iter(&room.nodes).map(|entry| entry.expect("in memory"));
    entries.map(|entry| ((entry.kind.to_string().into(), entry.state_key.to_string()), entry.event_id)).collect()
}

/// The auth chains of all of a state.
fn chain(room: &Room, state: StateMap) -> EventIdSet<OwnedEventId> {
    let mut found = EventIdSet::default();
    let mut next: Vec<OwnedEventId> = plain(room, state).into_values().collect();
    while let Some(id) = next.pop() {
        for auth_event in room.events.get(&id).map(Event::auth_events).unwrap_or_default() {
            if found.insert(auth_event.clone()) {
                next.push(auth_event.clone());
            }
        }
    }
    found
}

fn by_the_other(
    room: &Room,
    maps: &[Plain],
    chains: Vec<EventIdSet<OwnedEventId>>,
) -> BTreeMap<(StateEventType, String), OwnedEventId> {
    let fetch = |id: &EventId| {
        let event = room.events.get(id)?.clone();
        Some(Theirs { id: id.to_owned(), kind: event.kind().into(), event })
    };
    let flags: StateResolutionV2Rules = match room.rules.state_res {
        StateResolutionVersion::V2(flags) => flags,
        _ => StateResolutionV2Rules::V2_0,
    };
    let resolved = ruma_state_res::resolve(&room.rules.authorization, &flags, maps, chains, fetch, |_| None);
    resolved.expect("resolves").into_iter().collect()
}

/// An event as the other implementation wants it.
#[derive(Clone)]
struct Theirs {
    event: Event,
    id: OwnedEventId,
    kind: TimelineEventType,
}

impl ruma_state_res::Event for Theirs {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.id
    }
    fn room_id(&self) -> Option<&RoomId> {
        Some(self.event.room_id())
    }
    fn sender(&self) -> &UserId {
        self.event.sender()
    }
    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.event.origin_server_ts()
    }
    fn event_type(&self) -> &TimelineEventType {
        &self.kind
    }
    fn content(&self) -> &RawValue {
        self.event.content()
    }
    fn state_key(&self) -> Option<&str> {
        self.event.state_key()
    }
    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.event.prev_events().iter())
    }
    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.event.auth_events().iter())
    }
    fn redacts(&self) -> Option<&OwnedEventId> {
        None
    }
    fn rejected(&self) -> bool {
        false
    }
}
