//! The rules over whatever state a stranger's events make: lines of events, each judged by those before it.
#![no_main]

use std::{collections::HashMap, convert::Infallible};

use koine_graph::{Event, ROOM_VERSIONS, auth, auth::AuthState, rules};
use libfuzzer_sys::fuzz_target;

/// More says nothing new and takes long.
const EVENTS_MAX: usize = 16;

#[derive(Default)]
struct State(HashMap<(String, String), Event>);

impl AuthState for State {
    type Error = Infallible;

    fn get(&self, kind: &str, state_key: &str) -> Result<Option<Event>, Infallible> {
        Ok(self.0.get(&(kind.to_owned(), state_key.to_owned())).cloned())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((version, body)) = bytes.split_first() else { return };
    let version = &ROOM_VERSIONS[usize::from(*version) % ROOM_VERSIONS.len()];
    let rules = rules(version).expect("a version that is listed has rules");
    // Every event stands in the state, allowed or not: the rules must bear any state.
    let mut state = State::default();
    for line in body.split(|byte| *byte == b'\n').take(EVENTS_MAX) {
        let Ok(event) = Event::parse(&rules, line) else { continue };
        let named: Vec<Event> = state.0.values().cloned().collect();
        let _ = auth::check_auth_events(&rules, &event, &named, |_| false);
        let _ = auth::check(&rules, &event, &state);
        if let Some(key) = event.state_key() {
            state.0.insert((event.kind().to_owned(), key.to_owned()), event);
        }
    }
});
