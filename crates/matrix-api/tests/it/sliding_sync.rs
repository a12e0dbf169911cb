//! Simplified sliding sync: windows into lists of rooms, and what a connection is told of them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    Answer, Person, World,
    rooms::{create, encode, text},
};

const PATH: &str = "/unstable/org.matrix.simplified_msc3575/sync";

async fn ask(world: &World, who: &Person, query: &str, body: &Value) -> Answer {
    who.post(world, &format!("{PATH}?{query}"), body.clone()).await
}

async fn first(world: &World, who: &Person, body: &Value) -> Value {
    ask(world, who, "", body).await.ok()
}

/// The next answer after `before`, without waiting.
async fn next(world: &World, who: &Person, before: &Value, body: &Value) -> Value {
    ask(world, who, &format!("pos={}", text(before, "pos")), body).await.ok()
}

pub(crate) async fn say(world: &World, who: &Person, room: &str, body: &str) -> String {
    let path =
        format!("/v3/rooms/{}/send/m.room.message/{}", encode(room), encode(&format!("{}-{body}", who.device_id)));
    text(&who.put(world, &path, json!({ "msgtype": "m.text", "body": body })).await.ok(), "event_id")
}

pub(crate) async fn join(world: &World, who: &Person, room: &str) {
    who.post(world, &format!("/v3/join/{}", encode(room)), json!({})).await.ok();
}

pub(crate) async fn leave(world: &World, who: &Person, room: &str) {
    who.post(world, &format!("/v3/rooms/{}/leave", encode(room)), json!({})).await.ok();
}

/// One list of the first rooms.
fn list(last: u64, required_state: &Value, timeline_limit: u64) -> Value {
    json!({ "lists": { "all": {
        "ranges": [[0, last]], "required_state": required_state, "timeline_limit": timeline_limit,
    } } })
}

