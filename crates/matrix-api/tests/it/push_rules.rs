//! Push rules, as clients meet them.

use http::Method;
use serde_json::{Value, json};

use crate::{Person, World};

async fn get(world: &World, who: &Person, path: &str) -> Value {
    who.call(world, Method::GET, path, Value::Null).await.ok()
}

async fn put(world: &World, who: &Person, path: &str, body: Value) -> Value {
    who.call(world, Method::PUT, &format!("/v3/pushrules/global/{path}"), body).await.ok()
}

async fn ids(world: &World, who: &Person, kind: &str) -> Vec<String> {
    let rules = get(world, who, "/v3/pushrules/global/").await;
    let rules = rules[kind].as_array().expect("every kind is there").clone();
    rules.iter().map(|rule| rule["rule_id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn everybody_begins_with_the_servers_rules() {
    let world = World::new();
    let alice = world.person("alice").await;
    let all = get(&world, &alice, "/v3/pushrules/").await;
    for kind in ["override", "content", "room", "sender", "underride"] {
        assert!(all["global"][kind].is_array(), "{kind}");
    }
    assert_eq!(all["global"]["override"][4]["conditions"][0]["value"], alice.user_id);
    assert_eq!(get(&world, &alice, "/v3/pushrules").await, all, "the last slash may be left out");
    assert_eq!(get(&world, &alice, "/r0/pushrules/global/").await, all["global"]);
    let rule = get(&world, &alice, "/v3/pushrules/global/override/.m.rule.master").await;
    assert_eq!(rule["enabled"], false);
}

#[tokio::test]
async fn a_rule_is_added_changed_and_deleted() {
    let world = World::new();
    let alice = world.person("alice").await;
    let body = json!({ "pattern": "cake*lie", "actions": ["notify"] });
    assert_eq!(put(&world, &alice, "content/nocake", body).await, json!({}));
    let rule = get(&world, &alice, "/v3/pushrules/global/content/nocake").await;
    let expected = json!({
        "rule_id": "nocake", "default": false, "enabled": true, "actions": ["notify"], "pattern": "cake*lie",
    });
    assert_eq!(rule, expected);

    put(&world, &alice, "content/nocake/enabled", json!({ "enabled": false })).await;
    let enabled = get(&world, &alice, "/v3/pushrules/global/content/nocake/enabled").await;
    assert_eq!(enabled, json!({ "enabled": false }));
    put(&world, &alice, "content/nocake/actions", json!({ "actions": ["dont_notify"] })).await;
    let actions = get(&world, &alice, "/v3/pushrules/global/content/nocake/actions").await;
    assert_eq!(actions, json!({ "actions": ["dont_notify"] }));

    let path = "/v3/pushrules/global/content/nocake";
    assert_eq!(alice.call(&world, Method::DELETE, path, Value::Null).await.ok(), json!({}));
    assert_eq!(alice.call(&world, Method::DELETE, path, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(alice.call(&world, Method::GET, path, Value::Null).await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn rules_stand_where_they_are_put() {
    let world = World::new();
    let alice = world.person("alice").await;
    let body = || json!({ "actions": ["notify"] });
    put(&world, &alice, "sender/@a:example.org", body()).await;
    put(&world, &alice, "sender/@b:example.org", body()).await;
    put(&world, &alice, "sender/@c:example.org?after=@b:example.org", body()).await;
    put(&world, &alice, "sender/@d:example.org?before=%40a%3Aexample.org", body()).await;
    assert_eq!(
        ids(&world, &alice, "sender").await,
        ["@b:example.org", "@c:example.org", "@d:example.org", "@a:example.org"]
    );
    put(&world, &alice, "override/mine", body()).await;
    assert_eq!(ids(&world, &alice, "override").await[..2], [".m.rule.master", "mine"]);
}

#[tokio::test]
async fn server_default_rules_can_be_changed_and_not_deleted() {
    let world = World::new();
    let alice = world.person("alice").await;
    put(&world, &alice, "underride/.m.rule.message/enabled", json!({ "enabled": false })).await;
    put(&world, &alice, "underride/.m.rule.message/actions", json!({ "actions": [] })).await;
    let rule = get(&world, &alice, "/v3/pushrules/global/underride/.m.rule.message").await;
    assert_eq!((&rule["enabled"], &rule["actions"], &rule["default"]), (&json!(false), &json!([]), &json!(true)));
    let path = "/v3/pushrules/global/underride/.m.rule.message";
    assert_eq!(alice.call(&world, Method::DELETE, path, Value::Null).await.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn nonsense_gets_the_errors_of_the_specification() {
    let world = World::new();
    let alice = world.person("alice").await;
    let actions = json!({ "actions": ["notify"] });
    for (path, body, expected) in [
        ("override/.m.rule.mine", actions.clone(), (400, "M_INVALID_PARAM")),
        ("override/a%2Fb", actions.clone(), (400, "M_INVALID_PARAM")),
        ("override/a%5Cb", actions.clone(), (400, "M_INVALID_PARAM")),
        ("unheard_of/a", actions.clone(), (400, "M_INVALID_PARAM")),
        ("override/a?before=nothing", actions.clone(), (400, "M_UNKNOWN")),
        ("override/a?after=.m.rule.master", actions.clone(), (400, "M_INVALID_PARAM")),
        ("content/a", actions.clone(), (400, "M_MISSING_PARAM")),
        ("override/a", json!({}), (400, "M_BAD_JSON")),
        ("override/a", json!({ "actions": [1] }), (400, "M_BAD_JSON")),
        ("override/a", json!({ "actions": [], "conditions": [{ "kind": "event_match" }] }), (400, "M_BAD_JSON")),
        ("override/nothing/enabled", json!({ "enabled": true }), (404, "M_NOT_FOUND")),
        ("override/nothing/enabled", json!({ "enabled": "yes" }), (400, "M_BAD_JSON")),
        ("override/nothing/actions", actions.clone(), (404, "M_NOT_FOUND")),
        ("override/a/unheard_of", actions, (404, "M_UNRECOGNIZED")),
    ] {
        let answer = alice.call(&world, Method::PUT, &format!("/v3/pushrules/global/{path}"), body).await;
        assert_eq!(answer.error(), expected, "{path}: {}", answer.json);
    }
    assert_eq!(world.call(Method::GET, "/v3/pushrules/", None, Value::Null).await.error(), (401, "M_MISSING_TOKEN"));
}

#[tokio::test]
async fn changes_come_down_the_sync() {
    let world = World::new();
    let alice = world.person("alice").await;
    let first = get(&world, &alice, "/v3/sync").await;
    let rules = |sync: &Value| {
        let events = sync["account_data"]["events"].as_array().cloned().unwrap_or_default();
        events.into_iter().find(|event| event["type"] == "m.push_rules").map(|event| event["content"]["global"].clone())
    };
    assert_eq!(rules(&first).expect("there from the start")["room"], json!([]));
    let since = first["next_batch"].as_str().expect("a token");
    put(&world, &alice, "room/!foo:example.com", json!({ "actions": ["notify"] })).await;
    let next = get(&world, &alice, &format!("/v3/sync?since={since}&timeout=10000")).await;
    assert_eq!(rules(&next).expect("changed")["room"][0]["rule_id"], "!foo:example.com");
    let since = next["next_batch"].as_str().expect("a token");
    let quiet = get(&world, &alice, &format!("/v3/sync?since={since}")).await;
    assert_eq!(rules(&quiet), None);
}

/// A room of Bob's with Alice in it.
async fn room_of_two(world: &World, bob: &Person, alice: &Person) -> String {
    let body = json!({ "preset": "private_chat", "invite": [alice.user_id] });
    let room = bob.call(world, Method::POST, "/v3/createRoom", body).await.ok();
    let room = room["room_id"].as_str().expect("a room").to_owned();
    alice.call(world, Method::POST, &format!("/v3/rooms/{room}/join"), json!({})).await.ok();
    room
}

async fn send(world: &World, who: &Person, room: &str, txn: &str, content: Value) {
    let path = format!("/v3/rooms/{room}/send/m.room.message/{txn}");
    who.call(world, Method::PUT, &path, content).await.ok();
}

/// Notifications and highlights that somebody has in the room.
async fn unread(world: &World, who: &Person, room: &str) -> (Value, Value) {
    let sync = get(world, who, "/v3/sync").await;
    let counts = &sync["rooms"]["join"][room]["unread_notifications"];
    (counts["notification_count"].clone(), counts["highlight_count"].clone())
}

#[tokio::test]
async fn what_counts_as_unread_is_what_the_rules_say() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = room_of_two(&world, &bob, &alice).await;
    let text = |mentions: Value| json!({ "msgtype": "m.text", "body": "hello", "m.mentions": mentions });
    let (before, _) = unread(&world, &alice, &room).await;
    let before = before.as_u64().expect("a number");
    let expect = async |notifications: u64, highlights: u64, why: &str| {
        let counts = unread(&world, &alice, &room).await;
        assert_eq!(counts, (json!(before + notifications), json!(highlights)), "{why}");
    };
    send(&world, &bob, &room, "1", text(json!({}))).await;
    expect(1, 0, "a message").await;
    send(&world, &bob, &room, "2", text(json!({ "user_ids": [alice.user_id] }))).await;
    expect(2, 1, "a mention").await;
    send(&world, &bob, &room, "3", json!({ "msgtype": "m.notice", "body": "beep" })).await;
    expect(2, 1, "a notice").await;
    send(&world, &bob, &room, "4", text(json!({ "room": true }))).await;
    expect(3, 2, "everybody is addressed by the one who made the room").await;
    put(&world, &alice, &format!("room/{room}"), json!({ "actions": [] })).await;
    send(&world, &bob, &room, "5", text(json!({}))).await;
    expect(3, 2, "a message in a room that was silenced").await;

    let (before, _) = unread(&world, &bob, &room).await;
    send(&world, &alice, &room, "1", text(json!({ "room": true }))).await;
    let (after, highlights) = unread(&world, &bob, &room).await;
    assert_eq!(after.as_u64(), before.as_u64().map(|count| count + 1), "it is a message");
    assert_eq!(highlights, json!(0), "but Alice has not the power to address everybody");
}
