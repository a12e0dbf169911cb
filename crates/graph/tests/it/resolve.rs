//! State resolution: stories with known ends, and properties over random rooms.

use std::collections::{BTreeMap, HashMap};

use koine_graph::{
    Event, ROOM_VERSIONS, StateMap,
    resolve::{EventSource, ResolveError, WalkError, auth_difference, resolve},
    state::Entry,
};
use proptest::prelude::*;
use ruma_common::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, RoomVersionId, UserId,
    room_version_rules::StateResolutionVersion,
};
use ruma_events::{StateEventType, TimelineEventType};
use ruma_state_res::utils::event_id_set::EventIdSet;
use serde_json::{Value, json, value::RawValue};

use crate::world::{Events, World, user};

/// The newest event of type and state key in the state after both.
fn winner(world: &mut World, ends: &[&Event], kind: &str, state_key: &str) -> Option<OwnedEventId> {
    let ids: Vec<OwnedEventId> = ends.iter().map(|event| event.event_id().to_owned()).collect();
    let state = world.before(&ids);
    state.get(&world.nodes, kind, state_key).expect("all is there")
}

fn send(world: &mut World, after: &Event, sender: &str, kind: &str, key: &str, content: Value) -> Event {
    let prev = [after.event_id().to_owned()];
    world.send_after(&prev, sender, kind, Some(key), content, None).expect("allowed")
}

#[test]
fn a_ban_beats_what_the_banned_did_meanwhile() {
    for version in &ROOM_VERSIONS {
        let mut world = World::open(version);
        world.join("bob");
        let mut users = json!({ "@bob:example.org": 50 });
        if !world.rules.authorization.explicitly_privilege_room_creators {
            users["@alice:example.org"] = json!(100);
        }
        let fork = world.ok("alice", "m.room.power_levels", Some(""), json!({ "users": users }));
        let bob = user("bob");
        let topic = send(&mut world, &fork, "bob", "m.room.topic", "", json!({ "topic": "bob's" }));
        let ban = send(&mut world, &fork, "alice", "m.room.member", bob.as_str(), json!({ "membership": "ban" }));
        let member = winner(&mut world, &[&topic, &ban], "m.room.member", bob.as_str());
        assert_eq!(member.as_deref(), Some(ban.event_id()), "{version}");
        let won = winner(&mut world, &[&topic, &ban], "m.room.topic", "");
        // Version 1 sees no conflict, for only one side has a topic.
        let expected = (*version == RoomVersionId::V1).then(|| topic.event_id().to_owned());
        assert_eq!(won, expected, "{version}");
    }
}

#[test]
fn of_two_topics_one_wins_whatever_the_order() {
    for version in &ROOM_VERSIONS {
        let mut world = World::open(version);
        let fork = world.events[&world.last[0]].clone();
        let one = send(&mut world, &fork, "alice", "m.room.topic", "", json!({ "topic": "1" }));
        let two = send(&mut world, &fork, "alice", "m.room.topic", "", json!({ "topic": "2" }));
        let won = winner(&mut world, &[&one, &two], "m.room.topic", "");
        assert_eq!(won, winner(&mut world, &[&two, &one], "m.room.topic", ""));
        if *version != RoomVersionId::V1 {
            assert_eq!(won.as_deref(), Some(two.event_id()), "the later one, as nothing else tells them apart");
        }
    }
}

#[test]
fn what_is_missing_is_named() {
    let mut world = World::open(&RoomVersionId::V11);
    let fork = world.events[&world.last[0]].clone();
    let one = send(&mut world, &fork, "alice", "m.room.topic", "", json!({ "topic": "1" }));
    let two = send(&mut world, &fork, "alice", "m.room.topic", "", json!({ "topic": "2" }));
    let states = [world.after[one.event_id()], world.after[two.event_id()]];
    let mut events = world.events.clone();
    events.remove(one.event_id());
    let missing = resolve(&world.rules, &world.nodes, &Events(&events), &states).map(|change| change.map);
    assert_eq!(missing, Err(ResolveError::Missing(vec![one.event_id().to_owned()])));
    events.clear();
    let missing = resolve(&world.rules, &world.nodes, &Events(&events), &states).map(|change| change.map);
    match missing {
        Err(ResolveError::Missing(ids)) => assert_eq!(ids.len(), 2),
        other => panic!("{other:?}"),
    }
}

