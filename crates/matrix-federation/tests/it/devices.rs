//! Devices, keys, messages to devices and presence, between servers.

use std::{collections::BTreeMap, time::Duration};

use http::{Method, StatusCode};
use koine_account::{
    Claim, KeyUpload, KeysElsewhere, NewSession, Postbox, PresenceState, Recipient, ToDevice, UserKeys, WantedKeys,
};
use koine_room::Preset;
use koine_store::Position;
use ruma_common::{
    CanonicalJsonObject, CanonicalJsonValue, DeviceId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId,
};
use serde_json::{Value, json, value::to_raw_value};

use crate::{
    hostile::signed,
    houses::{House, pair, until},
};

/// Alice of the first server and bob of the second, with a device each, in a room of the first.
struct Two {
    one: House,
    two: House,
    alice: OwnedUserId,
    bob: OwnedUserId,
    room: OwnedRoomId,
}

async fn two() -> Two {
    let (one, two) = pair().await;
    let (alice, bob) = (one.account("alice").await, two.account("bob").await);
    log_in(&one, &alice, "ALICE").await;
    log_in(&two, &bob, "BOB").await;
    let room = one.create(&alice, Preset::PublicChat, RoomVersionId::V11).await;
    two.join(&bob, &room, &one).await.expect("let in");
    until("one sees bob", || one.room(&room).is_joined(&bob)).await;
    Two { one, two, alice, bob, room }
}

async fn log_in(house: &House, user: &UserId, device_id: &str) {
    let wanted = NewSession { device_id: Some(device_id.to_owned()), ..NewSession::default() };
    house.accounts.start_session(user, wanted).await.expect("logged in");
}

fn device_keys(user: &UserId, device_id: &str, key: &str) -> CanonicalJsonObject {
    let keys = json!({
        "user_id": user, "device_id": device_id, "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": { format!("curve25519:{device_id}"): key },
        "signatures": { user.as_str(): { format!("ed25519:{device_id}"): "signature" } },
    });
    serde_json::from_value(keys).expect("canonical JSON")
}

async fn upload(house: &House, user: &UserId, device_id: &str, key: &str, one_time: &[&str]) {
    let one_time = one_time.iter().map(|id| {
        let key: CanonicalJsonValue = serde_json::from_value(json!({ "key": id })).expect("canonical JSON");
        (format!("signed_curve25519:{id}"), key)
    });
    let device_keys = Some(device_keys(user, device_id, key));
    let upload = KeyUpload { device_keys, one_time_keys: one_time.collect(), ..KeyUpload::default() };
    house.accounts.upload_keys(user, device_id.into(), upload).await.expect("uploaded");
}

/// What a client of `asker` is answered about `user`.
async fn query(house: &House, asker: &UserId, user: &UserId) -> KeysElsewhere {
    let contacts = house.rooms.contacts(asker).expect("readable");
    let shared_since = contacts.shared_since(user).expect("readable");
    let shared_since = shared_since.map(|since| Position(u64::try_from(since).unwrap_or(0)));
    let wanted = vec![WantedKeys { user_id: user.to_owned(), devices: vec![], shared_since }];
    house.accounts.keys_elsewhere(asker, wanted, Duration::from_secs(10)).await.expect("the store works")
}

/// The device ids and their keys as `asker` sees them.
async fn keys_of(house: &House, asker: &UserId, user: &UserId) -> BTreeMap<String, String> {
    let found = query(house, asker, user).await;
    assert!(found.failed.is_empty());
    let keys: &UserKeys = &found.users.iter().find(|(found, _)| found == user).expect("found").1;
    let key = |id: &str, device: &CanonicalJsonObject| {
        let device: Value = serde_json::to_value(device).expect("JSON");
        device["keys"][format!("curve25519:{id}")].as_str().expect("a key").to_owned()
    };
    keys.devices.iter().map(|(id, device)| (id.clone(), key(id, device))).collect()
}

