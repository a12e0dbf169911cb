//! `/sync`: what a client is told, when, and what not.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    Person, World,
    rooms::{create, encode, text},
};

async fn sync(world: &World, who: &Person, query: &str) -> Value {
    who.get(world, &format!("/v3/sync?{query}")).await.ok()
}

/// The next answer after `since`, without waiting.
async fn after(world: &World, who: &Person, since: &Value) -> Value {
    sync(world, who, &format!("since={}", text(since, "next_batch"))).await
}

async fn say(world: &World, who: &Person, room: &str, body: &str) -> String {
    let txn = format!("{}-{body}", who.device_id);
    let path = format!("/v3/rooms/{}/send/m.room.message/{}", encode(room), encode(&txn));
    text(&who.put(world, &path, json!({ "msgtype": "m.text", "body": body })).await.ok(), "event_id")
}

async fn join(world: &World, who: &Person, room: &str) {
    who.post(world, &format!("/v3/join/{}", encode(room)), json!({})).await.ok();
}

fn bodies(section: &Value) -> Vec<&str> {
    let events = section["timeline"]["events"].as_array().expect("a timeline");
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

fn kinds(list: &Value) -> Vec<&str> {
    list["events"].as_array().expect("events").iter().map(|event| event["type"].as_str().expect("a type")).collect()
}

#[tokio::test]
async fn a_first_sync_tells_the_whole_room_and_the_next_only_what_is_new() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({ "preset": "public_chat", "name": "Lobby" })).await;
    let first = sync(&world, &alice, "").await;
    let section = &first["rooms"]["join"][&room];
    assert_eq!(section["timeline"]["events"][0]["type"], "m.room.create");
    assert_eq!(section["summary"]["m.joined_member_count"], 1);
    assert!(kinds(&first["account_data"]).contains(&"m.push_rules"));
    let quiet = after(&world, &alice, &first).await;
    let mut parts: Vec<_> = quiet.as_object().expect("an object").keys().map(String::as_str).collect();
    parts.sort_unstable();
    assert_eq!(parts, ["device_one_time_keys_count", "device_unused_fallback_key_types", "next_batch"]);
    say(&world, &alice, &room, "one").await;
    say(&world, &alice, &room, "two").await;
    let next = after(&world, &alice, &quiet).await;
    let section = &next["rooms"]["join"][&room];
    assert_eq!(bodies(section), ["one", "two"]);
    assert_eq!(section["timeline"]["limited"], false);
    assert_eq!(section["state"]["events"], json!([]));
    assert_eq!(section["timeline"]["events"][0]["unsigned"]["transaction_id"], format!("{}-one", alice.device_id));
}

#[tokio::test]
async fn a_gap_is_marked_and_its_state_is_told_at_its_end() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let first = sync(&world, &alice, "").await;
    let topic = format!("/v3/rooms/{}/state/m.room.topic", encode(&room));
    alice.put(&world, &topic, json!({ "topic": "lost in the gap" })).await.ok();
    for n in 0..5 {
        say(&world, &alice, &room, &n.to_string()).await;
    }
    alice.put(&world, &topic, json!({ "topic": "in the timeline" })).await.ok();
    let filter = encode(r#"{"room":{"timeline":{"limit":3}}}"#);
    let since = text(&first, "next_batch");
    let next = sync(&world, &alice, &format!("since={since}&filter={filter}")).await;
    let section = &next["rooms"]["join"][&room];
    assert_eq!(section["timeline"]["limited"], true);
    assert_eq!(section["timeline"]["events"].as_array().expect("events").len(), 3);
    assert_eq!(section["state"]["events"][0]["content"]["topic"], "lost in the gap");
    let query = format!("since={since}&filter={filter}&use_state_after=true");
    let next = sync(&world, &alice, &query).await;
    let section = &next["rooms"]["join"][&room];
    assert_eq!(section["state_after"]["events"][0]["content"]["topic"], "in the timeline");
    let from = encode(section["timeline"]["prev_batch"].as_str().expect("a token"));
    let page = alice.get(&world, &format!("/v3/rooms/{}/messages?dir=b&from={from}&limit=2", encode(&room))).await.ok();
    assert_eq!(page["chunk"][0]["content"]["body"], "2", "{page}");
}

