//! Bytes of a stranger: what is taken for an event, and what is refused for which reason. And drafts.

use koine_graph::{
    DraftError, Event, EventError, RoomVersionRules,
    event::{AUTH_EVENTS_MAX, EVENT_BYTES_MAX, FIELD_BYTES_MAX, PREV_EVENTS_MAX},
    json::JsonError,
};
use ruma_common::{OwnedEventId, RoomVersionId};
use serde_json::{Value, json};

use crate::world::World;

fn rules(version: &RoomVersionId) -> RoomVersionRules {
    koine_graph::rules(version).expect("supported")
}

fn message() -> Value {
    json!({
        "auth_events": ["$b"], "content": {"body": "hi"}, "depth": 4, "hashes": {"sha256": "x"},
        "origin_server_ts": 7, "prev_events": ["$a"], "room_id": "!r:example.org", "sender": "@a:example.org",
        "signatures": {}, "type": "m.room.message", "unsigned": {"age": 1},
    })
}

/// The message with a field set, or taken away with `null`.
fn with(field: &str, value: Value) -> Value {
    let mut event = message();
    let object = event.as_object_mut().expect("an object");
    if value.is_null() {
        object.remove(field)
    } else {
        object.insert(field.to_owned(), value)
    };
    event
}

fn parse(version: &RoomVersionId, event: &Value) -> Result<Event, EventError> {
    Event::parse(&rules(version), event.to_string().as_bytes())
}