/// Waits until `asker` sees these devices with these keys.
async fn until_keys(house: &House, asker: &UserId, user: &UserId, wanted: &[(&str, &str)]) {
    let wanted: BTreeMap<String, String> = wanted.iter().map(|(id, key)| ((*id).into(), (*key).into())).collect();
    let mut seen = BTreeMap::new();
    for _ in 0..1_000 {
        seen = keys_of(house, asker, user).await;
        if seen == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{seen:?} instead of {wanted:?}");
}

fn asked(house: &House, path: &str) -> usize {
    house.links.asked.lock().iter().filter(|asked| asked.contains(path)).count()
}

fn changed_since(house: &House, position: Position, user: &UserId) -> bool {
    let now = house.rooms.shard().position();
    house.accounts.keys_changed(position, now).expect("readable").iter().any(|changed| changed == user)
}

fn now(house: &House) -> Position {
    house.rooms.shard().position()
}

fn postbox(house: &House, user: &UserId, device_id: &str) -> Vec<Value> {
    let device = (user, <&DeviceId>::from(device_id));
    let postbox: Postbox = house.accounts.postbox(device, Position(0), now(house), 1_000).expect("readable");
    postbox.messages.iter().map(|json| serde_json::from_slice(json).expect("JSON")).collect()
}

async fn write_to(house: &House, from: (&UserId, &str), to: &UserId, texts: &[&str]) {
    for text in texts {
        let content = to_raw_value(&json!({ "text": text })).expect("JSON");
        let messages = vec![(to.to_owned(), Recipient::AllDevices, content)];
        let sent = ToDevice { kind: "m.test".to_owned(), txn_id: format!("txn-{text}"), messages };
        house.accounts.send_to_device((from.0, from.1.into()), sent).await.expect("sent");
    }
}

/// Sends units in the name of `from`.
async fn tell(from: &House, to: &House, txn: &str, units: &[Value]) -> StatusCode {
    let body = json!({ "origin": from.name, "origin_server_ts": 1, "pdus": [], "edus": units }).to_string();
    let path = format!("/_matrix/federation/v1/send/{txn}");
    let request = signed(from, to, &from.key, &Method::PUT, &path, &body);
    to.links.call(&to.name, request).await.expect("it is there").status()
}

fn update(user: &UserId, device_id: &str, (stream_id, previous): (u64, &[u64]), keys: Option<&str>) -> Value {
    let keys = keys.map(|key| device_keys(user, device_id, key));
    let mut content = json!({ "user_id": user, "device_id": device_id, "stream_id": stream_id, "prev_id": previous });
    match keys {
        Some(keys) => content["keys"] = json!(keys),
        None => content["deleted"] = json!(true),
    }
    json!({ "edu_type": "m.device_list_update", "content": content })
}

fn direct(sender: &UserId, message_id: &str, to: &UserId, text: &str) -> Value {
    let content = json!({
        "sender": sender, "type": "m.test", "message_id": message_id, "messages": { to.as_str(): { "*": { "text": text } } },
    });
    json!({ "edu_type": "m.direct_to_device", "content": content })
}

#[tokio::test]
async fn keys_are_asked_for_once_and_kept_up_to_date() {
    let Two { one, two, alice, bob, .. } = two().await;
    upload(&one, &alice, "ALICE", "first", &[]).await;
    assert_eq!(keys_of(&two, &bob, &alice).await, [("ALICE".to_owned(), "first".to_owned())].into());
    let questions = asked(&two, "/user/devices/");
    let place = now(&two);
    log_in(&one, &alice, "OTHER").await;
    upload(&one, &alice, "OTHER", "second", &[]).await;
    until("two is told", || changed_since(&two, place, &alice)).await;
    until_keys(&two, &bob, &alice, &[("ALICE", "first"), ("OTHER", "second")]).await;
    let place = now(&two);
    one.accounts.delete_devices(&alice, vec!["ALICE".into()]).await.expect("deleted");
    until("two is told", || changed_since(&two, place, &alice)).await;
    until_keys(&two, &bob, &alice, &[("OTHER", "second")]).await;
    assert_eq!(asked(&two, "/user/devices/"), questions, "what was told need not be asked for");
}

#[tokio::test]
async fn a_name_shows_and_signatures_of_others_do_not() {
    let Two { one, two, alice, bob, .. } = two().await;
    upload(&one, &alice, "ALICE", "first", &[]).await;
    one.accounts.rename_device(&alice, "ALICE".into(), "Phone".to_owned()).await.expect("renamed");
    let found = query(&two, &bob, &alice).await;
    let device = serde_json::to_value(&found.users[0].1.devices[0].1).expect("JSON");
    assert_eq!(device["unsigned"]["device_display_name"], "Phone");
    assert!(found.users[0].1.user_signing.is_none());
}

#[tokio::test]
async fn a_stranger_is_asked_for_every_time_and_who_left_is_one() {
    let Two { one, two, alice, bob, room } = two().await;
    upload(&one, &alice, "ALICE", "first", &[]).await;
    keys_of(&two, &bob, &alice).await;
    two.rooms.leave(&bob, &room, None).await.expect("left");
    until("one sees it", || !one.room(&room).is_joined(&bob)).await;
    let place = now(&two);
    upload(&one, &alice, "ALICE", "second", &[]).await;
    assert_eq!(keys_of(&two, &bob, &alice).await["ALICE"], "second", "what was remembered is not used");
    assert!(!changed_since(&two, place, &alice), "nobody there shares a room with her");
    two.join(&bob, &room, &one).await.expect("let in again");
    upload(&one, &alice, "ALICE", "third", &[]).await;
    assert_eq!(keys_of(&two, &bob, &alice).await["ALICE"], "third");
}

#[tokio::test]
async fn one_time_keys_of_another_server_are_given_out_once() {
    let Two { one, two, alice, .. } = two().await;
    upload(&one, &alice, "ALICE", "first", &["A", "B"]).await;
    let claim = || {
        let algorithm = "signed_curve25519".to_owned();
        vec![Claim { user_id: alice.clone(), device_id: "ALICE".into(), algorithm }]
    };
    for wanted in [Some("signed_curve25519:A"), Some("signed_curve25519:B"), None] {
        let (given, failed) = two.accounts.claim_keys_elsewhere(claim(), Duration::from_secs(10)).await;
        assert!(failed.is_empty());
        assert_eq!(given.first().map(|key| &*key.key_id), wanted);
    }
}

#[tokio::test]
async fn servers_that_do_not_answer_are_named() {
    let Two { one, two, alice, bob, .. } = two().await;
    upload(&one, &alice, "ALICE", "first", &[]).await;
    one.links.set_down("one.example", true);
    let found = query(&two, &bob, &alice).await;
    assert_eq!(found.failed.iter().map(|server| server.as_str()).collect::<Vec<_>>(), ["one.example"]);
    one.links.set_down("one.example", false);
    assert_eq!(keys_of(&two, &bob, &alice).await.len(), 1);
    one.links.set_down("one.example", true);
    assert_eq!(keys_of(&two, &bob, &alice).await.len(), 1, "what is remembered needs nobody");
}

#[tokio::test]
async fn after_an_outage_the_newest_of_each_device_is_told() {
    let Two { one, two, alice, bob, .. } = two().await;
    upload(&one, &alice, "ALICE", "0", &[]).await;
    keys_of(&two, &bob, &alice).await;
    until("two knows all", || asked(&one, "/send/") > 0).await;
    one.links.set_down("two.example", true);
    for key in ["1", "2", "3"] {
        upload(&one, &alice, "ALICE", key, &[]).await;
    }
    log_in(&one, &alice, "OTHER").await;
    upload(&one, &alice, "OTHER", "4", &[]).await;
    let place = now(&two);
    one.links.set_down("two.example", false);
    // Any request of the other server tells that it is back.
    query(&two, &bob, &one.user("nobody")).await;
    until("two is told", || changed_since(&two, place, &alice)).await;
    until_keys(&two, &bob, &alice, &[("ALICE", "3"), ("OTHER", "4")]).await;
}

#[tokio::test]
async fn a_missing_change_makes_the_list_be_asked_for() {
    let Two { one, two, alice, bob, .. } = two().await;
    upload(&one, &alice, "ALICE", "first", &[]).await;
    keys_of(&two, &bob, &alice).await;
    let questions = asked(&two, "/user/devices/");
    let stream = one.accounts.newest_device_change(&alice).expect("readable").expect("a change").stream_id;
    // Told already: nothing to do.
    tell(&one, &two, "old", &[update(&alice, "ALICE", (stream, &[]), Some("old"))]).await;
    assert_eq!(keys_of(&two, &bob, &alice).await["ALICE"], "first");
    assert_eq!(asked(&two, "/user/devices/"), questions);
    // It follows on one that never came.
    let place = now(&two);
    tell(&one, &two, "gap", &[update(&alice, "GHOST", (stream + 9, &[stream + 8]), Some("ghost"))]).await;
    assert!(changed_since(&two, place, &alice));
    until("the list is asked for", || asked(&two, "/user/devices/") > questions).await;
    let keys = keys_of(&two, &bob, &alice).await;
    assert_eq!(keys, [("ALICE".to_owned(), "first".to_owned())].into(), "her server knows best");
}

#[tokio::test]
async fn who_comes_into_a_room_is_news_to_the_servers_in_it() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.account("alice").await, two.account("bob").await);
    log_in(&two, &bob, "BOB").await;
    upload(&two, &bob, "BOB", "first", &[]).await;
    let room = one.create(&alice, Preset::PublicChat, RoomVersionId::V11).await;
    let place = now(&one);
    two.join(&bob, &room, &one).await.expect("let in");
    until("one is told of bob's device", || changed_since(&one, place, &bob)).await;
    assert_eq!(keys_of(&one, &alice, &bob).await["BOB"], "first");
}