#[tokio::test]
async fn who_waits_is_woken_by_a_message_and_by_typing() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    join(&world, &bob, &room).await;
    let first = sync(&world, &bob, "").await;
    let query = format!("since={}&timeout=60000", text(&first, "next_batch"));
    let (woken, _) = tokio::join!(sync(&world, &bob, &query), say(&world, &alice, &room, "wake up"));
    assert_eq!(bodies(&woken["rooms"]["join"][&room]), ["wake up"]);
    let query = format!("since={}&timeout=60000", text(&woken, "next_batch"));
    let typing = format!("/v3/rooms/{}/typing/{}", encode(&room), encode(&alice.user_id));
    let (woken, _) = tokio::join!(
        sync(&world, &bob, &query),
        alice.put(&world, &typing, json!({ "typing": true, "timeout": 30000 }))
    );
    let section = &woken["rooms"]["join"][&room];
    assert_eq!(section["ephemeral"]["events"][0]["content"]["user_ids"], json!([alice.user_id]));
    let quiet = tokio::time::timeout(Duration::from_secs(30), after(&world, &bob, &woken)).await.expect("at once");
    assert!(quiet.get("rooms").is_none(), "{quiet}");
}

#[tokio::test]
async fn an_invitation_shows_the_door_sign_and_leaving_closes_the_book() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let first = sync(&world, &bob, "").await;
    let room = create(&world, &alice, json!({ "name": "Den", "invite": [bob.user_id] })).await;
    let invited = after(&world, &bob, &first).await;
    let shown = &invited["rooms"]["invite"][&room]["invite_state"];
    assert!(kinds(shown).contains(&"m.room.name") && kinds(shown).contains(&"m.room.create"), "{shown}");
    join(&world, &bob, &room).await;
    let joined = after(&world, &bob, &invited).await;
    let section = &joined["rooms"]["join"][&room];
    assert!(kinds(&section["timeline"]).contains(&"m.room.member"));
    assert!(joined["rooms"].get("invite").is_none());
    bob.post(&world, &format!("/v3/rooms/{}/leave", encode(&room)), json!({})).await.ok();
    say(&world, &alice, &room, "not for bob").await;
    let left = after(&world, &bob, &joined).await;
    let section = &left["rooms"]["leave"][&room];
    assert_eq!(kinds(&section["timeline"]), ["m.room.member"]);
    let quiet = after(&world, &bob, &left).await;
    assert!(quiet.get("rooms").is_none(), "{quiet}");
}