pub(crate) fn bodies(room: &Value) -> Vec<&str> {
    let events = room["timeline"].as_array().map(Vec::as_slice).unwrap_or_default();
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

pub(crate) fn state(room: &Value) -> Vec<(&str, &str)> {
    let events = room["required_state"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut pairs: Vec<_> = events
        .iter()
        .map(|event| (event["type"].as_str().unwrap_or_default(), event["state_key"].as_str().unwrap_or_default()))
        .collect();
    pairs.sort_unstable();
    pairs
}

pub(crate) fn rooms(answer: &Value) -> Vec<&str> {
    answer["rooms"].as_object().map(|rooms| rooms.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[tokio::test]
async fn a_window_shows_the_rooms_that_stirred_last_and_tells_each_once() {
    let world = World::new();
    let alice = world.person("alice").await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(create(&world, &alice, json!({ "preset": "public_chat", "name": format!("Room {n}") })).await);
    }
    say(&world, &alice, &ids[0], "bump").await;
    let body = list(1, &json!([["m.room.create", ""]]), 1);
    let answer = first(&world, &alice, &body).await;
    assert_eq!(answer["lists"]["all"]["count"], 4);
    let mut expected = [ids[0].as_str(), ids[3].as_str()];
    expected.sort_unstable();
    assert_eq!(rooms(&answer), expected);
    let room = &answer["rooms"][&ids[0]];
    assert_eq!(room["initial"], true);
    assert_eq!((room["name"].as_str(), bodies(room)), (Some("Room 0"), vec!["bump"]));
    assert_eq!(room["limited"], true);
    assert_eq!((&room["num_live"], &room["joined_count"], &room["invited_count"]), (&json!(0), &json!(1), &json!(0)));
    assert_eq!(state(room), [("m.room.create", "")]);
    assert!(room["bump_stamp"].as_u64() > answer["rooms"][&ids[3]]["bump_stamp"].as_u64());

    let quiet = next(&world, &alice, &answer, &body).await;
    assert!(rooms(&quiet).is_empty(), "{quiet}");
    assert_eq!(quiet["lists"]["all"]["count"], 4);

    // Out of sight and unheard of, then on top.
    say(&world, &alice, &ids[1], "up").await;
    let answer = next(&world, &alice, &quiet, &body).await;
    assert_eq!(rooms(&answer), [ids[1].as_str()]);
    say(&world, &alice, &ids[1], "again").await;
    let answer = next(&world, &alice, &answer, &body).await;
    let room = &answer["rooms"][&ids[1]];
    assert_eq!((room.get("initial"), bodies(room), &room["num_live"]), (None, vec!["again"], &json!(1)));
    assert_eq!(room.get("limited"), None);
}

#[tokio::test]
async fn what_happened_out_of_sight_is_told_when_the_room_comes_back() {
    let world = World::new();
    let alice = world.person("alice").await;
    let (one, two) = (create(&world, &alice, json!({})).await, create(&world, &alice, json!({})).await);
    let body = list(0, &json!([["m.room.topic", ""]]), 10);
    say(&world, &alice, &one, "one").await;
    let answer = first(&world, &alice, &body).await;
    assert_eq!(rooms(&answer), [one.as_str()]);
    say(&world, &alice, &two, "two").await;
    let answer = next(&world, &alice, &answer, &body).await;
    assert_eq!(rooms(&answer), [two.as_str()]);
    // Whatever happens brings a room to the top; then the other one hides it again.
    let topic = format!("/v3/rooms/{}/state/m.room.topic", encode(&one));
    alice.put(&world, &topic, json!({ "topic": "unseen" })).await.ok();
    say(&world, &alice, &two, "two again").await;
    let answer = next(&world, &alice, &answer, &body).await;
    assert_eq!(rooms(&answer), [two.as_str()]);
    let wide = list(1, &json!([["m.room.topic", ""]]), 10);
    let answer = next(&world, &alice, &answer, &wide).await;
    let room = &answer["rooms"][&one];
    assert_eq!((state(room), room.get("initial")), (vec![("m.room.topic", "")], None));
    assert_eq!(room["timeline"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn required_state_knows_wildcards_me_and_lazy_members() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat", "name": "N", "topic": "T" })).await;
    join(&world, &bob, &room).await;
    for key in ["x", "y"] {
        let path = format!("/v3/rooms/{}/state/org.example.thing/{key}", encode(&room));
        alice.put(&world, &path, json!({})).await.ok();
    }
    say(&world, &bob, &room, "hello").await;
    let wanted = |required: Value| json!({ "room_subscriptions": { (room.as_str()): { "required_state": required, "timeline_limit": 1 } } });
    let answer = first(&world, &alice, &wanted(json!([["org.example.thing", "*"], ["m.room.member", "$ME"]]))).await;
    let (me, him) = (alice.user_id.as_str(), bob.user_id.as_str());
    let things = [("org.example.thing", "x"), ("org.example.thing", "y")];
    assert_eq!(state(&answer["rooms"][&room]), [&[("m.room.member", me)], &things[..]].concat());

    let lazy = wanted(json!([["m.room.member", "$LAZY"]]));
    let answer = first(&world, &alice, &lazy).await;
    assert_eq!(state(&answer["rooms"][&room]), [("m.room.member", him)]);
    say(&world, &bob, &room, "known already").await;
    let answer = next(&world, &alice, &answer, &lazy).await;
    assert_eq!(state(&answer["rooms"][&room]), []);
    say(&world, &alice, &room, "new here").await;
    let answer = next(&world, &alice, &answer, &lazy).await;
    assert_eq!(state(&answer["rooms"][&room]), [("m.room.member", me)]);

    let answer = first(&world, &alice, &wanted(json!([["*", "*"]]))).await;
    let all = state(&answer["rooms"][&room]);
    assert!(all.contains(&("m.room.topic", "")) && all.contains(&("m.room.member", him)), "{all:?}");
    let answer = first(&world, &alice, &wanted(json!([["*", "x"]]))).await;
    assert_eq!(state(&answer["rooms"][&room]), [("org.example.thing", "x")]);
    // Whoever asks for more than before gets that, and not all anew.
    let answer = next(&world, &alice, &answer, &wanted(json!([["*", "x"], ["m.room.name", ""]]))).await;
    assert_eq!(state(&answer["rooms"][&room]), [("m.room.name", "")]);
    assert_eq!(answer["rooms"][&room].get("initial"), None);
}

#[tokio::test]
async fn filters_divide_the_rooms() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let plain = create(&world, &alice, json!({})).await;
    let space = create(&world, &alice, json!({ "creation_content": { "type": "m.space" } })).await;
    let encrypted = create(
        &world,
        &alice,
        json!({ "initial_state": [
        { "type": "m.room.encryption", "state_key": "", "content": { "algorithm": "m.megolm.v1.aes-sha2" } },
    ] }),
    )
    .await;
    let direct = create(&world, &alice, json!({ "is_direct": true })).await;
    let invited = create(&world, &bob, json!({ "invite": [alice.user_id] })).await;
    let data = format!("/v3/user/{}/account_data/m.direct", encode(&alice.user_id));
    alice.put(&world, &data, json!({ (bob.user_id.as_str()): [direct] })).await.ok();
    let child = format!("/v3/rooms/{}/state/m.space.child/{}", encode(&space), encode(&plain));
    alice.put(&world, &child, json!({ "via": ["example.org"] })).await.ok();
    let child = format!("/v3/rooms/{}/state/m.space.child/{}", encode(&space), encode(&direct));
    alice.put(&world, &child, json!({})).await.ok();
    let tag = format!("/v3/user/{}/rooms/{}/tags/m.favourite", encode(&alice.user_id), encode(&encrypted));
    alice.put(&world, &tag, json!({})).await.ok();
    for (filters, mut expected) in [
        (json!({ "spaces": [space] }), vec![&plain]),
        (json!({ "spaces": ["!nowhere:example.org"] }), vec![]),
        (json!({ "tags": ["m.favourite", "m.lowpriority"] }), vec![&encrypted]),
        (json!({ "not_tags": ["m.favourite"], "is_invite": true }), vec![&invited]),
        (json!({ "tags": ["m.favourite"], "not_tags": ["m.favourite"] }), vec![]),
        (json!({ "is_dm": true }), vec![&direct]),
        (json!({ "is_invite": true }), vec![&invited]),
        (json!({ "is_encrypted": true }), vec![&encrypted]),
        (json!({ "room_types": ["m.space"] }), vec![&space]),
        (json!({ "not_room_types": ["m.space"], "is_invite": false }), vec![&plain, &encrypted, &direct]),
        (json!({ "room_types": [null], "is_dm": false, "is_encrypted": false, "is_invite": false }), vec![&plain]),
        (json!({ "room_types": ["m.space"], "not_room_types": ["m.space"] }), vec![]),
    ] {
        let mut body = list(20, &json!([]), 1);
        body["lists"]["all"]["filters"] = filters;
        let answer = first(&world, &alice, &body).await;
        expected.sort_unstable();
        assert_eq!(rooms(&answer), expected, "{body}");
        assert_eq!(answer["lists"]["all"]["count"], expected.len());
    }
    let answer = first(&world, &alice, &list(20, &json!([]), 1)).await;
    assert_eq!(answer["rooms"][&direct]["is_dm"], true);
    let mut body = list(20, &json!([]), 1);
    body["lists"]["all"]["filters"] = json!({ "room_name_like": "x" });
    assert_eq!(ask(&world, &alice, "", &body).await.error(), (400, "M_UNRECOGNIZED"));
}

#[tokio::test]
async fn an_invitation_becomes_a_room_and_ends_with_the_leaving() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let body = list(20, &json!([["m.room.member", "$ME"]]), 10);
    let answer = first(&world, &bob, &body).await;
    let room = create(&world, &alice, json!({ "name": "Den", "invite": [bob.user_id] })).await;
    let answer = next(&world, &bob, &answer, &body).await;
    let invited = &answer["rooms"][&room];
    assert_eq!((&invited["name"], &invited["initial"]), (&json!("Den"), &json!(true)));
    let shown: Vec<_> = invited["invite_state"].as_array().expect("state").iter().map(|event| &event["type"]).collect();
    assert!(shown.contains(&&json!("m.room.create")) && shown.contains(&&json!("m.room.member")), "{shown:?}");
    assert!(invited.get("timeline").is_none() && invited.get("joined_count").is_none());
    join(&world, &bob, &room).await;
    let answer = next(&world, &bob, &answer, &body).await;
    let joined = &answer["rooms"][&room];
    assert_eq!((&joined["initial"], &joined["joined_count"]), (&json!(true), &json!(2)));
    assert_eq!(joined["required_state"][0]["content"]["membership"], "join");
    leave(&world, &bob, &room).await;
    say(&world, &alice, &room, "not for bob").await;
    let answer = next(&world, &bob, &answer, &body).await;
    let left = &answer["rooms"][&room];
    assert_eq!(left["required_state"][0]["content"]["membership"], "leave");
    assert!(bodies(left).is_empty());
    assert_eq!(answer["lists"]["all"]["count"], 0);
    let quiet = next(&world, &bob, &answer, &body).await;
    assert!(rooms(&quiet).is_empty(), "{quiet}");
}

#[tokio::test]
async fn a_lost_answer_is_given_again_and_an_unknown_position_refused() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({})).await;
    let body = list(20, &json!([]), 10);
    let answer = first(&world, &alice, &body).await;
    say(&world, &alice, &room, "lost").await;
    let lost = next(&world, &alice, &answer, &body).await;
    let again = next(&world, &alice, &answer, &body).await;
    assert_eq!(bodies(&lost["rooms"][&room]), ["lost"]);
    assert_eq!(bodies(&again["rooms"][&room]), ["lost"]);
    let quiet = next(&world, &alice, &again, &body).await;
    assert!(rooms(&quiet).is_empty(), "{quiet}");
    // Two positions back, and one whose answer was given again.
    for old in [&answer, &lost] {
        let refused = ask(&world, &alice, &format!("pos={}", text(old, "pos")), &body).await;
        assert_eq!(refused.error(), (400, "M_UNKNOWN_POS"));
    }
    assert_eq!(ask(&world, &alice, "pos=nonsense", &body).await.error(), (400, "M_UNKNOWN_POS"));
    let other = World::new().person("alice").await;
    let other = Person { token: alice.token.clone(), ..other };
    assert_eq!(ask(&world, &other, "pos=p1_deadbeef_0_0000000000000000", &body).await.error(), (400, "M_UNKNOWN_POS"));
}

#[tokio::test]
async fn connections_of_one_device_know_nothing_of_each_other() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({})).await;
    let named = |name: &str| {
        let mut body = list(20, &json!([]), 1);
        body["conn_id"] = json!(name);
        body
    };
    let (list, push) = (named("room-list"), named("notifications"));
    let one = first(&world, &alice, &list).await;
    let two = first(&world, &alice, &push).await;
    assert_eq!((rooms(&one), rooms(&two)), (vec![room.as_str()], vec![room.as_str()]));
    assert!(rooms(&next(&world, &alice, &one, &list).await).is_empty());
    let crossed = ask(&world, &alice, &format!("pos={}", text(&two, "pos")), &list).await;
    assert_eq!(crossed.error(), (400, "M_UNKNOWN_POS"));
    assert!(rooms(&next(&world, &alice, &two, &push).await).is_empty());
}