#[tokio::test]
async fn messages_to_devices_come_in_order_after_an_outage() {
    let Two { one, two, alice, bob, .. } = two().await;
    one.links.set_down("two.example", true);
    let texts: Vec<String> = (0..120).map(|n| format!("{n:03}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    write_to(&one, (&alice, "ALICE"), &bob, &texts).await;
    // The same transactions once more do nothing.
    write_to(&one, (&alice, "ALICE"), &bob, &texts).await;
    one.links.set_down("two.example", false);
    query(&two, &bob, &one.user("nobody")).await;
    until("all came", || postbox(&two, &bob, "BOB").len() >= texts.len()).await;
    let came: Vec<String> =
        postbox(&two, &bob, "BOB").iter().map(|it| it["content"]["text"].as_str().expect("text").to_owned()).collect();
    assert_eq!(came, texts);
    assert_eq!(postbox(&two, &bob, "BOB")[0]["sender"], alice.as_str());
    until("none waits", || one.accounts.servers_to_write_to().expect("readable").is_empty()).await;
}

#[tokio::test]
async fn a_message_that_comes_twice_is_delivered_once() {
    let Two { one, two, alice, bob, .. } = two().await;
    for txn in ["a", "b"] {
        let unit = direct(&alice, "the-id", &bob, "hello");
        assert_eq!(tell(&one, &two, txn, &[unit.clone(), unit]).await, StatusCode::OK);
    }
    assert_eq!(postbox(&two, &bob, "BOB").len(), 1);
    tell(&one, &two, "c", &[direct(&alice, "another", &bob, "hello")]).await;
    assert_eq!(postbox(&two, &bob, "BOB").len(), 2);
}

#[tokio::test]
async fn nobody_speaks_for_people_of_other_servers() {
    let Two { one, two, alice, bob, .. } = two().await;
    let carol: OwnedUserId = "@carol:three.example".try_into().expect("a user id");
    let place = now(&two);
    let presence = |user: &UserId| {
        let push = json!([{ "user_id": user, "presence": "online", "last_active_ago": 1 }]);
        json!({ "edu_type": "m.presence", "content": { "push": push } })
    };
    let signing = json!({ "edu_type": "m.signing_key_update", "content": { "user_id": bob, "master_key": {} } });
    let units = [
        direct(&carol, "1", &bob, "forged"),
        direct(&bob, "2", &bob, "forged"),
        update(&bob, "BOB", (1, &[]), Some("forged")),
        update(&carol, "CAROL", (1, &[]), Some("forged")),
        // Of its own, but in no room with anybody here.
        update(&one.user("stranger"), "DEVICE", (1, &[]), Some("unwanted")),
        presence(&bob),
        presence(&carol),
        presence(&one.user("stranger")),
        signing,
    ];
    assert_eq!(tell(&one, &two, "forged", &units).await, StatusCode::OK);
    assert!(postbox(&two, &bob, "BOB").is_empty());
    for user in [&*bob, &carol, &one.user("stranger")] {
        assert!(!changed_since(&two, place, user), "{user}");
        assert!(two.accounts.presences().get(user).is_none(), "{user}");
    }
    tell(&one, &two, "true", &[presence(&alice)]).await;
    assert_eq!(two.accounts.presences().get(&alice).expect("known").state, PresenceState::Online);
}

#[tokio::test]
async fn what_is_no_unit_is_dropped_and_the_rest_is_taken() {
    let Two { one, two, alice, bob, .. } = two().await;
    upload(&one, &alice, "ALICE", "first", &[]).await;
    keys_of(&two, &bob, &alice).await;
    let stream = one.accounts.newest_device_change(&alice).expect("readable").expect("a change").stream_id;
    let mut foreign = update(&alice, "EVIL", (stream + 1, &[stream]), Some("key"));
    foreign["content"]["keys"]["user_id"] = json!(bob);
    let mut huge = update(&alice, "HUGE", (stream + 2, &[stream + 1]), Some("key"));
    huge["content"]["keys"]["padding"] = json!("x".repeat(100_000));
    let long_id = "i".repeat(33);
    let units = [
        json!({ "edu_type": "m.direct_to_device", "content": [] }),
        json!({ "edu_type": "m.direct_to_device", "content": { "sender": alice, "type": "t", "message_id": 7 } }),
        direct(&alice, &long_id, &bob, "too long an id"),
        direct(&alice, "large", &bob, &"x".repeat(70_000)),
        json!({ "edu_type": "m.device_list_update", "content": { "user_id": alice, "stream_id": -1 } }),
        json!({ "edu_type": "m.presence", "content": { "push": [1, { "user_id": alice, "presence": "dancing" }] } }),
        foreign,
        huge,
        direct(&alice, "good", &bob, "good"),
    ];
    assert_eq!(tell(&one, &two, "junk", &units).await, StatusCode::OK);
    assert_eq!(postbox(&two, &bob, "BOB").len(), 1);
    assert_eq!(keys_of(&two, &bob, &alice).await, [("ALICE".to_owned(), "first".to_owned())].into());
    let many = vec![direct(&alice, "many", &bob, "x"); 101];
    assert_eq!(tell(&one, &two, "many", &many).await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_server_is_shown_what_everybody_may_see() {
    let Two { one, two, alice, bob, .. } = two().await;
    upload(&one, &alice, "ALICE", "first", &[]).await;
    let ask = async |method: Method, path: &str, body: &str| {
        let request = signed(&two, &one, &two.key, &method, path, body);
        let answer = one.links.call(&one.name, request).await.expect("it is there");
        (answer.status(), serde_json::from_slice::<Value>(answer.body()).expect("JSON"))
    };
    let path = format!("/_matrix/federation/v1/user/devices/{alice}");
    let (status, list) = ask(Method::GET, &path, "").await;
    assert_eq!((status, &list["user_id"]), (StatusCode::OK, &json!(alice)));
    assert_eq!(list["devices"][0]["device_id"], "ALICE");
    assert!(list["stream_id"].is_u64());
    for nobody in [one.user("nobody"), bob.clone()] {
        let (status, _) = ask(Method::GET, &format!("/_matrix/federation/v1/user/devices/{nobody}"), "").await;
        assert!(status.is_client_error());
    }
    let question = json!({ "device_keys": { alice.as_str(): [], bob.as_str(): [] } }).to_string();
    let (_, keys) = ask(Method::POST, "/_matrix/federation/v1/user/keys/query", &question).await;
    assert!(keys["device_keys"][alice.as_str()]["ALICE"].is_object());
    assert!(keys["device_keys"][bob.as_str()].is_null(), "of its own people alone");
    let (status, _) = ask(Method::POST, "/_matrix/federation/v1/user/keys/query", r#"{"device_keys":[]}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn presence_reaches_those_who_share_a_room_elsewhere() {
    let Two { one, two, alice, bob, room } = two().await;
    let is_online = |user: &UserId| {
        two.accounts.presences().get(user).is_some_and(|presence| presence.state == PresenceState::Online)
    };
    one.rooms.tell_presence(&alice, &json!({ "presence": "online", "status_msg": "here" }));
    until("two knows", || is_online(&alice)).await;
    assert_eq!(two.accounts.presences().get(&alice).expect("known").status_msg.as_deref(), Some("here"));
    let room: &RoomId = &room;
    two.rooms.leave(&bob, room, None).await.expect("left");
    until("one sees it", || !one.room(room).is_joined(&bob)).await;
    one.rooms.tell_presence(&alice, &json!({ "presence": "offline" }));
    write_to(&one, (&alice, "ALICE"), &bob, &["afterwards"]).await;
    until("what was told later came", || !postbox(&two, &bob, "BOB").is_empty()).await;
    assert!(is_online(&alice), "two has no part in it any more");
}
