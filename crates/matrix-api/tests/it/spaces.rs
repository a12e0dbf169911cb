//! Rooms seen from outside: summaries, spaces, threads, moments, what is shared, what is reported, what is replaced.

use http::Method;
use koine_account::Flag;
use ruma_common::user_id;
use serde_json::{Value, json};

use crate::{
    Person, World,
    rooms::{create, encode, text},
};

async fn send(world: &World, who: &Person, room: &str, content: Value, txn: &str) -> String {
    let path = format!("/v3/rooms/{room}/send/m.room.message/{txn}");
    text(&who.put(world, &path, content).await.ok(), "event_id")
}

async fn reply(world: &World, who: &Person, room: &str, root: &str, txn: &str) -> String {
    let relation = json!({ "rel_type": "m.thread", "event_id": root });
    send(world, who, room, json!({ "body": txn, "m.relates_to": relation }), txn).await
}

fn ids<'a>(page: &'a Value, list: &str, key: &str) -> Vec<&'a str> {
    page[list].as_array().expect("a list").iter().filter_map(|entry| entry[key].as_str()).collect()
}

#[tokio::test]
async fn threads_are_listed_by_their_newest_event() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    bob.post(&world, &format!("/v3/join/{room}"), json!({})).await.ok();
    let first = send(&world, &alice, &room, json!({ "body": "1" }), "1").await;
    let second = send(&world, &bob, &room, json!({ "body": "2" }), "2").await;
    send(&world, &bob, &room, json!({ "body": "no root" }), "3").await;
    reply(&world, &bob, &room, &first, "a").await;
    let newest = reply(&world, &bob, &room, &second, "b").await;
    let path = format!("/v1/rooms/{room}/threads");
    let page = alice.get(&world, &path).await.ok();
    assert_eq!(ids(&page, "chunk", "event_id"), [&*second, &*first]);
    let thread = &page["chunk"][0]["unsigned"]["m.relations"]["m.thread"];
    assert_eq!((&thread["latest_event"]["event_id"], &thread["count"]), (&json!(newest), &json!(1)));
    reply(&world, &bob, &room, &first, "c").await;
    assert_eq!(ids(&alice.get(&world, &path).await.ok(), "chunk", "event_id"), [&*first, &*second]);
    let mine = alice.get(&world, &format!("{path}?include=participated")).await.ok();
    assert_eq!(ids(&mine, "chunk", "event_id"), [&*first]);

    let page = alice.get(&world, &format!("{path}?limit=1")).await.ok();
    assert_eq!(ids(&page, "chunk", "event_id"), [&*first]);
    let page = alice.get(&world, &format!("{path}?limit=1&from={}", text(&page, "next_batch"))).await.ok();
    assert_eq!((ids(&page, "chunk", "event_id"), page.get("next_batch")), (vec![&*second], None));

    let ignore = format!("/v3/user/{}/account_data/m.ignored_user_list", encode(&alice.user_id));
    alice.put(&world, &ignore, json!({ "ignored_users": { (bob.user_id.clone()): {} } })).await.ok();
    reply(&world, &alice, &room, &second, "d").await;
    let page = alice.get(&world, &path).await.ok();
    assert_eq!((ids(&page, "chunk", "event_id"), &page["chunk"][0]["content"]), (vec![&*second], &json!({})));

    let carol = world.person("carol").await;
    assert_eq!(carol.get(&world, &path).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(alice.get(&world, &format!("{path}?from=x")).await.error(), (400, "M_INVALID_PARAM"));
    assert_eq!(alice.get(&world, &format!("{path}?include=some")).await.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn a_moment_leads_to_the_event_next_to_it() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({})).await;
    let mut said = Vec::new();
    for n in 0..5 {
        let id = send(&world, &alice, &room, json!({ "body": n.to_string() }), &n.to_string()).await;
        let event = alice.get(&world, &format!("/v3/rooms/{room}/event/{}", encode(&id))).await.ok();
        said.push((event["origin_server_ts"].as_i64().expect("a number"), id));
    }
    let near = |ts: i64, dir: &str| format!("/v1/rooms/{room}/timestamp_to_event?ts={ts}&dir={dir}");
    for (ts, _) in &said {
        let first = said.iter().find(|(other, _)| other == ts).map(|(_, id)| id.as_str());
        let last = said.iter().rev().find(|(other, _)| other == ts).map(|(_, id)| id.as_str());
        let back = alice.get(&world, &near(*ts, "b")).await.ok();
        assert_eq!(back["event_id"].as_str(), last);
        if *ts != said[0].0 {
            assert_eq!(alice.get(&world, &near(*ts, "f")).await.ok()["event_id"].as_str(), first);
        }
    }
    let late = said[4].0 + 1;
    assert_eq!(alice.get(&world, &near(late, "b")).await.ok()["event_id"], said[4].1.as_str());
    assert_eq!(alice.get(&world, &near(late, "f")).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(alice.get(&world, &near(1, "b")).await.error(), (404, "M_NOT_FOUND"));
    assert!(alice.get(&world, &near(0, "f")).await.ok()["event_id"].is_string());
    let bob = world.person("bob").await;
    assert_eq!(bob.get(&world, &near(late, "b")).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(alice.get(&world, &near(1, "x")).await.status.as_u16(), 400);
}

#[tokio::test]
async fn a_space_is_told_depth_first_in_pages() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let space = json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } });
    let root = create(&world, &alice, space.clone()).await;
    let inner = create(&world, &alice, space).await;
    let open = create(&world, &alice, json!({ "preset": "public_chat", "name": "Open" })).await;
    let deep = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let closed = create(&world, &alice, json!({ "preset": "private_chat" })).await;
    for (parent, child, content) in [
        (&root, &inner, json!({ "via": ["example.org"], "order": "a" })),
        (&root, &open, json!({ "via": ["example.org"], "order": "b", "suggested": true })),
        (&root, &closed, json!({ "via": ["example.org"] })),
        (&root, &deep, json!({})),
        (&inner, &deep, json!({ "via": ["example.org"] })),
    ] {
        alice.put(&world, &format!("/v3/rooms/{parent}/state/m.space.child/{child}"), content).await.ok();
    }
    let path = format!("/v1/rooms/{root}/hierarchy");
    let all = bob.get(&world, &path).await.ok();
    assert_eq!(ids(&all, "rooms", "room_id"), [&*root, &*inner, &*deep, &*open]);
    assert_eq!(ids(&all["rooms"][0], "children_state", "state_key"), [&*inner, &*open, &*closed]);
    assert_eq!((&all["rooms"][0]["room_type"], &all["rooms"][3]["name"]), (&json!("m.space"), &json!("Open")));
    assert!(all["rooms"][0]["children_state"][0]["origin_server_ts"].is_u64());
    let members = alice.get(&world, &path).await.ok();
    assert_eq!(ids(&members, "rooms", "room_id").len(), 5);
    let flat = bob.get(&world, &format!("{path}?max_depth=1")).await.ok();
    assert_eq!(ids(&flat, "rooms", "room_id"), [&*root, &*inner, &*open]);
    let suggested = bob.get(&world, &format!("{path}?suggested_only=true")).await.ok();
    assert_eq!(ids(&suggested, "rooms", "room_id"), [&*root, &*open]);

    let page = bob.get(&world, &format!("{path}?limit=3")).await.ok();
    let next = text(&page, "next_batch");
    let rest = bob.get(&world, &format!("{path}?from={next}")).await.ok();
    assert_eq!((ids(&rest, "rooms", "room_id"), rest.get("next_batch")), (vec![&*open], None));
    let other = format!("{path}?from={next}&max_depth=1");
    assert_eq!(bob.get(&world, &other).await.error(), (400, "M_INVALID_PARAM"));
    assert_eq!(bob.get(&world, &format!("/v1/rooms/{closed}/hierarchy")).await.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn a_summary_is_for_those_who_may_know_of_the_room() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let space = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let allow = json!([{ "type": "m.room_membership", "room_id": space }]);
    let rules = json!({ "type": "m.room.join_rules", "content": { "join_rule": "restricted", "allow": allow } });
    let body = json!({ "room_version": "10", "initial_state": [rules] });
    let restricted = create(&world, &alice, body).await;
    let closed = create(&world, &alice, json!({})).await;
    let path = |room: &str| format!("/v1/room_summary/{room}");

    let seen = alice.get(&world, &path(&restricted)).await.ok();
    assert_eq!((&seen["membership"], &seen["room_version"]), (&json!("join"), &json!("10")));
    assert_eq!((&seen["join_rule"], &seen["allowed_room_ids"]), (&json!("restricted"), &json!([space])));
    assert!(alice.get(&world, &path(&closed)).await.ok().get("allowed_room_ids").is_none());
    assert_eq!(bob.get(&world, &path(&closed)).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(bob.get(&world, &path(&restricted)).await.error(), (404, "M_NOT_FOUND"));
    bob.post(&world, &format!("/v3/join/{space}"), json!({})).await.ok();
    assert!(bob.get(&world, &path(&restricted)).await.ok().get("membership").is_none());
    let stranger = world.call(Method::GET, &path(&space), None, Value::Null).await.ok();
    assert_eq!(stranger["num_joined_members"], 2);
    assert_eq!(world.call(Method::GET, &path(&restricted), None, Value::Null).await.error(), (404, "M_NOT_FOUND"));

    let shared = format!("/v1/mutual_rooms?user_id={}", encode(&bob.user_id));
    assert_eq!(alice.get(&world, &shared).await.ok(), json!({ "joined": [space], "count": 1 }));
    assert_eq!(bob.get(&world, &shared).await.error(), (400, "M_INVALID_PARAM"));
    assert_eq!(bob.get(&world, "/v1/mutual_rooms").await.error(), (400, "M_MISSING_PARAM"));
}

#[tokio::test]
async fn what_is_reported_must_be_seen_by_who_reports_it() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({})).await;
    let event = send(&world, &alice, &room, json!({ "body": "!" }), "1").await;
    let path = format!("/v3/rooms/{room}/report/{}", encode(&event));
    let body = json!({ "reason": "this makes me sad" });
    alice.post(&world, &path, body.clone()).await.ok();
    assert_eq!(bob.post(&world, &path, body.clone()).await.error(), (404, "M_NOT_FOUND"));
    let none = format!("/v3/rooms/{room}/report/$none");
    assert_eq!(alice.post(&world, &none, body.clone()).await.error(), (404, "M_NOT_FOUND"));
    bob.post(&world, &format!("/v3/rooms/{room}/report"), body.clone()).await.ok();
    bob.post(&world, &format!("/v3/users/{}/report", encode(&alice.user_id)), body.clone()).await.ok();
    assert_eq!(alice.post(&world, "/v3/users/alice/report", body).await.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn a_replaced_room_takes_along_what_belongs_to_it() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let body = json!({
        "preset": "public_chat", "room_version": "10", "name": "Old", "room_alias_name": "home", "visibility": "public",
    });
    let old = create(&world, &alice, body).await;
    bob.post(&world, &format!("/v3/join/{old}"), json!({})).await.ok();
    let ban = json!({ "user_id": "@bad:example.org" });
    alice.post(&world, &format!("/v3/rooms/{old}/ban"), ban).await.ok();
    let rule = |room: &str| format!("/v3/pushrules/global/room/{}", encode(room));
    bob.put(&world, &rule(&old), json!({ "actions": [] })).await.ok();
    let tag = |room: &str| format!("/v3/user/{}/rooms/{room}/tags", encode(&bob.user_id));
    bob.put(&world, &format!("{}/m.favourite", tag(&old)), json!({ "order": 0.5 })).await.ok();

    let upgrade = format!("/v3/rooms/{old}/upgrade");
    let wish = json!({ "new_version": "12", "additional_creators": [bob.user_id] });
    assert_eq!(bob.post(&world, &upgrade, wish.clone()).await.error(), (403, "M_FORBIDDEN"));
    let unknown = alice.post(&world, &upgrade, json!({ "new_version": "99x" })).await;
    assert_eq!(unknown.error(), (400, "M_UNSUPPORTED_ROOM_VERSION"));
    let new = text(&alice.post(&world, &upgrade, wish).await.ok(), "replacement_room");
    let state = async |room: &str, kind: &str| alice.get(&world, &format!("/v3/rooms/{room}/state/{kind}")).await.ok();

    assert_eq!(state(&old, "m.room.tombstone").await["replacement_room"], new.as_str());
    let create = state(&new, "m.room.create").await;
    assert_eq!(create["predecessor"], json!({ "room_id": old }));
    assert_eq!(create["additional_creators"], json!([bob.user_id]));
    assert_eq!(state(&new, "m.room.name").await["name"], "Old");
    assert_eq!(state(&new, "m.room.power_levels").await["users"], json!({}));
    assert_eq!(state(&new, "m.room.member/@bad:example.org").await["membership"], "ban");
    assert_eq!(state(&new, "m.room.canonical_alias").await["alias"], "#home:example.org");
    assert_eq!(state(&old, "m.room.canonical_alias").await, json!({}));
    assert_eq!(state(&old, "m.room.power_levels").await["events_default"], 50);
    let alias = alice.get(&world, "/v3/directory/room/%23home:example.org").await.ok();
    assert_eq!(alias["room_id"], new.as_str());
    assert_eq!(ids(&alice.get(&world, "/v3/publicRooms").await.ok(), "chunk", "room_id"), [&*new]);
    assert_eq!(bob.get(&world, &rule(&new)).await.ok()["actions"], json!([]));
    assert_eq!(bob.get(&world, &tag(&new)).await.ok(), bob.get(&world, &tag(&old)).await.ok());
}

