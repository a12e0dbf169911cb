//! Redaction, hashes and signatures agree with another implementation, on events with odd content.

use std::collections::BTreeMap;

use koine_graph::{
    Draft, Event, ROOM_VERSIONS,
    json::{Json, parse},
    redact,
    signatures::verify_event,
};
use proptest::prelude::*;
use ruma_common::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, ServerName,
    canonical_json, serde::Base64,
};
use ruma_signatures::Ed25519KeyPair;
use serde_json::{Value, json, value::to_raw_value};

use crate::world::{World, key};

/// The same key as [`key`] for the other implementation.
fn other_key() -> Ed25519KeyPair {
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([3; 32]);
    Ed25519KeyPair::from_der(&der, "1".to_owned()).expect("a key")
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1000_i64..1000).prop_map(Value::from),
        "[a-z\u{0}-\u{1f}\"\\\\é😀]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c]|signed|mxid", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

const KINDS: &[&str] = &[
    "m.room.create",
    "m.room.member",
    "m.room.join_rules",
    "m.room.power_levels",
    "m.room.aliases",
    "m.room.history_visibility",
    "m.room.redaction",
    "m.room.third_party_invite",
    "m.room.message",
    "x",
];

const FIELDS: &[&str] = &[
    "membership",
    "join_authorised_via_users_server",
    "third_party_invite",
    "creator",
    "join_rule",
    "allow",
    "ban",
    "events",
    "events_default",
    "kick",
    "redact",
    "state_default",
    "users",
    "users_default",
    "invite",
    "notifications",
    "aliases",
    "history_visibility",
    "redacts",
    "body",
    "room_version",
    "m.federate",
];

fn any_content() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(prop::sample::select(FIELDS), any_value(), 0..8)
        .prop_map(|map| Value::Object(map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()))
}

fn event_json(kind: &str, state_key: Option<&str>, content: &Value, extra: &BTreeMap<String, Value>) -> Value {
    let mut event = json!({
        "auth_events": ["$b"], "content": content, "depth": 4, "hashes": {"sha256": "x"}, "origin": "o",
        "origin_server_ts": 7, "prev_events": ["$a"], "prev_state": [], "membership": "join", "redacts": "$r",
        "room_id": "!r:example.org", "sender": "@a:example.org", "signatures": {"s": {"ed25519:1": "y"}}, "type": kind,
        "event_id": "$e:example.org",
    });
    let object = event.as_object_mut().expect("an object");
    object.extend(state_key.map(|key| ("state_key".to_owned(), key.into())));
    object.extend(extra.iter().map(|(key, value)| (key.clone(), value.clone())));
    event
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn redaction_agrees(
        kind in prop::sample::select(KINDS), content in any_content(), is_state: bool,
        extra in prop::collection::btree_map("[a-z]{1,9}", any_value(), 0..3),
    ) {
        let json = event_json(kind, is_state.then_some("k"), &content, &extra);
        let bytes = serde_json::to_vec(&json).expect("JSON");
        let id = OwnedEventId::try_from("$e:example.org").expect("an event id");
        let event = Event::from_stored(bytes.clone().into(), id).expect("parses");
        let theirs: CanonicalJsonObject = serde_json::from_slice(&bytes).expect("canonical");
        for version in &ROOM_VERSIONS {
            let rules = koine_graph::rules(version).expect("supported");
            let ours: Value = serde_json::from_slice(redact(&rules, &event).expect("parses").json()).expect("JSON");
            // The other one minds content that is not what it should be; what it takes must come out the same. It keeps
            // an invite that is no object, which nobody else does.
            if content.get("third_party_invite").is_none_or(Value::is_object)
                && let Ok(theirs) = canonical_json::redact(theirs.clone(), &rules.redaction, None) {
                let theirs = serde_json::to_value(&theirs).expect("JSON");
                prop_assert_eq!(&ours, &theirs, "version {}", version);
            }
        }
    }

    #[test]
    fn sealed_events_agree(
        kind in prop::sample::select(KINDS), content in any_content(), is_state: bool, ts in 0_u32..u32::MAX,
    ) {
        for version in &ROOM_VERSIONS {
            let world = World::empty(version);
            let rules = world.rules.clone();
            let named_by_itself = kind == "m.room.create" && !rules.event_format.require_room_create_room_id;
            let draft = Draft {
                room_id: (!named_by_itself).then(|| OwnedRoomId::try_from("!r:example.org").expect("a room id")),
                sender: OwnedUserId::try_from("@a:example.org").expect("a user id"),
                kind: kind.to_owned(),
                state_key: is_state.then(|| "k".to_owned()),
                content: to_raw_value(&content).expect("JSON"),
                redacts: None,
                prev_events: Vec::new(),
                auth_events: Vec::new(),
                depth: 3,
                origin_server_ts: MilliSecondsSinceUnixEpoch(ts.into()),
            };
            let event = world.seal(draft);

            // The same event by the other implementation.
            let mut theirs: CanonicalJsonObject = serde_json::from_slice(event.json()).expect("canonical");
            theirs.remove("hashes");
            theirs.remove("signatures");
            let signed = ruma_signatures::hash_and_sign_event("example.org", &other_key(), &mut theirs, &rules.redaction);
            if signed.is_err() || content.get("third_party_invite").is_some_and(|invite| !invite.is_object()) {
                continue;
            }
            prop_assert_eq!(serde_json::to_vec(&theirs).expect("JSON"), event.json().to_vec());
            let hash = ruma_signatures::reference_hash(&theirs, &rules).expect("hashes");
            if !rules.event_format.require_event_id {
                prop_assert_eq!(format!("${hash}"), event.event_id().as_str());
            }

            // What we made we take, by both doors, and its signature holds.
            let again = Event::parse(&rules, event.json()).expect("our own event");
            prop_assert_eq!(&again, &event);
            prop_assert_eq!(again.room_id(), event.room_id());
            prop_assert_eq!(again.content().get(), event.content().get());
            prop_assert!(again.content_hash_matches());
            let json = parse(event.json()).expect("JSON");
            let object = match &json { Json::Object(object) => object, _ => unreachable!("an event is an object") };
            // The other one wants every member event to have a membership.
            let well_formed = kind != "m.room.member" || content.get("membership").is_some_and(Value::is_string);
            if well_formed && content.get("join_authorised_via_users_server").is_none() {
                let keys = |_: &ServerName, _: &str| Some(key().public());
                prop_assert_eq!(verify_event(&rules, object, &keys), Ok(()));
                let keys = [("example.org".to_owned(), [("ed25519:1".to_owned(),
                    Base64::parse(key().public().to_base64()).expect("base64"))].into())].into();
                prop_assert!(ruma_signatures::verify_event(&keys, &theirs, &rules).is_ok());
            }
        }
    }
}