#[tokio::test]
async fn a_connection_opened_later_finds_the_rooms_as_they_are_by_then() {
    let world = World::new();
    let alice = world.person("alice").await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(create(&world, &alice, json!({})).await);
    }
    let named = |name: &str| {
        let mut body = list(0, &json!([]), 1);
        body["conn_id"] = json!(name);
        body
    };
    let (old, new) = (named("old"), named("new"));
    let before = first(&world, &alice, &old).await;
    assert_eq!((rooms(&before), &before["lists"]["all"]["count"]), (vec![ids[3].as_str()], &json!(4)));
    leave(&world, &alice, &ids[3]).await;
    say(&world, &alice, &ids[1], "up").await;
    let after = first(&world, &alice, &new).await;
    assert_eq!((rooms(&after), &after["lists"]["all"]["count"]), (vec![ids[1].as_str()], &json!(3)));
    // That the other knows does not keep the first from being told.
    let told = next(&world, &alice, &before, &old).await;
    assert!(rooms(&told).contains(&ids[1].as_str()), "{told}");
    assert_eq!(told["lists"]["all"]["count"], 3);
}

#[tokio::test]
async fn a_subscription_shows_a_longer_timeline_than_the_list() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({})).await;
    for n in 0..5 {
        say(&world, &alice, &room, &n.to_string()).await;
    }
    let mut body = list(20, &json!([]), 1);
    let answer = first(&world, &alice, &body).await;
    assert_eq!(bodies(&answer["rooms"][&room]), ["4"]);
    body["room_subscriptions"] = json!({ (room.as_str()): { "required_state": [], "timeline_limit": 3 } });
    let answer = next(&world, &alice, &answer, &body).await;
    let section = &answer["rooms"][&room];
    assert_eq!((bodies(section), &section["limited"]), (vec!["2", "3", "4"], &json!(true)));
    assert_eq!((&section["unstable_expanded_timeline"], &section["num_live"]), (&json!(true), &json!(0)));
    let from = encode(section["prev_batch"].as_str().expect("a token"));
    let page = alice.get(&world, &format!("/v3/rooms/{}/messages?dir=b&from={from}&limit=1", encode(&room))).await.ok();
    assert_eq!(page["chunk"][0]["content"]["body"], "1");
    let stranger = world.person("bob").await;
    assert!(rooms(&first(&world, &stranger, &body).await).is_empty());
}