#[tokio::test]
async fn the_suspended_read_and_leave_and_take_back_their_own_words() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let other = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    bob.post(&world, &format!("/v3/join/{room}"), json!({})).await.ok();
    let hers = send(&world, &alice, &room, json!({ "body": "1" }), "1").await;
    let his = send(&world, &bob, &room, json!({ "body": "2" }), "2").await;
    world.accounts.set_flag(user_id!("@bob:example.org"), Flag::Suspended, true).await.expect("an account");

    let invite = json!({ "user_id": "@carol:example.org" });
    for (method, path, body) in [
        (Method::PUT, format!("/v3/rooms/{room}/send/m.room.message/3"), json!({ "body": "3" })),
        (Method::PUT, format!("/v3/rooms/{room}/state/m.room.topic"), json!({ "topic": "3" })),
        (Method::PUT, format!("/v3/rooms/{room}/redact/{}/4", encode(&hers)), json!({})),
        (Method::POST, format!("/v3/join/{other}"), json!({})),
        (Method::POST, format!("/v3/rooms/{other}/join"), json!({})),
        (Method::POST, format!("/v3/knock/{other}"), json!({})),
        (Method::POST, format!("/v3/rooms/{room}/invite"), invite),
        (Method::POST, "/v3/createRoom".to_owned(), json!({})),
        (Method::POST, format!("/v3/rooms/{room}/upgrade"), json!({ "new_version": "12" })),
    ] {
        let answer = bob.call(&world, method, &path, body).await;
        assert_eq!(answer.error(), (403, "M_USER_SUSPENDED"), "{path}");
    }
    bob.get(&world, &format!("/v3/rooms/{room}/messages?dir=b")).await.ok();
    bob.put(&world, &format!("/v3/rooms/{room}/redact/{}/5", encode(&his)), json!({})).await.ok();
    bob.post(&world, &format!("/v3/rooms/{room}/leave"), json!({})).await.ok();
}