#[test]
fn a_message_is_taken_and_told() {
    let event = parse(&RoomVersionId::V11, &message()).expect("an event");
    assert_eq!(event.room_id(), "!r:example.org");
    assert_eq!(event.sender(), "@a:example.org");
    assert_eq!((event.kind(), event.state_key(), event.depth()), ("m.room.message", None, 4));
    assert_eq!(event.content().get(), r#"{"body":"hi"}"#);
    assert_eq!((event.prev_events(), event.auth_events()), (&["$a"].map(id)[..], &["$b"].map(id)[..]));
    assert_eq!(event.origin_server_ts().get(), 7_u32.into());
    assert!(!std::str::from_utf8(event.json()).expect("UTF-8").contains("unsigned"));
    assert!(!event.content_hash_matches());
}

fn id(id: &str) -> OwnedEventId {
    OwnedEventId::try_from(id).expect("an event id")
}

#[test]
fn what_is_wrong_is_named() {
    let long = "x".repeat(FIELD_BYTES_MAX + 1);
    let many = |count: usize| Value::from(vec!["$x"; count]);
    for (field, value, expected) in [
        ("type", json!(null), EventError::Missing("type")),
        ("type", json!(5), EventError::Invalid("type")),
        ("type", json!(long), EventError::FieldTooLarge { field: "type", bytes: 256 }),
        ("state_key", json!(long), EventError::FieldTooLarge { field: "state_key", bytes: 256 }),
        ("state_key", json!(1), EventError::Invalid("state_key")),
        ("sender", json!("nobody"), EventError::Invalid("sender")),
        ("sender", json!(null), EventError::Missing("sender")),
        ("room_id", json!(null), EventError::Missing("room_id")),
        ("room_id", json!("#r:example.org"), EventError::Invalid("room_id")),
        ("content", json!([]), EventError::Invalid("content")),
        ("content", json!(null), EventError::Missing("content")),
        ("content", json!({"n": 1.5}), EventError::NotCanonical),
        ("content", json!({"n": [9_007_199_254_740_992_u64]}), EventError::NotCanonical),
        ("hashes", json!(null), EventError::Missing("hashes")),
        ("signatures", json!(null), EventError::Missing("signatures")),
        ("depth", json!(-1), EventError::Invalid("depth")),
        ("depth", json!("1"), EventError::Invalid("depth")),
        ("origin_server_ts", json!(-1), EventError::Invalid("origin_server_ts")),
        ("prev_events", json!([["$a", {}]]), EventError::Invalid("prev_events")),
        ("prev_events", json!("$a"), EventError::Invalid("prev_events")),
        ("prev_events", many(PREV_EVENTS_MAX + 1), EventError::TooMany { field: "prev_events", count: 21, max: 20 }),
        ("auth_events", many(AUTH_EVENTS_MAX + 1), EventError::TooMany { field: "auth_events", count: 11, max: 10 }),
        ("auth_events", json!(["a"]), EventError::Invalid("auth_events")),
    ] {
        assert_eq!(parse(&RoomVersionId::V11, &with(field, value)).err(), Some(expected), "{field}");
    }
    assert_eq!(Event::parse(&rules(&RoomVersionId::V11), b"[]").err(), Some(EventError::NotAnObject));
    assert_eq!(Event::parse(&rules(&RoomVersionId::V11), b"{").err(), Some(EventError::Json(JsonError::EndsEarly)));
}

#[test]
fn size_is_measured_in_canonical_form_without_unsigned() {
    let room =
        EVENT_BYTES_MAX - parse(&RoomVersionId::V11, &with("content", json!({"body": ""}))).expect("fits").json().len();
    let padded = |length: usize| with("content", json!({ "body": "x".repeat(length) }));
    let mut largest = padded(room);
    largest["unsigned"] = json!({ "more": "y".repeat(1000) });
    assert_eq!(parse(&RoomVersionId::V11, &largest).expect("fits").json().len(), EVENT_BYTES_MAX);
    assert_eq!(parse(&RoomVersionId::V11, &padded(room + 1)).err(), Some(EventError::TooLarge { bytes: 65_537 }));
    let huge = vec![b' '; 10_000_000];
    assert!(matches!(Event::parse(&rules(&RoomVersionId::V11), &huge), Err(EventError::TooLarge { .. })));
}

#[test]
fn old_rooms_take_numbers_that_are_not_canonical_and_deep_events() {
    let event = parse(&RoomVersionId::V5, &with("content", json!({"n": 1.5}))).expect("an event");
    assert_eq!(event.content().get(), r#"{"n":1.5}"#);
    let event = parse(&RoomVersionId::V5, &with("depth", json!(i64::MAX))).expect("an event");
    assert_eq!(event.depth(), i64::MAX.unsigned_abs());
}

#[test]
fn the_first_two_versions_name_events_in_the_body_and_refer_to_them_by_pairs() {
    let mut event = with("event_id", json!("$e:example.org"));
    event["prev_events"] = json!([["$a:x", {"sha256": "aa"}]]);
    event["auth_events"] = json!([]);
    let parsed = parse(&RoomVersionId::V2, &event).expect("an event");
    assert_eq!((parsed.event_id(), parsed.prev_events()), (&*id("$e:example.org"), &[id("$a:x")][..]));
    event["event_id"] = json!("$e");
    assert_eq!(parse(&RoomVersionId::V1, &event).err(), Some(EventError::Invalid("event_id")));
    event.as_object_mut().expect("an object").remove("event_id");
    assert_eq!(parse(&RoomVersionId::V1, &event).err(), Some(EventError::Missing("event_id")));
    assert_eq!(
        parse(&RoomVersionId::V1, &with("event_id", json!("$e:x"))).err(),
        Some(EventError::Invalid("prev_events"))
    );
}

#[test]
fn from_version_12_on_a_room_is_named_by_its_create_event() {
    let mut create = with("type", json!("m.room.create"));
    create["state_key"] = json!("");
    assert_eq!(parse(&RoomVersionId::V12, &create).err(), Some(EventError::Unwanted("room_id")));
    create.as_object_mut().expect("an object").remove("room_id");
    let event = parse(&RoomVersionId::V12, &create).expect("an event");
    assert_eq!(event.room_id().as_str().strip_prefix('!'), event.event_id().as_str().strip_prefix('$'));
    assert_eq!(parse(&RoomVersionId::V11, &create).err(), Some(EventError::Missing("room_id")));
}

#[test]
fn drafts_that_cannot_become_events_say_why() {
    let draft = |version: &RoomVersionId, change: &dyn Fn(&mut koine_graph::Draft)| {
        let mut world = World::new(version);
        let prev = world.last.clone();
        let (mut draft, _) = world.draft(&prev, "alice", "m.room.message", None, &json!({"body": "hi"}), None);
        change(&mut draft);
        let server = ruma_common::ServerName::parse("example.org").expect("a server name");
        draft.seal(&world.rules, &server, &crate::world::key()).err()
    };
    let raw = |json: &str| serde_json::value::RawValue::from_string(json.to_owned()).expect("JSON");
    let v11 = &RoomVersionId::V11;
    assert_eq!(draft(v11, &|_| {}), None);
    assert_eq!(draft(v11, &|draft| draft.content = raw("[]")), Some(DraftError::ContentNotAnObject));
    assert_eq!(draft(v11, &|draft| draft.content = raw("{\"a\":1.0}")), Some(DraftError::NotCanonical));
    assert_eq!(draft(&RoomVersionId::V5, &|draft| draft.content = raw("{\"a\":1.0}")), None);
    assert_eq!(draft(v11, &|draft| draft.room_id = None), Some(DraftError::RoomId));
    assert_eq!(draft(&RoomVersionId::V12, &|draft| draft.kind = "m.room.create".into()), Some(DraftError::RoomId));
    assert_eq!(draft(&RoomVersionId::V2, &|_| {}), Some(DraftError::LegacyNeeded));
    let field = DraftError::FieldTooLarge { field: "type", bytes: 256 };
    assert_eq!(draft(v11, &|draft| draft.kind = "x".repeat(256)), Some(field));
    let body = format!("{{\"body\":\"{}\"}}", "x".repeat(EVENT_BYTES_MAX));
    assert!(matches!(draft(v11, &|draft| draft.content = raw(&body)), Some(DraftError::TooLarge { .. })));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    assert_eq!(draft(v11, &|draft| draft.content = raw(&deep)), Some(DraftError::Json(JsonError::TooDeep)));
}