#[tokio::test]
async fn who_waits_is_woken_by_what_is_in_sight_and_by_nothing_else() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let other = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    join(&world, &bob, &room).await;
    join(&world, &bob, &other).await;
    let body = json!({ "room_subscriptions": { (room.as_str()): { "timeline_limit": 10 } } });
    let answer = first(&world, &bob, &body).await;
    let query = format!("timeout=60000&pos={}", text(&answer, "pos"));
    let talk = async {
        say(&world, &alice, &other, "elsewhere").await;
        say(&world, &alice, &other, "elsewhere again").await;
        say(&world, &alice, &room, "here").await;
    };
    let woken = async { tokio::time::timeout(Duration::from_secs(30), ask(&world, &bob, &query, &body)).await };
    let (woken, ()) = tokio::join!(woken, talk);
    let woken = woken.expect("woken").ok();
    assert_eq!(rooms(&woken), [room.as_str()]);
    assert_eq!(bodies(&woken["rooms"][&room]), ["here"]);
    // The other room comes with its history once it is in sight.
    let both = json!({ "room_subscriptions": { (other.as_str()): { "timeline_limit": 2 } } });
    let answer = next(&world, &bob, &woken, &both).await;
    assert_eq!(bodies(&answer["rooms"][&other]), ["elsewhere", "elsewhere again"]);
}