#[tokio::test]
async fn lazy_members_are_those_who_speak_each_told_once() {
    let world = World::new();
    let (alice, bob, carol) = (world.person("alice").await, world.person("bob").await, world.person("carol").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    join(&world, &bob, &room).await;
    join(&world, &carol, &room).await;
    for n in 0..12 {
        say(&world, &bob, &room, &n.to_string()).await;
    }
    let members = |answer: &Value| -> Vec<String> {
        let state = answer["rooms"]["join"][&room]["state"]["events"].as_array().cloned().unwrap_or_default();
        let members = state.iter().filter(|event| event["type"] == "m.room.member");
        let mut members: Vec<_> = members.map(|event| text(event, "state_key")).collect();
        members.sort();
        members
    };
    let filter = encode(r#"{"room":{"state":{"lazy_load_members":true}}}"#);
    let first = sync(&world, &alice, &format!("filter={filter}")).await;
    assert_eq!(members(&first), [alice.user_id.clone(), bob.user_id.clone()]);
    say(&world, &carol, &room, "hello").await;
    say(&world, &bob, &room, "hello too").await;
    let next = sync(&world, &alice, &format!("filter={filter}&since={}", text(&first, "next_batch"))).await;
    assert_eq!(members(&next), std::slice::from_ref(&carol.user_id), "bob was told before");
    let again = sync(&world, &alice, &format!("filter={filter}&since={}", text(&first, "next_batch"))).await;
    assert_eq!(members(&again), std::slice::from_ref(&carol.user_id), "the answer may have been lost");
    say(&world, &carol, &room, "hello again").await;
    let later = sync(&world, &alice, &format!("filter={filter}&since={}", text(&again, "next_batch"))).await;
    assert!(members(&later).is_empty(), "its token came back: {later}");
}

#[tokio::test]
async fn state_that_the_timeline_filter_hides_is_told_beside_it() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat", "name": "Old" })).await;
    join(&world, &bob, &room).await;
    let first = sync(&world, &alice, "").await;
    say(&world, &alice, &room, "before").await;
    let path = format!("/v3/rooms/{}/state/m.room.name", encode(&room));
    alice.put(&world, &path, json!({ "name": "New" })).await.ok();
    say(&world, &alice, &room, "after").await;
    let filter = encode(r#"{"room":{"timeline":{"types":["m.room.message"]}}}"#);
    let next = sync(&world, &bob, &format!("filter={filter}&since={}", text(&first, "next_batch"))).await;
    let section = &next["rooms"]["join"][&room];
    assert_eq!(bodies(section), ["before", "after"]);
    assert_eq!(kinds(&section["state"]), ["m.room.name"]);
    assert_eq!(section["state"]["events"][0]["content"]["name"], "New");
}

#[tokio::test]
async fn tokens_of_other_servers_and_nonsense_are_refused() {
    let (world, other) = (World::new(), World::new());
    let alice = world.person("alice").await;
    let stranger = other.person("alice").await;
    let foreign = text(&sync(&other, &stranger, "").await, "next_batch");
    let answer = alice.get(&world, &format!("/v3/sync?since={foreign}")).await;
    assert_eq!((answer.status.as_u16(), answer.json["errcode"].as_str()), (400, Some("M_UNKNOWN_POS")));
    let answer = alice.get(&world, "/v3/sync?since=nonsense").await;
    assert_eq!((answer.status.as_u16(), answer.json["errcode"].as_str()), (400, Some("M_INVALID_PARAM")));
}

#[tokio::test]
async fn the_ignored_are_not_heard() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    join(&world, &bob, &room).await;
    let ignore = format!("/v3/user/{}/account_data/m.ignored_user_list", encode(&alice.user_id));
    alice.put(&world, &ignore, json!({ "ignored_users": { (bob.user_id.as_str()): {} } })).await.ok();
    let first = sync(&world, &alice, "").await;
    say(&world, &bob, &room, "noise").await;
    say(&world, &alice, &room, "signal").await;
    create(&world, &bob, json!({ "invite": [alice.user_id] })).await;
    let next = after(&world, &alice, &first).await;
    assert_eq!(bodies(&next["rooms"]["join"][&room]), ["signal"]);
    assert!(next["rooms"].get("invite").is_none(), "{next}");
}

#[tokio::test]
async fn who_takes_a_knock_back_or_refuses_an_invitation_sees_that_it_is_over() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let knock = json!({ "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "knock" } });
    let asked_for = create(&world, &alice, json!({ "room_version": "11", "initial_state": [knock] })).await;
    let offered = create(&world, &alice, json!({ "invite": [bob.user_id] })).await;
    bob.post(&world, &format!("/v3/knock/{}", encode(&asked_for)), json!({})).await.ok();
    let first = sync(&world, &bob, "").await;
    assert!(first["rooms"]["knock"][&asked_for].is_object() && first["rooms"]["invite"][&offered].is_object());
    for room in [&asked_for, &offered] {
        bob.post(&world, &format!("/v3/rooms/{}/leave", encode(room)), json!({})).await.ok();
    }
    let next = after(&world, &bob, &first).await;
    for room in [&asked_for, &offered] {
        let events = &next["rooms"]["leave"][room]["timeline"]["events"];
        assert_eq!(events.as_array().map(Vec::len), Some(1), "{next}");
        assert_eq!(events[0]["content"]["membership"], "leave");
    }
}

/// Whether anything but memberships of the asker stands in a list of events.
fn others(events: &Value, who: &Person) -> Vec<String> {
    let events = events.as_array().cloned().unwrap_or_default();
    let others = events.iter().filter(|event| event["state_key"] != who.user_id.as_str());
    others.map(|event| event["type"].to_string()).collect()
}

#[tokio::test]
async fn who_was_never_in_sees_no_state_in_context_nor_sync() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let knock = json!({ "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "knock" } });
    let secret = json!({ "type": "org.example.secret", "state_key": "", "content": { "key": "hidden" } });
    let body = json!({ "room_version": "11", "name": "Secret plans", "initial_state": [knock, secret] });
    let room = create(&world, &alice, body).await;
    let first = sync(&world, &bob, "").await;
    bob.post(&world, &format!("/v3/knock/{}", encode(&room)), json!({})).await.ok();
    let path = format!("/v3/rooms/{}/state/m.room.member/{}", encode(&room), encode(&bob.user_id));
    let taken_back = text(&bob.put(&world, &path, json!({ "membership": "leave" })).await.ok(), "event_id");

    let leave = encode(r#"{"room":{"include_leave":true}}"#);
    let lazy = encode(r#"{"lazy_load_members":true}"#);
    let context = format!("/v3/rooms/{}/context/{}", encode(&room), encode(&taken_back));
    for context in [context.clone(), format!("{context}?filter={lazy}")] {
        let seen = bob.get(&world, &context).await.ok();
        assert!(others(&seen["state"], &bob).is_empty(), "{seen}");
        assert_eq!(seen["state"][0]["content"]["membership"], "leave");
    }
    let since = text(&first, "next_batch");
    for query in [
        format!("since={since}"),
        format!("since={since}&full_state=true"),
        format!("since={since}&use_state_after=true"),
        format!("filter={leave}"),
        format!("filter={leave}&use_state_after=true"),
    ] {
        let seen = sync(&world, &bob, &query).await;
        let left = &seen["rooms"]["leave"][&room];
        assert!(left.is_object(), "{query}: {seen}");
        for part in ["timeline", "state", "state_after"] {
            assert!(others(&left[part]["events"], &bob).is_empty(), "{query}: {left}");
        }
    }
}

#[tokio::test]
async fn who_left_learns_no_state_from_what_becomes_of_them_later() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat", "name": "Before" })).await;
    join(&world, &bob, &room).await;
    let inside = sync(&world, &bob, "").await;
    bob.post(&world, &format!("/v3/rooms/{}/leave", encode(&room)), json!({})).await.ok();
    let outside = after(&world, &bob, &inside).await;
    let name = format!("/v3/rooms/{}/state/m.room.name/", encode(&room));
    alice.put(&world, &name, json!({ "name": "Not for bob" })).await.ok();
    let ban = format!("/v3/rooms/{}/ban", encode(&room));
    alice.post(&world, &ban, json!({ "user_id": bob.user_id })).await.ok();
    let leave = encode(r#"{"room":{"include_leave":true}}"#);
    for query in [
        format!("since={}", text(&inside, "next_batch")),
        format!("since={}", text(&outside, "next_batch")),
        format!("filter={leave}"),
        format!("filter={leave}&use_state_after=true"),
    ] {
        let seen = sync(&world, &bob, &query).await;
        let left = &seen["rooms"]["leave"][&room];
        assert!(!left.to_string().contains("Not for bob"), "{query}: {left}");
        assert!(left.to_string().contains("\"ban\""), "{query}: {seen}");
    }
}
