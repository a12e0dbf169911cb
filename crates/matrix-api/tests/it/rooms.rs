//! Making rooms, coming and going, aliases and the public list.

use http::Method;
use serde_json::{Value, json};

use crate::{Person, World};

/// Makes a room; its id.
pub async fn create(world: &World, who: &Person, body: Value) -> String {
    text(&who.post(world, "/v3/createRoom", body).await.ok(), "room_id")
}

/// A text of an answer.
pub fn text(json: &Value, key: &str) -> String {
    json[key].as_str().unwrap_or_else(|| panic!("no {key} in {json}")).to_owned()
}

/// Percent-encodes what cannot stand in a path.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

async fn state(world: &World, who: &Person, room: &str, kind: &str) -> Value {
    who.get(world, &format!("/v3/rooms/{room}/state/{kind}")).await.ok()
}

#[tokio::test]
async fn presets_and_wishes_shape_a_new_room() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    for (preset, join_rule) in
        [("private_chat", "invite"), ("trusted_private_chat", "invite"), ("public_chat", "public")]
    {
        let room =
            create(&world, &alice, json!({ "preset": preset, "room_version": "11", "invite": [bob.user_id] })).await;
        assert_eq!(state(&world, &alice, &room, "m.room.join_rules").await["join_rule"], join_rule);
        let levels = state(&world, &alice, &room, "m.room.power_levels").await;
        let bobs = levels["users"].get(&bob.user_id).and_then(Value::as_i64);
        assert_eq!(bobs, (preset == "trusted_private_chat").then_some(100));
    }
    let body = json!({
        "visibility": "public", "room_alias_name": "pub", "name": "The Pub", "topic": "Beer", "room_version": "10",
        "creation_content": { "m.federate": false, "room_version": "nonsense" },
        "initial_state": [{ "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } }],
        "power_level_content_override": { "invite": 77 },
    });
    let room = create(&world, &alice, body).await;
    let made = state(&world, &alice, &room, "m.room.create").await;
    assert_eq!((&made["room_version"], &made["m.federate"]), (&json!("10"), &json!(false)));
    assert_eq!(state(&world, &alice, &room, "m.room.name").await["name"], "The Pub");
    assert_eq!(state(&world, &alice, &room, "m.room.topic").await["m.topic"]["m.text"][0]["body"], "Beer");
    assert_eq!(state(&world, &alice, &room, "m.room.canonical_alias/").await["alias"], "#pub:example.org");
    assert_eq!(state(&world, &alice, &room, "m.room.power_levels").await["invite"], 77);
    assert_eq!(state(&world, &alice, &room, "m.room.history_visibility").await["history_visibility"], "joined");
    let event = state(&world, &alice, &room, "m.room.name?format=event").await;
    assert_eq!((&event["room_id"], &event["content"]["name"]), (&json!(room), &json!("The Pub")));
}

#[tokio::test]
async fn a_room_that_cannot_be_is_refused_with_the_reason() {
    let world = World::new();
    let alice = world.person("alice").await;
    create(&world, &alice, json!({ "room_alias_name": "taken" })).await;
    for (body, error) in [
        (json!({ "room_version": 1 }), (400, "M_BAD_JSON")),
        (json!({ "room_version": "ahfgwjyerhgiuveisbruvybseyrugvi" }), (400, "M_UNSUPPORTED_ROOM_VERSION")),
        (json!({ "preset": "nonsense" }), (400, "M_BAD_JSON")),
        (json!({ "invite": ["nobody"] }), (400, "M_BAD_JSON")),
        (json!({ "room_alias_name": "taken" }), (400, "M_ROOM_IN_USE")),
        (json!({ "room_alias_name": "a:b" }), (400, "M_INVALID_PARAM")),
        (json!({ "name": 1 }), (400, "M_BAD_JSON")),
        (json!({ "room_version": "12", "creation_content": { "additional_creators": [42] } }), (400, "M_BAD_JSON")),
        (json!([]), (400, "M_BAD_JSON")),
        (
            json!({ "room_version": "11", "power_level_content_override": { "users": { &*alice.user_id: 0 } }, "name": "x" }),
            (400, "M_INVALID_ROOM_STATE"),
        ),
    ] {
        assert_eq!(alice.post(&world, "/v3/createRoom", body.clone()).await.error(), error, "{body}");
    }
    assert_eq!(world.call(Method::POST, "/v3/createRoom", None, json!({})).await.error(), (401, "M_MISSING_TOKEN"));
}

#[tokio::test]
async fn people_are_invited_come_go_and_are_shut_out() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({})).await;
    let at = |verb: &str| format!("/v3/rooms/{room}/{verb}");
    let target = json!({ "user_id": bob.user_id, "reason": "because" });

    assert_eq!(bob.post(&world, &at("join"), json!({})).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(alice.post(&world, &at("kick"), target.clone()).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(alice.post(&world, &at("invite"), json!({})).await.error(), (400, "M_MISSING_PARAM"));
    assert_eq!(alice.post(&world, &at("invite"), json!({ "user_id": "x" })).await.error(), (400, "M_BAD_JSON"));
    assert_eq!(
        alice.post(&world, &at("invite"), json!({ "user_id": alice.user_id })).await.error(),
        (403, "M_FORBIDDEN")
    );
    alice.post(&world, &at("invite"), target.clone()).await.ok();
    let joined =
        bob.post(&world, &at("join"), json!({ "reason": "hello", "foo": "bar", "membership": "ban" })).await.ok();
    assert_eq!(joined, json!({ "room_id": room }));
    let member = alice.get(&world, &at(&format!("state/m.room.member/{}", bob.user_id))).await.ok();
    assert_eq!(
        (&member["membership"], &member["foo"], &member["reason"]),
        (&json!("join"), &json!("bar"), &json!("hello"))
    );
    assert_eq!(bob.get(&world, "/v3/joined_rooms").await.ok(), json!({ "joined_rooms": [room] }));
    assert_eq!(alice.post(&world, &at("invite"), target.clone()).await.error(), (403, "M_FORBIDDEN"));

    assert_eq!(bob.post(&world, &at("kick"), json!({ "user_id": alice.user_id })).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(bob.post(&world, &at("forget"), json!({})).await.error(), (400, "M_UNKNOWN"));
    alice.post(&world, &at("ban"), target.clone()).await.ok();
    assert_eq!(bob.post(&world, &at("join"), json!({})).await.error(), (403, "M_FORBIDDEN"));
    alice.post(&world, &at("unban"), target.clone()).await.ok();
    assert_eq!(alice.post(&world, &at("unban"), target).await.error(), (403, "M_FORBIDDEN"));
    bob.post(&world, &at("forget"), json!({})).await.ok();
    assert_eq!(bob.get(&world, &at("messages")).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(bob.get(&world, &at("joined_members")).await.error(), (403, "M_FORBIDDEN"));
    alice.post(&world, &at("leave"), Value::Null).await.ok();
    assert_eq!(alice.get(&world, "/v3/joined_rooms").await.ok(), json!({ "joined_rooms": [] }));
    assert_eq!(alice.post(&world, "/v3/rooms/!none:example.org/leave", json!({})).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(alice.post(&world, "/v3/rooms/none/leave", json!({})).await.error(), (400, "M_INVALID_PARAM"));
    assert_eq!(alice.post(&world, "/v3/join/!none:example.org", json!({})).await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn somebody_knocks_and_is_let_in() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "room_alias_name": "door", "room_version": "11" })).await;
    let alias = encode("#door:example.org");
    assert_eq!(bob.post(&world, &format!("/v3/knock/{alias}"), json!({})).await.error(), (403, "M_FORBIDDEN"));
    alice.put(&world, &format!("/v3/rooms/{room}/state/m.room.join_rules"), json!({ "join_rule": "knock" })).await.ok();
    let knocked = bob.post(&world, &format!("/v3/knock/{alias}"), json!({ "reason": "please" })).await.ok();
    assert_eq!(knocked, json!({ "room_id": room }));
    let member = alice.get(&world, &format!("/v3/rooms/{room}/state/m.room.member/{}", bob.user_id)).await.ok();
    assert_eq!((&member["membership"], &member["reason"]), (&json!("knock"), &json!("please")));
    alice.post(&world, &format!("/v3/rooms/{room}/invite"), json!({ "user_id": bob.user_id })).await.ok();
    bob.post(&world, &format!("/v3/join/{alias}"), json!({})).await.ok();
    assert_eq!(bob.post(&world, "/v3/knock/nonsense", json!({})).await.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn an_alias_is_made_found_listed_and_deleted() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let alias = "#老虎Â£я🤨👉ඞ:example.org";
    let path = format!("/v3/directory/room/{}", encode(alias));
    let list = format!("/v3/rooms/{room}/aliases");
    assert_eq!(alice.get(&world, &list).await.ok(), json!({ "aliases": [] }));
    assert_eq!(alice.get(&world, &path).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(bob.put(&world, &path, json!({ "room_id": room })).await.error(), (403, "M_FORBIDDEN"));
    alice.put(&world, &path, json!({ "room_id": room })).await.ok();
    assert_eq!(alice.put(&world, &path, json!({ "room_id": room })).await.error(), (409, "M_UNKNOWN"));
    let found = world.call(Method::GET, &path, None, Value::Null).await.ok();
    assert_eq!(found, json!({ "room_id": room, "servers": ["example.org"] }));
    assert_eq!(alice.get(&world, &list).await.ok(), json!({ "aliases": [alias] }));
    assert_eq!(bob.get(&world, &list).await.error(), (403, "M_FORBIDDEN"));
    bob.post(&world, &format!("/v3/join/{}", encode(alias)), json!({})).await.ok();

    let canonical = format!("/v3/rooms/{room}/state/m.room.canonical_alias");
    alice.put(&world, &canonical, json!({ "alias": alias })).await.ok();
    assert_eq!(
        alice.put(&world, &canonical, json!({ "alias": "#none:example.org" })).await.error(),
        (400, "M_BAD_ALIAS")
    );
    assert_eq!(
        alice.put(&world, &canonical, json!({ "alias": "%none:example.org" })).await.error(),
        (400, "M_INVALID_PARAM")
    );
    assert_eq!(bob.call(&world, Method::DELETE, &path, Value::Null).await.error(), (403, "M_FORBIDDEN"));
    alice.call(&world, Method::DELETE, &path, Value::Null).await.ok();
    assert_eq!(alice.call(&world, Method::DELETE, &path, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(state(&world, &alice, &room, "m.room.canonical_alias").await, json!({}));
    assert_eq!(alice.get(&world, "/v3/directory/room/nonsense").await.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn listed_rooms_are_found_by_anybody() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let body =
        json!({ "visibility": "public", "name": "Test Name", "topic": "Test Topic Wombles", "room_alias_name": "w" });
    let room = create(&world, &alice, body).await;
    create(&world, &alice, json!({ "visibility": "public", "name": "Other" })).await;
    let all = world.call(Method::GET, "/v3/publicRooms?limit=1", None, Value::Null).await.ok();
    assert_eq!((all["chunk"].as_array().map(Vec::len), &all["total_room_count_estimate"]), (Some(1), &json!(2)));
    let next = format!("/v3/publicRooms?since={}", text(&all, "next_batch"));
    assert_eq!(world.call(Method::GET, &next, None, Value::Null).await.ok()["chunk"].as_array().map(Vec::len), Some(1));
    let search = json!({ "filter": { "generic_search_term": "wombles" } });
    let found = bob.post(&world, "/v3/publicRooms", search.clone()).await.ok();
    let expected = json!([{
        "room_id": room, "num_joined_members": 1, "world_readable": false, "guest_can_join": false, "name": "Test Name",
        "topic": "Test Topic Wombles", "canonical_alias": "#w:example.org", "join_rule": "public",
    }]);
    assert_eq!(found["chunk"], expected);

    let listed = format!("/v3/directory/list/room/{room}");
    assert_eq!(bob.get(&world, &listed).await.ok(), json!({ "visibility": "public" }));
    assert_eq!(bob.put(&world, &listed, json!({ "visibility": "private" })).await.error(), (403, "M_FORBIDDEN"));
    alice.put(&world, &listed, json!({ "visibility": "private" })).await.ok();
    assert_eq!(bob.get(&world, &listed).await.ok(), json!({ "visibility": "private" }));
    assert_eq!(bob.post(&world, "/v3/publicRooms", search).await.ok()["chunk"], json!([]));
    assert_eq!(bob.get(&world, "/v3/directory/list/room/!none:example.org").await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(bob.get(&world, "/v3/publicRooms?since=nonsense").await.error(), (400, "M_INVALID_PARAM"));
    assert_eq!(bob.get(&world, "/v3/publicRooms?server=elsewhere.org").await.error(), (404, "M_NOT_FOUND"));
}