#[tokio::test]
async fn counts_of_what_is_unread_follow_messages_and_receipts() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    join(&world, &bob, &room).await;
    let body = list(20, &json!([]), 10);
    let answer = first(&world, &bob, &body).await;
    say(&world, &alice, &room, "one").await;
    let content = json!({ "msgtype": "m.text", "body": "two", "m.mentions": { "user_ids": [bob.user_id] } });
    let path = format!("/v3/rooms/{}/send/m.room.message/mention", encode(&room));
    let event = text(&alice.put(&world, &path, content).await.ok(), "event_id");
    let answer = next(&world, &bob, &answer, &body).await;
    let section = &answer["rooms"][&room];
    assert_eq!((&section["notification_count"], &section["highlight_count"]), (&json!(2), &json!(1)));
    let receipt = format!("/v3/rooms/{}/receipt/m.read/{}", encode(&room), encode(&event));
    bob.post(&world, &receipt, json!({})).await.ok();
    let answer = next(&world, &bob, &answer, &body).await;
    assert_eq!(answer["rooms"][&room]["notification_count"], 0);
    assert!(bodies(&answer["rooms"][&room]).is_empty());
}

#[tokio::test]
async fn heroes_name_a_room_without_a_name() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let name = format!("/v3/profile/{}/displayname", encode(&bob.user_id));
    bob.put(&world, &name, json!({ "displayname": "Bob B." })).await.ok();
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    join(&world, &bob, &room).await;
    let body = list(20, &json!([]), 1);
    let answer = first(&world, &alice, &body).await;
    let section = &answer["rooms"][&room];
    assert_eq!(section["heroes"], json!([{ "user_id": bob.user_id, "displayname": "Bob B." }]));
    let path = format!("/v3/rooms/{}/state/m.room.name", encode(&room));
    alice.put(&world, &path, json!({ "name": "Named" })).await.ok();
    let answer = next(&world, &alice, &answer, &body).await;
    let section = &answer["rooms"][&room];
    assert_eq!((&section["name"], section.get("heroes")), (&json!("Named"), None));
}

