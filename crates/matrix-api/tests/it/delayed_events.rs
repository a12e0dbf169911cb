//! Events that are sent later. [MSC4140]

use http::Method;
use serde_json::{Value, json};

use crate::{Person, World, rooms::create};

const DELAYED: &str = "/unstable/org.matrix.msc4140/delayed_events";

/// Sends one for later; its id.
async fn delay(world: &World, person: &Person, room: &str, txn: &str, body: Value) -> String {
    let path = format!("/v3/rooms/{room}/send/com.example.test/{txn}?org.matrix.msc4140.delay=100000");
    let answer = person.put(world, &path, body).await.ok();
    answer["delay_id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn whoever_knows_the_id_may_send_put_off_or_take_back() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let id = delay(&world, &alice, &room, "a", json!({ "n": 1 })).await;
    assert_eq!(delay(&world, &alice, &room, "a", Value::Null).await, id, "the same transaction once more");
    let listed = alice.get(&world, DELAYED).await.ok();
    assert_eq!(listed["delayed_events"][0]["content"], json!({ "n": 1 }));
    assert_eq!(listed["delayed_events"][0]["delay"], 100_000);
    assert_eq!(bob.get(&world, DELAYED).await.ok(), json!({ "delayed_events": [] }));
    assert_eq!(bob.get(&world, &format!("{DELAYED}/{id}")).await.error(), (404, "M_NOT_FOUND"));

    for action in ["restart", "send", "send"] {
        world.call(Method::POST, &format!("{DELAYED}/{id}/{action}"), None, json!({})).await.ok();
    }
    let sent = alice.get(&world, &format!("{DELAYED}/{id}")).await.ok();
    let event = format!("/v3/rooms/{room}/event/{}", sent["event_id"].as_str().expect("sent"));
    let event = alice.get(&world, &event).await.ok();
    assert_eq!(event["content"], json!({ "n": 1 }));
    assert!(event["unsigned"].get("transaction_id").is_none());
    let too_late = world.call(Method::POST, &format!("{DELAYED}/{id}/cancel"), None, json!({})).await;
    assert_eq!(too_late.error(), (409, "M_UNKNOWN"));
    assert_eq!(alice.get(&world, DELAYED).await.ok(), json!({ "delayed_events": [] }));
}

#[tokio::test]
async fn state_waits_likewise() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let path = format!("/v3/rooms/{room}/state/m.room.topic");
    let body = json!({ "topic": "later" });
    let later = alice.put(&world, &format!("{path}?org.matrix.msc4140.delay=90000"), body).await.ok();
    assert_eq!(alice.get(&world, &path).await.error(), (404, "M_NOT_FOUND"));
    let id = later["delay_id"].as_str().expect("an id");
    let body = json!({ "action": "send" });
    world.call(Method::POST, &format!("{DELAYED}/{id}"), None, body).await.ok();
    assert_eq!(alice.get(&world, &path).await.ok(), json!({ "topic": "later" }));

    let path = format!("/unstable/org.matrix.msc4140/rooms/{room}/delayed_event/m.room.topic/t");
    let body = json!({ "delay": 5, "state_key": "", "content": { "topic": "soon" } });
    let soon = alice.put(&world, &path, body).await.ok();
    assert!(soon["delay_id"].is_string());
    for body in [json!({ "delay": 5 }), json!({ "content": {} }), json!({ "delay": -5, "content": {} })] {
        assert_eq!(alice.put(&world, &path, body).await.status, 400);
    }
}

#[tokio::test]
async fn what_cannot_be_scheduled_is_refused() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let path = |delay: &str| format!("/v3/rooms/{room}/send/x/t?org.matrix.msc4140.delay={delay}");
    let refused = alice.put(&world, &path("864000001"), json!({})).await;
    assert_eq!(refused.error(), (400, "M_UNKNOWN"));
    assert_eq!(refused.json["org.matrix.msc4140.errcode"], "M_MAX_DELAY_EXCEEDED");
    for wrong in ["-1", "soon", ""] {
        assert_eq!(alice.put(&world, &path(wrong), json!({})).await.error(), (400, "M_INVALID_PARAM"), "{wrong}");
    }
    assert_eq!(alice.put(&world, &path("5"), json!([])).await.status, 400);
    assert_eq!(bob.put(&world, &path("5"), json!({})).await.error(), (403, "M_FORBIDDEN"));
    for action in ["send", "cancel", "restart"] {
        let unknown = world.call(Method::POST, &format!("{DELAYED}/abc/{action}"), None, json!({})).await;
        assert_eq!(unknown.error(), (404, "M_NOT_FOUND"));
    }
    let unknown = world.call(Method::POST, &format!("{DELAYED}/abc/oops"), None, json!({})).await;
    assert_eq!(unknown.error(), (404, "M_UNRECOGNIZED"));
    let unknown = world.call(Method::POST, &format!("{DELAYED}/abc"), None, json!({})).await;
    assert_eq!(unknown.error(), (400, "M_MISSING_PARAM"));
}
