//! Whose invitations somebody wants. [CS-API §invite-permission] [MSC4155]

use serde_json::{Value, json};

use crate::{Person, World, rooms::create};

async fn set(world: &World, person: &Person, kind: &str, content: Value) {
    let path = format!("/v3/user/{}/account_data/{kind}", person.user_id);
    person.put(world, &path, content).await.ok();
}

#[tokio::test]
async fn who_wants_no_invitations_gets_none_by_any_way() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    set(&world, &bob, "m.invite_permission_config", json!({ "default_action": "block" })).await;
    let room = create(&world, &alice, json!({ "preset": "private_chat" })).await;
    let blocked = (403, "M_INVITE_BLOCKED");
    let body = json!({ "user_id": bob.user_id });
    assert_eq!(alice.post(&world, &format!("/v3/rooms/{room}/invite"), body.clone()).await.error(), blocked);
    let member = format!("/v3/rooms/{room}/state/m.room.member/{}", bob.user_id);
    assert_eq!(alice.put(&world, &member, json!({ "membership": "invite" })).await.error(), blocked);
    let new = alice.post(&world, "/v3/createRoom", json!({ "invite": [bob.user_id] })).await;
    assert_eq!(new.error(), blocked);
    set(&world, &bob, "m.invite_permission_config", json!({})).await;
    alice.post(&world, &format!("/v3/rooms/{room}/invite"), body).await.ok();
}

#[tokio::test]
async fn what_is_ignored_arrives_unseen() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let kind = "org.matrix.msc4155.invite_permission_config";
    set(&world, &bob, kind, json!({ "ignored_users": ["@ali*"], "blocked_servers": null })).await;
    let room = create(&world, &alice, json!({ "preset": "private_chat" })).await;
    let body = json!({ "user_id": bob.user_id });
    alice.post(&world, &format!("/v3/rooms/{room}/invite"), body).await.ok();
    let seen = bob.get(&world, "/v3/sync").await.ok();
    assert!(seen["rooms"].get("invite").is_none(), "{seen}");
    let lists = json!({ "lists": { "all": { "ranges": [[0, 9]] } } });
    let path = "/unstable/org.matrix.simplified_msc3575/sync";
    assert_eq!(bob.post(&world, path, lists.clone()).await.ok()["lists"]["all"]["count"], 0);
    set(&world, &bob, kind, json!({ "blocked_servers": ["*"], "allowed_users": [alice.user_id] })).await;
    assert_eq!(bob.post(&world, path, lists).await.ok()["lists"]["all"]["count"], 1);
}