#[tokio::test]
async fn extensions_tell_of_the_rooms_in_sight() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let other = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    for room in [&room, &other] {
        join(&world, &bob, room).await;
    }
    let on = json!({ "enabled": true });
    let body = json!({
        "room_subscriptions": { (room.as_str()): { "timeline_limit": 5 } },
        "extensions": { "account_data": on, "receipts": on, "typing": on, "e2ee": on, "to_device": on },
    });
    let answer = first(&world, &bob, &body).await;
    let extensions = &answer["extensions"];
    let global: Vec<_> = extensions["account_data"]["global"].as_array().expect("data").iter().collect();
    assert!(global.iter().any(|data| data["type"] == "m.push_rules"));
    assert_eq!(extensions["e2ee"]["device_one_time_keys_count"], json!({ "signed_curve25519": 0 }));
    assert!(extensions["to_device"]["next_batch"].is_string());
    assert!(extensions.get("receipts").is_none() && extensions.get("typing").is_none());

    let event = say(&world, &alice, &room, "read me").await;
    for room in [&room, &other] {
        let typing = format!("/v3/rooms/{}/typing/{}", encode(room), encode(&alice.user_id));
        alice.put(&world, &typing, json!({ "typing": true, "timeout": 30000 })).await.ok();
        let tag = format!("/v3/user/{}/rooms/{}/tags/m.favourite", encode(&bob.user_id), encode(room));
        bob.put(&world, &tag, json!({})).await.ok();
    }
    let receipt = format!("/v3/rooms/{}/receipt/m.read/{}", encode(&room), encode(&event));
    alice.post(&world, &receipt, json!({})).await.ok();
    let answer = next(&world, &bob, &answer, &body).await;
    let extensions = &answer["extensions"];
    let only = |part: &str| -> Vec<String> {
        extensions[part]["rooms"].as_object().map(|rooms| rooms.keys().cloned().collect()).unwrap_or_default()
    };
    for part in ["account_data", "receipts", "typing"] {
        assert_eq!(only(part), std::slice::from_ref(&room), "{part}: {extensions}");
    }
    assert_eq!(extensions["account_data"]["rooms"][&room][0]["type"], "m.tag");
    assert_eq!(extensions["typing"]["rooms"][&room]["content"]["user_ids"], json!([alice.user_id]));
    let quiet = next(&world, &bob, &answer, &body).await;
    let mut parts: Vec<_> = quiet["extensions"].as_object().expect("parts").keys().collect();
    parts.sort_unstable();
    assert_eq!(parts, ["e2ee", "to_device"]);

    // The room that was out of sight brings all of it along.
    let mut wider = body.clone();
    wider["room_subscriptions"][&other] = json!({ "timeline_limit": 1 });
    let answer = next(&world, &bob, &quiet, &wider).await;
    assert_eq!(answer["extensions"]["account_data"]["rooms"][&other][0]["type"], "m.tag");
    assert_eq!(answer["extensions"]["typing"]["rooms"][&other]["content"]["user_ids"], json!([alice.user_id]));
}

#[tokio::test]
async fn messages_to_the_device_go_on_from_a_token_of_either_sync() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let send = |n: u32| {
        let (world, alice, bob) = (&world, &alice, &bob);
        async move {
            let messages = json!({ "messages": { (bob.user_id.as_str()): { (bob.device_id.as_str()): { "n": n } } } });
            alice.put(world, &format!("/v3/sendToDevice/org.example.note/{n}"), messages).await.ok();
        }
    };
    send(1).await;
    let classic = bob.get(&world, "/v3/sync").await.ok();
    assert_eq!(classic["to_device"]["events"][0]["content"]["n"], 1);
    send(2).await;
    let body = |since: &str| json!({ "extensions": { "to_device": { "enabled": true, "since": since } } });
    let answer = first(&world, &bob, &body(&text(&classic, "next_batch"))).await;
    let part = &answer["extensions"]["to_device"];
    let numbers: Vec<_> =
        part["events"].as_array().expect("events").iter().map(|event| &event["content"]["n"]).collect();
    assert_eq!(numbers, [&json!(2)]);
    let answer = next(&world, &bob, &answer, &body(&text(part, "next_batch"))).await;
    assert_eq!(answer["extensions"]["to_device"]["events"], json!([]));
    assert_eq!(ask(&world, &bob, "", &body("nonsense")).await.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn too_much_and_nonsense_are_refused() {
    let world = World::new();
    let alice = world.person("alice").await;
    let many: serde_json::Map<String, Value> = (0..101).map(|n| (n.to_string(), json!({ "ranges": [] }))).collect();
    for (body, expected) in [
        (json!({ "lists": many }), (400, "M_INVALID_PARAM")),
        (json!({ "conn_id": "x".repeat(100) }), (400, "M_INVALID_PARAM")),
        (json!({ "lists": { "a": { "ranges": [[3, 1]] } } }), (400, "M_INVALID_PARAM")),
        (json!({ "lists": { "a": { "ranges": [[-3, 1]] } } }), (400, "M_BAD_JSON")),
        (json!({ "lists": [] }), (400, "M_BAD_JSON")),
    ] {
        assert_eq!(ask(&world, &alice, "", &body).await.error(), expected, "{body}");
    }
    assert_eq!(ask(&world, &alice, "timeout=x", &json!({})).await.error(), (400, "M_INVALID_PARAM"));
    let huge = list(u64::MAX, &json!([]), u64::MAX);
    assert_eq!(first(&world, &alice, &huge).await["lists"]["all"]["count"], 0);
    assert_eq!(world.call(http::Method::POST, PATH, None, json!({})).await.error(), (401, "M_MISSING_TOKEN"));
}
