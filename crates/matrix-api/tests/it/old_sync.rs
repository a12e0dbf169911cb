//! How clients learnt what is new before `/sync`.

use serde_json::{Value, json};

use crate::{
    World,
    rooms::{create, encode, text},
};

#[tokio::test]
async fn everything_is_told_at_first_and_then_what_happens() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat", "invite": [bob.user_id] })).await;
    let first = bob.get(&world, "/v3/initialSync?limit=5").await.ok();
    assert_eq!(first["rooms"][0]["membership"], "invite");
    assert_eq!(first["rooms"][0]["invite"]["state_key"], bob.user_id.as_str());
    bob.post(&world, &format!("/v3/join/{}", encode(&room)), json!({})).await.ok();

    let first = bob.get(&world, "/v3/initialSync?limit=1").await.ok();
    assert_eq!(first["rooms"][0]["membership"], "join");
    assert_eq!(first["rooms"][0]["messages"]["chunk"].as_array().map(Vec::len), Some(1));
    assert!(first["rooms"][0]["state"].as_array().is_some_and(|state| state.len() > 5));
    let say = format!("/v3/rooms/{}/send/m.room.message/1", encode(&room));
    let event = text(&alice.put(&world, &say, json!({ "body": "hello" })).await.ok(), "event_id");
    let stream = |from: &str| format!("/v3/events?timeout=1000&from={from}");
    let news = bob.get(&world, &stream(&text(&first, "end"))).await.ok();
    assert_eq!((&news["chunk"][0]["event_id"], news["chunk"].as_array().map(Vec::len)), (&json!(event), Some(1)));
    let nothing = bob.get(&world, &format!("/v3/events?timeout=0&from={}", text(&news, "end"))).await.ok();
    assert_eq!(nothing["chunk"], json!([]));
    assert_eq!(bob.get(&world, &format!("/v3/events/{}", encode(&event))).await.ok()["content"]["body"], "hello");
    assert_eq!(bob.get(&world, &stream("nonsense")).await.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn the_stream_tells_who_types_who_read_and_who_is_there() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    bob.post(&world, &format!("/v3/join/{}", encode(&room)), json!({})).await.ok();
    let say = format!("/v3/rooms/{}/send/m.room.message/1", encode(&room));
    let event = text(&bob.put(&world, &say, json!({ "body": "hello" })).await.ok(), "event_id");
    let path = |who: &crate::Person| format!("/v3/presence/{}/status", encode(&who.user_id));
    alice.put(&world, &path(&alice), json!({ "presence": "unavailable", "status_msg": "out" })).await.ok();
    let first = bob.get(&world, "/v3/initialSync?limit=1").await.ok();
    let told =
        first["presence"].as_array().expect("presence").iter().find(|event| event["sender"] == alice.user_id.as_str());
    assert_eq!(told.map(|event| &event["content"]["status_msg"]), Some(&json!("out")), "{first}");

    let typing = format!("/v3/rooms/{}/typing/{}", encode(&room), encode(&alice.user_id));
    alice.put(&world, &typing, json!({ "typing": true, "timeout": 30_000 })).await.ok();
    let receipt = format!("/v3/rooms/{}/receipt/m.read/{}", encode(&room), encode(&event));
    alice.post(&world, &receipt, json!({})).await.ok();
    alice.put(&world, &path(&alice), json!({ "presence": "online" })).await.ok();
    let (mut seen, mut from) = (Vec::new(), text(&first, "end"));
    while seen.len() < 3 {
        let news = bob.get(&world, &format!("/v3/events?timeout=10000&from={from}")).await.ok();
        let chunk = news["chunk"].as_array().expect("a chunk");
        assert!(!chunk.is_empty(), "told so far: {seen:?}");
        seen.extend(chunk.iter().cloned());
        from = text(&news, "end");
    }
    let find = |kind: &str| seen.iter().find(|event| event["type"] == kind).unwrap_or(&Value::Null);
    assert_eq!(find("m.typing")["content"]["user_ids"], json!([alice.user_id]), "{seen:?}");
    assert_eq!((&find("m.typing")["room_id"], &find("m.receipt")["room_id"]), (&json!(room), &json!(room)));
    assert!(find("m.receipt")["content"][&event]["m.read"][&alice.user_id].is_object());
    assert_eq!(find("m.presence")["sender"], alice.user_id.as_str());
}

#[tokio::test]
async fn strangers_see_the_rooms_that_anyone_may_read_and_no_others() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let state = json!([{ "type": "m.room.history_visibility", "content": { "history_visibility": "world_readable" } }]);
    let open = create(&world, &alice, json!({ "preset": "public_chat", "initial_state": state })).await;
    let closed = create(&world, &alice, json!({})).await;
    let seen = bob.get(&world, &format!("/v3/rooms/{}/initialSync", encode(&open))).await.ok();
    assert_eq!((seen.get("membership"), &seen["visibility"]), (None, &json!("private")));
    assert!(seen["messages"]["chunk"].as_array().is_some_and(|chunk| !chunk.is_empty()));
    let from = text(&seen["messages"], "end");
    let say = format!("/v3/rooms/{}/send/m.room.message/1", encode(&open));
    let event = text(&alice.put(&world, &say, json!({ "body": "hello" })).await.ok(), "event_id");
    let path = format!("/v3/events?room_id={}&from={from}&timeout=1000", encode(&open));
    assert_eq!(bob.get(&world, &path).await.ok()["chunk"][0]["event_id"], event.as_str());

    for path in [
        format!("/v3/rooms/{}/initialSync", encode(&closed)),
        format!("/v3/events?room_id={}&timeout=0", encode(&closed)),
        "/v3/rooms/!nowhere:example.org/initialSync".to_owned(),
    ] {
        assert_eq!(bob.get(&world, &path).await.error(), (403, "M_FORBIDDEN"), "{path}");
    }
    let say = format!("/v3/rooms/{}/send/m.room.message/1", encode(&closed));
    let event = text(&alice.put(&world, &say, json!({ "body": "secret" })).await.ok(), "event_id");
    assert_eq!(bob.get(&world, &format!("/v3/events/{}", encode(&event))).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(bob.call(&world, http::Method::GET, "/v3/events?timeout=x", Value::Null).await.status, 400);
}
