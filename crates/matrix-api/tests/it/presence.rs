//! Presence: setting it, and who is told.

use http::Method;
use serde_json::{Value, json};

use crate::{Person, World};

async fn room_of(world: &World, owner: &Person, others: &[&Person]) -> String {
    let room = owner.post(world, "/v3/createRoom", json!({ "preset": "public_chat" })).await.ok();
    let room = room["room_id"].as_str().expect("a room id").to_owned();
    for other in others {
        other.post(world, &format!("/v3/join/{room}"), json!({})).await.ok();
    }
    room
}

async fn sync(world: &World, who: &Person, query: &str) -> Value {
    who.get(world, &format!("/v3/sync?{query}")).await.ok()
}

/// The state and the message told of somebody.
fn told(answer: &Value, of: &Person) -> Option<(String, Value)> {
    let events = answer["presence"]["events"].as_array()?;
    let event = events.iter().find(|event| event["sender"] == of.user_id.as_str())?;
    assert_eq!(event["type"], "m.presence");
    let content = &event["content"];
    Some((content["presence"].as_str()?.to_owned(), content["status_msg"].clone()))
}

async fn set(world: &World, who: &Person, body: Value) {
    who.put(world, &format!("/v3/presence/{}/status", who.user_id), body).await.ok();
}

#[tokio::test]
async fn people_of_a_room_learn_of_each_other() {
    let world = World::new();
    let (alice, bob, eve) = (world.person("alice").await, world.person("bob").await, world.person("eve").await);
    room_of(&world, &alice, &[&bob]).await;
    let since = sync(&world, &bob, "timeout=0").await["next_batch"].as_str().expect("a token").to_owned();
    let eves = sync(&world, &eve, "timeout=0").await["next_batch"].as_str().expect("a token").to_owned();

    set(&world, &alice, json!({ "presence": "online", "status_msg": "here" })).await;
    let answer = sync(&world, &bob, &format!("timeout=60000&since={since}")).await;
    assert_eq!(told(&answer, &alice), Some(("online".to_owned(), json!("here"))));
    let since = answer["next_batch"].as_str().expect("a token");

    sync(&world, &alice, "timeout=0&set_presence=unavailable").await;
    let answer = sync(&world, &bob, &format!("timeout=60000&since={since}")).await;
    assert_eq!(told(&answer, &alice), Some(("unavailable".to_owned(), json!("here"))));
    let since = answer["next_batch"].as_str().expect("a token");
    let answer = sync(&world, &bob, &format!("timeout=0&since={since}")).await;
    assert!(answer.get("presence").is_none(), "told once: {answer}");

    let path = format!("/v3/presence/{}/status", alice.user_id);
    let status = bob.get(&world, &path).await.ok();
    assert_eq!((&status["presence"], &status["status_msg"]), (&json!("unavailable"), &json!("here")));
    assert!(status["last_active_ago"].is_u64());
    assert_eq!(eve.get(&world, &path).await.error(), (403, "M_FORBIDDEN"));
    let answer = sync(&world, &eve, &format!("timeout=0&since={eves}")).await;
    assert_eq!(told(&answer, &alice), None);
}

#[tokio::test]
async fn who_comes_into_a_room_is_told_and_told_of() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = room_of(&world, &alice, &[]).await;
    let token = async |who: &Person| sync(&world, who, "timeout=0").await["next_batch"].as_str().map(str::to_owned);
    let (alices, bobs) = (token(&alice).await.expect("a token"), token(&bob).await.expect("a token"));
    bob.post(&world, &format!("/v3/join/{room}"), json!({})).await.ok();
    for (who, since, other) in [(&alice, alices, &bob), (&bob, bobs, &alice)] {
        let answer = sync(&world, who, &format!("timeout=0&since={since}")).await;
        assert_eq!(told(&answer, other).map(|(state, _)| state).as_deref(), Some("online"));
    }
    let answer = sync(&world, &bob, "timeout=0").await;
    assert!(told(&answer, &alice).is_some() && told(&answer, &bob).is_some(), "a first sync tells of all");
    let filter = "%7B%22presence%22%3A%7B%22not_types%22%3A%5B%22*%22%5D%7D%7D";
    assert!(sync(&world, &bob, &format!("timeout=0&filter={filter}")).await.get("presence").is_none());
}

#[tokio::test]
async fn odd_presence_is_refused() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let own = format!("/v3/presence/{}/status", alice.user_id);
    let cases = [
        (json!({ "presence": "asleep" }), 400, "M_INVALID_PARAM"),
        (json!({ "presence": "online", "status_msg": "x".repeat(2000) }), 400, "M_INVALID_PARAM"),
        (json!({}), 400, "M_BAD_JSON"),
        (json!({ "presence": 7 }), 400, "M_BAD_JSON"),
    ];
    for (body, status, errcode) in cases {
        assert_eq!(alice.put(&world, &own, body.clone()).await.error(), (status, errcode), "{body}");
    }
    let online = json!({ "presence": "online" });
    assert_eq!(bob.put(&world, &own, online.clone()).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(world.call(Method::PUT, &own, None, online).await.error(), (401, "M_MISSING_TOKEN"));
    assert_eq!(alice.get(&world, "/v3/sync?timeout=0&set_presence=asleep").await.error(), (400, "M_INVALID_PARAM"));
    let nobody = "/v3/presence/@nobody:example.org/status";
    assert_eq!(alice.get(&world, nobody).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(alice.get(&world, &own).await.ok()["presence"], "offline");
}
