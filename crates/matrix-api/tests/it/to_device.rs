//! Messages from device to device.

use serde_json::{Value, json};

use crate::{Person, World, rooms::text};

async fn send(world: &World, from: &Person, txn: &str, messages: Value) {
    let path = format!("/v3/sendToDevice/my.type/{txn}");
    from.put(world, &path, json!({ "messages": messages })).await.ok();
}

/// To one device.
fn to(whom: &Person, content: &Value) -> Value {
    json!({ (whom.user_id.as_str()): { (whom.device_id.as_str()): content } })
}

async fn sync(world: &World, who: &Person, since: Option<&Value>) -> Value {
    let query = since.map_or_else(String::new, |since| format!("since={}", text(since, "next_batch")));
    who.get(world, &format!("/v3/sync?{query}")).await.ok()
}

fn numbers(answer: &Value) -> Vec<u64> {
    let events = answer["to_device"]["events"].as_array().cloned().unwrap_or_default();
    events.iter().map(|event| event["content"]["n"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn a_message_comes_until_it_is_acknowledged() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let first = sync(&world, &bob, None).await;
    send(&world, &alice, "1", to(&bob, &json!({ "n": 1 }))).await;
    let told = sync(&world, &bob, Some(&first)).await;
    let expected = json!({ "type": "my.type", "sender": alice.user_id, "content": { "n": 1 } });
    assert_eq!(told["to_device"]["events"], json!([expected]));
    assert_eq!(numbers(&sync(&world, &bob, Some(&first)).await), [1], "the answer may have been lost");
    assert_eq!(numbers(&sync(&world, &bob, None).await), [1]);
    let next = sync(&world, &bob, Some(&told)).await;
    assert!(next.get("to_device").is_none(), "{next}");
    // Behind the command that threw it away.
    send(&world, &alice, "2", to(&bob, &json!({ "n": 2 }))).await;
    assert_eq!(numbers(&sync(&world, &bob, Some(&first)).await), [2], "what was acknowledged is gone");
}

#[tokio::test]
async fn many_messages_come_a_hundred_at_a_time_in_order() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    for n in 0..250 {
        send(&world, &alice, &n.to_string(), to(&bob, &json!({ "n": n }))).await;
    }
    let mut seen = Vec::new();
    let mut answer = sync(&world, &bob, None).await;
    for expected in [100, 100, 50, 0] {
        let batch = numbers(&answer);
        assert_eq!(batch.len(), expected);
        seen.extend(batch);
        answer = sync(&world, &bob, Some(&answer)).await;
    }
    assert_eq!(seen, (0..250).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_star_reaches_every_device_and_a_repeated_transaction_none() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let second = world.log_in("bob").await;
    let everywhere = json!({ (bob.user_id.as_str()): { "*": { "n": 1 } }, "@x:elsewhere.org": { "*": {} }, "@nobody:example.org": { "*": {} } });
    for _ in 0..2 {
        send(&world, &alice, "same", everywhere.clone()).await;
    }
    for device in [&bob, &second] {
        assert_eq!(numbers(&sync(&world, device, None).await), [1]);
    }
    // Another type or another device is another transaction.
    let path = "/v3/sendToDevice/other.type/same";
    alice.put(&world, path, json!({ "messages": to(&bob, &json!({ "n": 2 })) })).await.ok();
    send(&world, &second, "same", to(&bob, &json!({ "n": 3 }))).await;
    assert_eq!(numbers(&sync(&world, &bob, None).await), [1, 2, 3]);
    assert_eq!(numbers(&sync(&world, &second, None).await), [1]);
}

#[tokio::test]
async fn who_waits_is_woken_by_a_message() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let first = sync(&world, &bob, None).await;
    let path = format!("/v3/sync?timeout=60000&since={}", text(&first, "next_batch"));
    let (woken, ()) = tokio::join!(bob.get(&world, &path), send(&world, &alice, "1", to(&bob, &json!({ "n": 1 }))));
    assert_eq!(numbers(&woken.ok()), [1]);
}

#[tokio::test]
async fn messages_are_bounded_and_well_formed() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let refused = async |body: Value| alice.put(&world, "/v3/sendToDevice/my.type/1", body).await;
    assert_eq!(refused(json!({ "messages": to(&bob, &json!("text")) })).await.error(), (400, "M_BAD_JSON"));
    assert_eq!(refused(json!({ "messages": { "nobody": {} } })).await.error(), (400, "M_BAD_JSON"));
    assert_eq!(refused(json!({})).await.error(), (400, "M_BAD_JSON"));
    let large = json!({ "text": "x".repeat(70_000) });
    assert_eq!(refused(json!({ "messages": to(&bob, &large) })).await.error(), (413, "M_TOO_LARGE"));
    let long = format!("/v3/sendToDevice/{}/1", "t".repeat(300));
    let answer = alice.put(&world, &long, json!({ "messages": {} })).await;
    assert_eq!(answer.error(), (400, "M_INVALID_PARAM"));
    assert_eq!(numbers(&sync(&world, &bob, None).await), [0; 0]);
}
