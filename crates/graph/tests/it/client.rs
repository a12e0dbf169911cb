//! Events as clients see them.

use koine_graph::{ClientForm, Event, redact};
use ruma_common::{OwnedEventId, RoomVersionId};
use serde_json::{Value, json, value::to_raw_value};

use crate::world::World;

fn client(event: &Event, world: &World, form: ClientForm, unsigned: Option<Value>) -> Value {
    let unsigned = unsigned.map(|unsigned| to_raw_value(&unsigned).expect("JSON"));
    serde_json::from_str(event.client_json(&world.rules, form, unsigned.as_deref()).get()).expect("JSON")
}

#[test]
fn a_message_has_what_clients_need_and_no_more() {
    let mut world = World::new(&RoomVersionId::V11);
    let event = world.ok("alice", "m.room.message", None, json!({"body": "hi \"you\"\n"}));
    let mut expected = json!({
        "content": {"body": "hi \"you\"\n"}, "event_id": event.event_id(), "origin_server_ts": 3,
        "sender": "@alice:example.org", "type": "m.room.message", "unsigned": {"age": 5},
    });
    assert_eq!(client(&event, &world, ClientForm::WithoutRoomId, Some(json!({"age": 5}))), expected);
    expected["room_id"] = json!("!room:example.org");
    expected.as_object_mut().expect("an object").remove("unsigned");
    assert_eq!(client(&event, &world, ClientForm::Full, None), expected);
}

#[test]
fn a_state_event_has_its_key_and_can_be_stripped() {
    let mut world = World::new(&RoomVersionId::V12);
    let event = world.ok("alice", "m.room.topic", Some(""), json!({"topic": "t"}));
    let seen = client(&event, &world, ClientForm::Full, None);
    assert_eq!((&seen["state_key"], &seen["room_id"]), (&json!(""), &json!(world.room_id)));
    let stripped: Value = serde_json::from_str(event.stripped_json().get()).expect("JSON");
    let expected =
        json!({"content": {"topic": "t"}, "sender": "@alice:example.org", "state_key": "", "type": "m.room.topic"});
    assert_eq!(stripped, expected);
    let create = world.events.values().find(|event| event.kind() == "m.room.create").expect("there");
    assert_eq!(client(create, &world, ClientForm::Full, None)["room_id"], json!(world.room_id));
}

#[test]
fn a_redaction_says_at_both_places_what_it_redacts() {
    for version in [RoomVersionId::V1, RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12] {
        for content in [json!({}), json!({"reason": "spam"})] {
            let mut world = World::new(&version);
            let message = world.ok("alice", "m.room.message", None, json!({"body": "hi"}));
            let prev = world.last.clone();
            let (mut draft, state) = world.draft(&prev, "alice", "m.room.redaction", None, &content, None);
            draft.redacts = Some(message.event_id().to_owned());
            let redaction = world.seal(draft);
            let redaction = world.add(redaction, state).expect("alice may redact");
            assert_eq!(redaction.redacts(&world.rules).as_deref(), Some(message.event_id()));
            assert_eq!(
                redaction.content_field::<String>("redacts").is_some(),
                world.rules.redaction.content_field_redacts
            );
            let seen = client(&redaction, &world, ClientForm::Full, None);
            assert_eq!(seen["redacts"], json!(message.event_id()), "{version}");
            assert_eq!(seen["content"]["redacts"], json!(message.event_id()), "{version}");
            assert_eq!(seen["content"]["reason"], content["reason"]);
            let stored = Event::from_stored(redaction.json().clone(), redaction.event_id().to_owned()).expect("parses");
            assert_eq!(stored.redacts(&world.rules), redaction.redacts(&world.rules));
        }
    }
}

#[test]
fn a_redacted_event_keeps_its_name_and_place() {
    for version in &koine_graph::ROOM_VERSIONS {
        let mut world = World::open(version);
        let message = world.ok("alice", "m.room.message", None, json!({"body": "hi"}));
        for event in world.events.values().chain([&message]) {
            let left = redact(&world.rules, event).expect("parses");
            assert_eq!(
                (left.event_id(), left.room_id(), left.sender()),
                (event.event_id(), event.room_id(), event.sender())
            );
            assert_eq!((left.prev_events(), left.auth_events()), (event.prev_events(), event.auth_events()));
            assert_eq!(left.reference_hash(&world.rules), event.reference_hash(&world.rules));
        }
        assert_eq!(redact(&world.rules, &message).expect("parses").content().get(), "{}");
    }
}

#[test]
fn a_redaction_of_what_is_no_event_id_redacts_nothing() {
    let json = br#"{"auth_events":[],"content":{"redacts":5},"depth":1,"origin_server_ts":1,"prev_events":[],"redacts":[],"room_id":"!r:x","sender":"@a:x","type":"m.room.redaction"}"#;
    let id = OwnedEventId::try_from("$e:x").expect("an event id");
    let event = Event::from_stored(json.to_vec().into(), id).expect("parses");
    for version in &koine_graph::ROOM_VERSIONS {
        assert_eq!(event.redacts(&koine_graph::rules(version).expect("supported")), None);
    }
}
