//! Events of strangers: the first byte says the room version, the rest is the event.
#![no_main]

use koine_graph::{Event, ROOM_VERSIONS, json, redact, rules, signatures};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((version, body)) = bytes.split_first() else { return };
    let version = &ROOM_VERSIONS[usize::from(*version) % ROOM_VERSIONS.len()];
    let rules = rules(version).expect("a version that is listed has rules");
    if let Ok(json::Json::Object(object)) = json::parse(body) {
        let _ = signatures::signers(&rules, &object);
    }
    let Ok(event) = Event::parse(&rules, body) else { return };
    let again = Event::parse(&rules, event.json()).expect("what was kept reads again");
    assert_eq!(event.event_id(), again.event_id());
    let _ = event.content_hash_matches();
    let _ = (event.membership(), event.redacts(&rules));
    let redacted = redact(&rules, &event).expect("every event can be redacted");
    assert_eq!(redacted.event_id(), event.event_id(), "what is taken out is not in the id");
    let twice = redact(&rules, &redacted).expect("also once more");
    assert_eq!(twice.json(), redacted.json());
});
