//! State resolution over whatever a stranger's events make: lines of events, of which some stand in one state and some in another.
//!
//! What comes out is one of the states' own entries for each key, and the order of the states is no matter.
#![no_main]

use std::{collections::HashMap, convert::Infallible};

use koine_graph::{
    Event, ROOM_VERSIONS, StateMap,
    resolve::{EventSource, resolve},
    rules,
    state::MemoryNodes,
};
use libfuzzer_sys::fuzz_target;
use ruma_common::{EventId, OwnedEventId};

/// More says nothing new and takes long.
const EVENTS_MAX: usize = 16;
const STATES: usize = 3;

struct Events(HashMap<OwnedEventId, Event>);

impl EventSource for Events {
    type Error = Infallible;

    fn event(&self, id: &EventId) -> Result<Option<Event>, Infallible> {
        Ok(self.0.get(id).cloned())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((version, body)) = bytes.split_first() else { return };
    let version = &ROOM_VERSIONS[usize::from(*version) % ROOM_VERSIONS.len()];
    let rules = rules(version).expect("a version that is listed has rules");
    let (mut nodes, mut events) = (MemoryNodes::new(), Events(HashMap::new()));
    let mut states = [StateMap::EMPTY; STATES];
    // The first byte of a line says in which of the states the event stands.
    for line in body.split(|byte| *byte == b'\n').take(EVENTS_MAX) {
        let Some((places, json)) = line.split_first() else { continue };
        let Ok(event) = Event::parse(&rules, json) else { continue };
        if let Some(key) = event.state_key() {
            for (at, state) in states.iter_mut().enumerate() {
                if places >> at & 1 == 1 {
                    let change = state.insert(&nodes, event.kind(), key, event.event_id()).expect("all is there");
                    *state = nodes.keep(change);
                }
            }
        }
        events.0.insert(event.event_id().to_owned(), event);
    }
    let there = resolve(&rules, &nodes, &events, &states);
    states.reverse();
    let back = resolve(&rules, &nodes, &events, &states);
    match (there, back) {
        (Ok(there), Ok(back)) => assert_eq!(there.map, back.map, "the order of the states is no matter"),
        (Err(_), Err(_)) => {}
        (there, back) => panic!("{there:?} {back:?}"),
    }
});