#[test]
fn auth_events_that_lead_back_to_themselves_end_it() {
    for version in [RoomVersionId::V2, RoomVersionId::V12] {
        let mut world = World::open(&version);
        let fork = world.events[&world.last[0]].clone();
        let one = send(&mut world, &fork, "alice", "m.room.topic", "", json!({ "topic": "1" }));
        let two = send(&mut world, &fork, "alice", "m.room.topic", "", json!({ "topic": "2" }));
        let sets = [&one, &two].map(|event| vec![event.event_id().to_owned()]);
        // One by itself, and two by each other.
        for ring in [vec![&one], vec![&one, &two]] {
            let mut events = world.events.clone();
            for (at, event) in ring.iter().enumerate() {
                let next = ring[(at + 1) % ring.len()].event_id();
                let mut json: Value = serde_json::from_slice(event.json()).expect("JSON");
                let named = if version == RoomVersionId::V2 { json!([next, {}]) } else { json!(next) };
                json["auth_events"].as_array_mut().expect("a list").push(named);
                let id = event.event_id().to_owned();
                events.insert(id.clone(), Event::from_stored(json.to_string().into(), id).expect("its form is right"));
            }
            let over = auth_difference(&Events(&events), &sets, &mut std::iter::empty());
            assert!(matches!(over, Err(WalkError::Ring(_))), "{version}: {over:?}");
        }
    }
}

#[test]
fn states_without_conflict_read_no_event() {
    struct NoEvents;
    impl EventSource for NoEvents {
        type Error = ();
        fn event(&self, _: &EventId) -> Result<Option<Event>, ()> {
            Err(())
        }
    }
    let world = World::open(&RoomVersionId::V11);
    let state = world.after[&world.last[0]];
    for states in [vec![], vec![state], vec![state, state]] {
        let change = resolve(&world.rules, &world.nodes, &NoEvents, &states).expect("nothing to do");
        assert_eq!(change.map, states.first().copied().unwrap_or(StateMap::EMPTY));
    }
    let failed = resolve(&world.rules, &world.nodes, &NoEvents, &[state, StateMap::EMPTY]);
    assert!(matches!(failed, Err(ResolveError::Events(()))));
    assert_eq!(WalkError::Source(()).to_string(), "events could not be read");
}

/// One thing that somebody tries in a random room.
#[derive(Clone, Debug)]
struct Try {
    /// Which of the newest events it follows.
    after: prop::sample::Index,
    also_after: Option<prop::sample::Index>,
    sender: usize,
    what: What,
    ts: u32,
}

