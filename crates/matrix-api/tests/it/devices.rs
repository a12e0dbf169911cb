//! Devices.

use http::Method;
use serde_json::{Value, json};

use crate::{World, password_stage};

#[tokio::test]
async fn devices_are_listed_and_renamed() {
    let world = World::new();
    let alice = world.person("alice").await;
    world.log_in("alice").await;
    let devices = alice.get(&world, "/v3/devices").await.ok();
    assert_eq!(devices["devices"].as_array().expect("a list").len(), 2);
    let path = format!("/v3/devices/{}", alice.device_id);
    alice.put(&world, &path, json!({ "display_name": "new device display" })).await.ok();
    let device = alice.get(&world, &path).await.ok();
    assert_eq!(
        (&device["device_id"], &device["display_name"]),
        (&json!(alice.device_id), &json!("new device display"))
    );
    assert!(device["last_seen_ts"].is_u64());
    alice.put(&world, &path, json!({})).await.ok();
    assert_eq!(alice.get(&world, "/v3/devices/unknown").await.error(), (404, "M_NOT_FOUND"));
    for body in [json!({ "display_name": "x" }), json!({})] {
        assert_eq!(alice.put(&world, "/v3/devices/unknown", body).await.error(), (404, "M_NOT_FOUND"));
    }
}

#[tokio::test]
async fn a_device_is_deleted_by_its_owner_only() {
    let world = World::new();
    let alice = world.person("alice").await;
    world.person("bob").await;
    let lost = world.log_in("alice").await;
    let path = format!("/v3/devices/{}", lost.device_id);
    let delete = async |body: Value| alice.call(&world, Method::DELETE, &path, body).await;

    let asked = delete(Value::Null).await;
    assert_eq!(asked.status, 401);
    for key in ["session", "flows", "params"] {
        assert!(asked.json.get(key).is_some(), "{key}");
    }
    let refused = delete(json!({ "auth": password_stage("alice", "wrong") })).await;
    assert_eq!(refused.error(), (401, "M_FORBIDDEN"));
    for key in ["session", "flows", "params", "error"] {
        assert!(refused.json.get(key).is_some(), "{key}");
    }
    assert_eq!(delete(json!({ "auth": password_stage("bob", "bob!") })).await.status, 403);
    alice.get(&world, &path).await.ok();
    delete(json!({ "auth": password_stage("@alice:example.org", "alice!") })).await.ok();
    assert_eq!(alice.get(&world, &path).await.status, 404);
    assert_eq!(lost.get(&world, "/v3/devices").await.error(), (401, "M_UNKNOWN_TOKEN"));
}

#[tokio::test]
async fn several_devices_are_deleted_at_once() {
    let world = World::new();
    let alice = world.person("alice").await;
    let (one, other) = (world.log_in("alice").await, world.log_in("alice").await);
    let devices = json!([one.device_id, other.device_id, "not there"]);
    assert_eq!(alice.post(&world, "/v3/delete_devices", json!({ "devices": devices })).await.status, 401);
    let body = json!({ "devices": devices, "auth": password_stage("alice", "alice!") });
    alice.post(&world, "/v3/delete_devices", body).await.ok();
    let left = alice.get(&world, "/v3/devices").await.ok();
    assert_eq!(left["devices"].as_array().expect("a list").len(), 1);
}
