//! Sliding sync over a restart of the server: connections are forgotten, clients are told so, and miss nothing.

use std::sync::Arc;

use koine_store::{MemoryEngine, Shard};
use serde_json::json;

use crate::{
    Person, World,
    rooms::{create, text},
    sliding_sync::{bodies, say},
};

const PATH: &str = "/unstable/org.matrix.simplified_msc3575/sync";

#[tokio::test]
async fn whoever_was_connected_starts_anew_and_misses_nothing() {
    let engine = Arc::new(MemoryEngine::new());
    let world = World::on(Shard::open(engine.clone()).expect("an empty engine opens"));
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({})).await;
    let body = |since: Option<&str>| {
        json!({
            "conn_id": "room-list",
            "lists": { "all": { "ranges": [[0, 9]], "timeline_limit": 5 } },
            "extensions": { "to_device": { "enabled": true, "since": since }, "e2ee": { "enabled": true } },
        })
    };
    let note = |n: u32| json!({ "messages": { (alice.user_id.as_str()): { (alice.device_id.as_str()): { "n": n } } } });
    bob.put(&world, "/v3/sendToDevice/org.example.note/1", note(1)).await.ok();
    let before = alice.post(&world, PATH, body(None)).await.ok();
    assert_eq!(before["extensions"]["to_device"]["events"][0]["content"]["n"], 1);
    let since = text(&before["extensions"]["to_device"], "next_batch");
    say(&world, &alice, &room, "unseen").await;
    bob.put(&world, "/v3/sendToDevice/org.example.note/2", note(2)).await.ok();
    world.stop();

    let world = World::on(Shard::open(engine).expect("what was written opens again"));
    let alice =
        Person { user_id: alice.user_id.clone(), device_id: alice.device_id.clone(), token: alice.token.clone() };
    let path = format!("{PATH}?pos={}", text(&before, "pos"));
    assert_eq!(alice.post(&world, &path, body(Some(&since))).await.error(), (400, "M_UNKNOWN_POS"));
    let after = alice.post(&world, PATH, body(Some(&since))).await.ok();
    assert_eq!(bodies(&after["rooms"][&room]), ["unseen"]);
    // What was told before comes no more; what was not, comes once.
    let messages = &after["extensions"]["to_device"];
    assert_eq!(
        (&messages["events"][0]["content"]["n"], messages["events"].as_array().map(Vec::len)),
        (&json!(2), Some(1))
    );
    let path = format!("{PATH}?pos={}", text(&after, "pos"));
    let quiet = alice.post(&world, &path, body(Some(&text(messages, "next_batch")))).await.ok();
    assert_eq!(quiet["extensions"]["to_device"]["events"], json!([]));
}