#[derive(Clone, Debug)]
enum What {
    Topic(u8),
    Note(u8),
    JoinRule(&'static str),
    Levels(Vec<(usize, i64)>, Option<i64>),
    Member(usize, &'static str),
}

const NAMES: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

fn any_try() -> impl Strategy<Value = Try> {
    let what = prop_oneof![
        2 => any::<u8>().prop_map(What::Topic),
        1 => any::<u8>().prop_map(What::Note),
        1 => prop::sample::select(&["public", "invite", "knock"][..]).prop_map(What::JoinRule),
        3 => (prop::collection::vec((0..NAMES.len(), prop::sample::select(&[0, 50, 60, 100][..])), 0..4),
              prop::option::of(prop::sample::select(&[0, 20, 50][..]))).prop_map(|(users, level)| What::Levels(users, level)),
        5 => (0..NAMES.len(), prop::sample::select(&["join", "join", "leave", "ban", "invite"][..]))
            .prop_map(|(target, word)| What::Member(target, word)),
    ];
    (
        any::<prop::sample::Index>(),
        prop::option::weighted(0.2, any::<prop::sample::Index>()),
        0..NAMES.len(),
        what,
        0_u32..6,
    )
        .prop_map(|(after, also_after, sender, what, ts)| Try { after, also_after, sender, what, ts })
}

/// Newest events that a try may follow.
const RECENT: usize = 6;

/// A room in which the tries that are allowed happened.
fn random_room(version: &RoomVersionId, tries: &[Try]) -> (World, Vec<OwnedEventId>) {
    let mut world = World::open(version);
    for name in ["bob", "carol"] {
        world.join(name);
    }
    let infinite = world.rules.authorization.explicitly_privilege_room_creators;
    let mut users = json!({ "@bob:example.org": 50, "@carol:example.org": 50 });
    if !infinite {
        users["@alice:example.org"] = json!(100);
    }
    world.ok("alice", "m.room.power_levels", Some(""), json!({ "users": users }));
    let mut order = world.last.clone();
    for attempt in tries {
        let recent = &order[order.len().saturating_sub(RECENT)..];
        let mut prev = vec![recent[attempt.after.index(recent.len())].clone()];
        prev.extend(attempt.also_after.map(|also| recent[also.index(recent.len())].clone()));
        prev.sort();
        prev.dedup();
        let (kind, key, content) = match &attempt.what {
            What::Topic(n) => ("m.room.topic", String::new(), json!({ "topic": n })),
            What::Note(n) => ("org.example.note", format!("{}", n % 3), json!({ "n": n })),
            What::JoinRule(rule) => ("m.room.join_rules", String::new(), json!({ "join_rule": rule })),
            What::Levels(changes, state_default) => {
                let mut users = users.clone();
                for (name, level) in changes.iter().filter(|(name, _)| !infinite || *name != 0) {
                    users[user(NAMES[*name]).as_str()] = json!(level);
                }
                let mut content = json!({ "users": users });
                if let Some(level) = state_default {
                    content["events"] = json!({ "m.room.topic": level });
                }
                ("m.room.power_levels", String::new(), content)
            }
            What::Member(target, word) => {
                let target = if *word == "join" { attempt.sender } else { *target };
                ("m.room.member", user(NAMES[target]).to_string(), json!({ "membership": word }))
            }
        };
        let sent = world.send_after(&prev, NAMES[attempt.sender], kind, Some(&key), content, Some(attempt.ts));
        order.extend(sent.ok().map(|event| event.event_id().to_owned()));
    }
    (world, order)
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

type Plain = BTreeMap<(String, String), OwnedEventId>;

fn plain(world: &World, state: StateMap) -> Plain {
    let entry = |entry: Entry| ((entry.kind.to_string(), entry.state_key.to_string()), entry.event_id);
    state.iter(&world.nodes).map(|found| entry(found.expect("all is there"))).collect()
}

fn by_the_other(world: &World, states: &[StateMap]) -> Plain {
    let StateResolutionVersion::V2(flags) = world.rules.state_res else { panic!("the other has no version 1") };
    let fetch = |id: &EventId| {
        let event = world.events.get(id)?.clone();
        Some(Theirs { id: id.to_owned(), kind: event.kind().into(), event })
    };
    let maps: Vec<HashMap<(StateEventType, String), OwnedEventId>> = states
        .iter()
        .map(|state| plain(world, *state).into_iter().map(|((kind, key), id)| ((kind.into(), key), id)).collect())
        .collect();
    let chains: Vec<EventIdSet<OwnedEventId>> =
        maps.iter().map(|map| world.auth_chain(map.values().cloned()).into_iter().collect()).collect();
    let subgraph = |conflicted: &ruma_state_res::StateMap<Vec<OwnedEventId>>| {
        // By definition: what is reached from one and reaches another, ends included.
        let all: Vec<OwnedEventId> = conflicted.values().flatten().cloned().collect();
        let chains: Vec<_> = all.iter().map(|id| world.auth_chain([id.clone()])).collect();
        let mut between: EventIdSet<OwnedEventId> = all.iter().cloned().collect();
        for candidate in chains.iter().flatten() {
            if all.iter().any(|id| world.auth_chain([candidate.clone()]).contains(id)) {
                between.insert(candidate.clone());
            }
        }
        Some(between)
    };
    let resolved =
        ruma_state_res::resolve(&world.rules.authorization, &flags, &maps, chains, fetch, subgraph).expect("resolves");
    resolved.into_iter().map(|((kind, key), id)| ((kind.to_string(), key), id)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn agrees_with_the_other_implementation_and_with_itself_in_any_order(
        tries in prop::collection::vec(any_try(), 4..40),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 2..5),
        turn in any::<prop::sample::Index>(),
    ) {
        for version in [RoomVersionId::V1, RoomVersionId::V2, RoomVersionId::V9, RoomVersionId::V11, RoomVersionId::V12] {
            let (mut world, order) = random_room(&version, &tries);
            let mut states: Vec<StateMap> = picks.iter().map(|pick| world.after[&order[pick.index(order.len())]]).collect();
            let change = resolve(&world.rules, &world.nodes, &Events(&world.events), &states).expect("all is there");
            let ours = world.nodes.keep(change);
            if version != RoomVersionId::V1 {
                prop_assert_eq!(plain(&world, ours), by_the_other(&world, &states), "version {}", &version);
            }
            let turn = turn.index(states.len());
            states.rotate_left(turn);
            states.push(states[0]);
            let again = resolve(&world.rules, &world.nodes, &Events(&world.events), &states).expect("all is there");
            prop_assert_eq!(again.map, ours, "version {}", &version);
        }
    }
}
