//! Servers that do not play by the rules.

use bytes::Bytes;
use http::{Method, StatusCode};
use koine_graph::{
    Draft, Event, RoomVersionRules, SigningKey,
    json::{self, Json, Object},
    signatures::sign_object,
};
use koine_room::{Preset, Room};
use ruma_common::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, RoomVersionId, UserId};
use serde_json::{Value, json, value::to_raw_value};

use crate::houses::{House, pair, until};

/// A request of `from`, signed with `key`.
pub fn signed(
    from: &House,
    to: &House,
    key: &SigningKey,
    method: &Method,
    path: &str,
    body: &str,
) -> http::Request<Bytes> {
    let text = |text: &str| Json::String(text.to_owned().into());
    let mut object = Object::with_capacity(6);
    object.insert("method", text(method.as_str()));
    object.insert("uri", text(path));
    object.insert("origin", text(from.name.as_str()));
    object.insert("destination", text(to.name.as_str()));
    if !body.is_empty() {
        object.insert("content", json::parse(body.as_bytes()).expect("JSON"));
    }
    sign_object(&mut object, from.name.as_str(), key);
    let signature = object.get("signatures").unwrap().as_object().unwrap().get(from.name.as_str()).unwrap();
    let signature = signature.as_object().unwrap().get(key.id()).unwrap().as_str().unwrap().to_owned();
    let header =
        format!(r#"X-Matrix origin="{}",destination="{}",key="{}",sig="{signature}""#, from.name, to.name, key.id());
    let request = http::Request::builder().method(method).uri(path).header("authorization", header);
    request.body(Bytes::copy_from_slice(body.as_bytes())).expect("a request")
}

/// A template filled in as its server would.
pub fn seal(rules: &RoomVersionRules, template: &Value, house: &House) -> Event {
    let ids = |name: &str| serde_json::from_value(template[name].clone()).expect("ids");
    let draft = Draft {
        room_id: serde_json::from_value(template["room_id"].clone()).expect("a room id"),
        sender: serde_json::from_value(template["sender"].clone()).expect("a user id"),
        kind: template["type"].as_str().expect("a type").to_owned(),
        state_key: template["state_key"].as_str().map(ToOwned::to_owned),
        content: to_raw_value(&template["content"]).expect("JSON"),
        redacts: None,
        prev_events: ids("prev_events"),
        auth_events: ids("auth_events"),
        depth: template["depth"].as_u64().expect("a depth"),
        origin_server_ts: MilliSecondsSinceUnixEpoch::now(),
    };
    draft.seal(rules, &house.name, &house.key).expect("an event")
}

/// A message that follows what `room` has and rests on a membership that may be over.
pub fn message_resting_on(house: &House, room: &Room, sender: &UserId, membership: &EventId, text: &str) -> Event {
    let state = |kind: &str| {
        room.current(kind, "").unwrap().map(|placed| placed.event.event_id().to_owned()).expect("it is there")
    };
    let draft = Draft {
        room_id: Some(room.id().to_owned()),
        sender: sender.to_owned(),
        kind: "m.room.message".into(),
        state_key: None,
        content: to_raw_value(&json!({ "msgtype": "m.text", "body": text })).expect("JSON"),
        redacts: None,
        prev_events: room.extremities(),
        auth_events: vec![state("m.room.create"), state("m.room.power_levels"), membership.to_owned()],
        depth: 100,
        origin_server_ts: MilliSecondsSinceUnixEpoch::now(),
    };
    draft.seal(room.rules(), &house.name, &house.key).expect("an event")
}

pub async fn send(from: &House, to: &House, txn: &str, events: &[Bytes]) -> (StatusCode, Value) {
    let events: Vec<&str> = events.iter().map(|event| std::str::from_utf8(event).expect("UTF-8")).collect();
    let body = format!(r#"{{"origin":"{}","origin_server_ts":1,"pdus":[{}]}}"#, from.name, events.join(","));
    let request = signed(from, to, &from.key, &Method::PUT, &format!("/_matrix/federation/v1/send/{txn}"), &body);
    call(to, request).await
}

pub async fn call(to: &House, request: http::Request<Bytes>) -> (StatusCode, Value) {
    let answer = to.links.call(&to.name, request).await.expect("it is there");
    (answer.status(), serde_json::from_slice(answer.body()).expect("JSON"))
}

/// A message that follows what its sender's server has.
pub fn message(house: &House, key: &SigningKey, room: &Room, sender: &UserId, text: &str) -> Event {
    let state = |kind: &str, key: &str| {
        room.current(kind, key).unwrap().map(|placed| placed.event.event_id().to_owned()).expect("it is there")
    };
    let draft = Draft {
        room_id: Some(room.id().to_owned()),
        sender: sender.to_owned(),
        kind: "m.room.message".into(),
        state_key: None,
        content: to_raw_value(&json!({ "msgtype": "m.text", "body": text })).expect("JSON"),
        redacts: None,
        prev_events: room.extremities(),
        auth_events: vec![
            state("m.room.create", ""),
            state("m.room.power_levels", ""),
            state("m.room.member", sender.as_str()),
        ],
        depth: 100,
        origin_server_ts: MilliSecondsSinceUnixEpoch::now(),
    };
    draft.seal(room.rules(), &house.name, key).expect("an event")
}

/// Bob of the second server in a room of the first.
async fn shared() -> (House, House, OwnedRoomId) {
    let (one, two) = pair().await;
    let room = one.create(&one.user("alice"), Preset::PublicChat, RoomVersionId::V11).await;
    two.join(&two.user("bob"), &room, &one).await.expect("let in");
    until("one sees bob", || one.room(&room).is_joined(&two.user("bob"))).await;
    (one, two, room)
}

#[tokio::test]
async fn requests_without_a_valid_signature_are_refused() {
    let (one, two, room) = shared().await;
    let path = format!("/_matrix/federation/v1/state_ids/{room}?event_id=%24x");
    let other = SigningKey::from_seed("1", &[9; 32]).expect("a key");
    let (status, error) = call(&one, signed(&two, &one, &other, &Method::GET, &path, "")).await;
    assert_eq!((status, error["errcode"].as_str()), (StatusCode::UNAUTHORIZED, Some("M_UNAUTHORIZED")));
    let bare = http::Request::builder().uri(&path).body(Bytes::new()).expect("a request");
    assert_eq!(call(&one, bare).await.0, StatusCode::UNAUTHORIZED);
    // Signed for somebody else, and brought here.
    let (status, _) = call(&one, signed(&one, &two, &one.key, &Method::GET, &path, "")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    // The right key, the wrong path.
    let mut moved = signed(&two, &one, &two.key, &Method::GET, &path, "");
    *moved.uri_mut() = "/_matrix/federation/v1/publicRooms".parse().expect("a path");
    assert_eq!(call(&one, moved).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_event_with_a_forged_signature_is_not_taken() {
    let (one, two, room) = shared().await;
    let forger = SigningKey::from_seed("1", &[9; 32]).expect("a key");
    let forged = message(&two, &forger, &two.room(&room), &two.user("bob"), "forged");
    let (status, answer) = send(&two, &one, "t1", &[forged.json().clone()]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(answer["pdus"][forged.event_id().as_str()]["error"].is_string(), "{answer}");
    // In the name of somebody of ours.
    let forged = message(&two, &two.key, &two.room(&room), &one.user("alice"), "forged");
    send(&two, &one, "t2", &[forged.json().clone()]).await;
    assert!(one.bodies(&room).is_empty());
}

#[tokio::test]
async fn an_event_whose_content_is_not_what_was_hashed_is_taken_redacted() {
    let (one, two, room) = shared().await;
    let event = message(&two, &two.key, &two.room(&room), &two.user("bob"), "honest");
    let text = String::from_utf8(event.json().to_vec()).expect("UTF-8").replace("honest", "forged");
    let (_, answer) = send(&two, &one, "t1", &[text.into()]).await;
    assert_eq!(answer["pdus"][event.event_id().as_str()], json!({}));
    let placed = one.room(&room).event(event.event_id()).unwrap().expect("it is there");
    assert_eq!(placed.event.content().get(), "{}");
}

#[tokio::test]
async fn a_transaction_replayed_has_the_same_answer_and_no_effect() {
    let (one, two, room) = shared().await;
    let event = message(&two, &two.key, &two.room(&room), &two.user("bob"), "once");
    let first = send(&two, &one, "t1", &[event.json().clone()]).await;
    assert_eq!(first, send(&two, &one, "t1", &[event.json().clone()]).await);
    assert_eq!(first, send(&two, &one, "t2", &[event.json().clone()]).await);
    assert_eq!(one.bodies(&room), ["once"]);
}

#[tokio::test]
async fn a_transaction_of_ten_thousand_events_is_refused() {
    let (one, two, room) = shared().await;
    let event = message(&two, &two.key, &two.room(&room), &two.user("bob"), "many");
    let (status, error) = send(&two, &one, "t1", &vec![event.json().clone(); 10_000]).await;
    assert_eq!((status, error["errcode"].as_str()), (StatusCode::BAD_REQUEST, Some("M_BAD_JSON")));
    assert!(one.bodies(&room).is_empty());
}

#[tokio::test]
async fn missing_events_are_fetched() {
    let (one, two, room) = shared().await;
    one.links.set_down("one.example", true);
    for text in ["a", "b", "c"] {
        two.say(&two.user("bob"), &room, text).await;
    }
    let newest = two.room(&room).newest(i64::MIN, i64::MAX, 1).unwrap().pop().expect("an event");
    one.links.set_down("one.example", false);
    let (_, answer) = send(&two, &one, "t1", &[newest.event.json().clone()]).await;
    assert_eq!(answer["pdus"][newest.event.event_id().as_str()], json!({}));
    assert_eq!(one.bodies(&room), ["a", "b", "c"]);
}

#[tokio::test]
async fn an_event_that_follows_what_nobody_has_stays_out() {
    let (one, two, room) = shared().await;
    let mut event: Value =
        serde_json::from_slice(message(&two, &two.key, &two.room(&room), &two.user("bob"), "x").json()).unwrap();
    event["prev_events"] = json!(["$nowhere_nowhere_nowhere_nowhere_nowhere_nowher"]);
    let draft = Draft {
        room_id: Some(room.clone()),
        sender: two.user("bob"),
        kind: "m.room.message".into(),
        state_key: None,
        content: to_raw_value(&event["content"]).unwrap(),
        redacts: None,
        prev_events: vec![EventId::parse("$nowhere_nowhere_nowhere_nowhere_nowhere_nowher").unwrap()],
        auth_events: serde_json::from_value(event["auth_events"].clone()).unwrap(),
        depth: 50,
        origin_server_ts: MilliSecondsSinceUnixEpoch::now(),
    };
    let event = draft.seal(one.room(&room).rules(), &two.name, &two.key).expect("an event");
    send(&two, &one, "t1", &[event.json().clone()]).await;
    assert!(one.room(&room).event(event.event_id()).unwrap().is_none());
    // Nobody is asked for a state that would soon be the whole room's.
    assert!(!one.links.asked.lock().iter().any(|asked| asked.contains("/state")));
    one.say(&one.user("alice"), &room, "the room goes on").await;
    until("two hears it", || two.bodies(&room) == ["the room goes on"]).await;
}

#[tokio::test]
async fn a_server_that_is_shut_out_is_refused() {
    let (one, two, room) = shared().await;
    let acl = json!({ "allow": ["*"], "deny": ["two.example"] });
    one.set(&one.user("alice"), &room, "m.room.server_acl", acl).await;
    let event = message(&two, &two.key, &two.room(&room), &two.user("bob"), "shut out");
    let (_, answer) = send(&two, &one, "t1", &[event.json().clone()]).await;
    assert!(answer["pdus"][event.event_id().as_str()]["error"].is_string(), "{answer}");
    let path = format!("/_matrix/federation/v1/backfill/{room}?v={}&limit=10", "%24x");
    let (status, error) = call(&one, signed(&two, &one, &two.key, &Method::GET, &path, "")).await;
    assert_eq!((status, error["errcode"].as_str()), (StatusCode::FORBIDDEN, Some("M_FORBIDDEN")));
}

#[tokio::test]
async fn keys_are_published_and_witnessed() {
    let (one, two, _) = shared().await;
    let get = |path: &str| http::Request::builder().uri(path).body(Bytes::new()).expect("a request");
    let (_, own) = call(&one, get("/_matrix/key/v2/server")).await;
    assert_eq!(own["server_name"], "one.example");
    assert!(own["verify_keys"][one.key.id()]["key"].is_string());
    let (_, witnessed) = call(&one, get("/_matrix/key/v2/query/two.example")).await;
    let word = &witnessed["server_keys"][0];
    assert_eq!(word["verify_keys"][two.key.id()]["key"], json!(two.key.public().to_base64()));
    assert!(word["signatures"]["one.example"].is_object() && word["signatures"]["two.example"].is_object());
}

/// An event that follows and is allowed by what the caller says.
fn event_with(house: &House, room: &Room, prev: Vec<OwnedEventId>, auth: Vec<OwnedEventId>, text: &str) -> Event {
    let draft = Draft {
        room_id: Some(room.id().to_owned()),
        sender: house.user("bob"),
        kind: "m.room.message".into(),
        state_key: None,
        content: to_raw_value(&json!({ "msgtype": "m.text", "body": text })).expect("JSON"),
        redacts: None,
        prev_events: prev,
        auth_events: auth,
        depth: 100,
        origin_server_ts: MilliSecondsSinceUnixEpoch::now(),
    };
    draft.seal(room.rules(), &house.name, &house.key).expect("an event")
}

fn nowhere() -> OwnedEventId {
    EventId::parse("$nowhere_nowhere_nowhere_nowhere_nowhere_nowher").expect("an id")
}

#[tokio::test]
async fn auth_events_that_point_nowhere_keep_an_event_out() {
    let (one, two, room) = shared().await;
    let here = two.room(&room);
    let lost = event_with(&two, &here, here.extremities(), vec![nowhere()], "lost");
    send(&two, &one, "t1", &[lost.json().clone()]).await;
    assert!(one.room(&room).event(lost.event_id()).unwrap().is_none());
    // What follows it has nothing to follow.
    let after = event_with(&two, &here, vec![lost.event_id().to_owned()], message_auth(&two, &here), "after");
    send(&two, &one, "t2", &[after.json().clone()]).await;
    assert!(one.bodies(&room).is_empty());
    one.say(&one.user("alice"), &room, "the room goes on").await;
    until("two hears it", || two.bodies(&room).contains(&"the room goes on".to_owned())).await;
}

fn message_auth(house: &House, room: &Room) -> Vec<OwnedEventId> {
    let bob = house.user("bob");
    [("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", bob.as_str())]
        .iter()
        .map(|(kind, key)| room.current(kind, key).unwrap().expect("it is there").event.event_id().to_owned())
        .collect()
}

#[tokio::test]
async fn events_of_another_room_are_no_part_of_this_one() {
    let (one, two, room) = shared().await;
    let other = one.create(&one.user("alice"), Preset::PublicChat, RoomVersionId::V11).await;
    two.join(&two.user("bob"), &other, &one).await.expect("let in");
    let (here, there) = (two.room(&room), two.room(&other));
    // Allowed by events of the other room.
    let borrowed = event_with(&two, &here, here.extremities(), message_auth(&two, &there), "borrowed");
    let (_, answer) = send(&two, &one, "t1", &[borrowed.json().clone()]).await;
    assert!(one.room(&room).event(borrowed.event_id()).unwrap().is_none(), "{answer}");
    // Following events of the other room.
    let astray = event_with(&two, &here, there.extremities(), message_auth(&two, &here), "astray");
    send(&two, &one, "t2", &[astray.json().clone()]).await;
    assert!(one.room(&room).event(astray.event_id()).unwrap().is_none());
    assert!(one.bodies(&room).is_empty() && one.bodies(&other).is_empty());
    one.say(&one.user("alice"), &room, "the room goes on").await;
    until("two hears it", || two.bodies(&room).contains(&"the room goes on".to_owned())).await;
}

#[tokio::test]
async fn a_burst_of_ten_thousand_branches_is_tied_together_and_stops_nobody() {
    let (one, two, room) = shared().await;
    let here = two.room(&room);
    let (prev, auth) = (here.extremities(), message_auth(&two, &here));
    for part in 0..200 {
        let events: Vec<Bytes> = (0..50)
            .map(|at| event_with(&two, &here, prev.clone(), auth.clone(), &format!("{part} {at}")).json().clone())
            .collect();
        let (status, answer) = send(&two, &one, &format!("t{part}"), &events).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    let many = one.room(&room).extremities().len();
    assert!(many <= koine_room::EXTREMITIES_MAX, "{many} branches are left");
    one.say(&one.user("alice"), &room, "the room goes on").await;
    until("one end is left", || one.room(&room).extremities().len() <= 2).await;
}

#[tokio::test]
async fn branches_that_nobody_here_may_tie_are_let_go_in_time() {
    let (one, two) = pair().await;
    let (bob, alice) = (two.user("bob"), one.user("alice"));
    let room = two.create(&bob, Preset::PublicChat, RoomVersionId::V11).await;
    two.set(&bob, &room, "m.room.power_levels", json!({ "users": { bob.as_str(): 100 }, "events_default": 50 })).await;
    one.join(&alice, &room, &two).await.expect("let in");
    until("two sees alice", || two.room(&room).is_joined(&alice)).await;
    let here = two.room(&room);
    let (prev, auth) = (here.extremities(), message_auth(&two, &here));
    for part in 0..20 {
        let events: Vec<Bytes> = (0..50)
            .map(|at| event_with(&two, &here, prev.clone(), auth.clone(), &format!("{part} {at}")).json().clone())
            .collect();
        send(&two, &one, &format!("t{part}"), &events).await;
    }
    assert_eq!(one.bodies(&room).len(), 1_000);
    let many = one.room(&room).extremities().len();
    assert!(many <= 100, "{many} branches are kept");
    two.say(&bob, &room, "the room goes on").await;
    until("one hears it", || one.bodies(&room).contains(&"the room goes on".to_owned())).await;
}

#[tokio::test]
async fn a_key_that_ran_out_signs_no_requests_and_no_new_events() {
    let (one, two, room) = shared().await;
    let ring = one.federation.keys();
    let now = MilliSecondsSinceUnixEpoch::now();
    assert!(ring.for_request(&two.name, two.key.id(), now).is_some());
    let later = MilliSecondsSinceUnixEpoch(u64::from(now.get()).saturating_add(8 * 24 * 3_600_000).try_into().unwrap());
    assert!(ring.for_request(&two.name, two.key.id(), later).is_none());
    // What was made while it was good stays good; what is made after is not, where the version asks.
    assert!(ring.for_event(&two.name, two.key.id(), now, true).is_some());
    assert!(ring.for_event(&two.name, two.key.id(), later, true).is_none());
    assert!(ring.for_event(&two.name, two.key.id(), later, false).is_some());
    assert!(one.room(&room).is_joined(&two.user("bob")));
}

#[tokio::test]
async fn a_key_that_was_replaced_is_published_and_vouches_for_old_events() {
    let links = std::sync::Arc::new(crate::houses::Links::default());
    let one = House::new(&links, "one.example").await;
    let old = SigningKey::from_seed("old", &[3; 32]).expect("a key");
    let ended = MilliSecondsSinceUnixEpoch(1_000_000_u32.into());
    let config = koine_matrix_federation::FederationConfig {
        old_keys: vec![(old.id().to_owned(), old.public().to_base64(), ended)],
        ..Default::default()
    };
    let two = House::with(&links, "two.example", config).await;
    let get = |path: &str| http::Request::builder().uri(path).body(Bytes::new()).expect("a request");
    let (_, own) = call(&two, get("/_matrix/key/v2/server")).await;
    assert_eq!(own["old_verify_keys"][old.id()], json!({ "key": old.public().to_base64(), "expired_ts": 1_000_000 }));
    // Another server learns it, and tells it on.
    let (_, witnessed) = call(&one, get("/_matrix/key/v2/query/two.example")).await;
    assert_eq!(witnessed["server_keys"][0]["old_verify_keys"][old.id()]["expired_ts"], 1_000_000);
    let ring = one.federation.keys();
    assert!(ring.for_event(&two.name, old.id(), ended, true).is_some());
    assert!(ring.for_event(&two.name, old.id(), MilliSecondsSinceUnixEpoch(1_000_001_u32.into()), true).is_none());
    assert!(ring.for_request(&two.name, old.id(), ended).is_none());
}
