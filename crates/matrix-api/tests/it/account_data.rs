//! Account data, tags and filters.

use http::Method;
use serde_json::{Value, json};

use crate::World;

#[tokio::test]
async fn account_data_is_its_owners() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let global = format!("/v3/user/{}/account_data/test.key", alice.user_id);
    let in_room = format!("/v3/user/{}/rooms/!room:example.org/account_data/test.key", alice.user_id);
    for path in [&global, &in_room] {
        assert_eq!(alice.get(&world, path).await.error(), (404, "M_NOT_FOUND"));
        alice.put(&world, path, json!({ "value": "first" })).await.ok();
        alice.put(&world, path, json!({ "value": path })).await.ok();
        assert_eq!(alice.get(&world, path).await.ok(), json!({ "value": path }));
        assert_eq!(bob.get(&world, path).await.error(), (403, "M_FORBIDDEN"));
        assert_eq!(bob.put(&world, path, json!({})).await.error(), (403, "M_FORBIDDEN"));
        assert_eq!(alice.put(&world, path, json!([])).await.error(), (400, "M_BAD_JSON"));
        let torn = world.call_raw(Method::PUT, path, Some(&alice.token), b"{".to_vec()).await;
        assert_eq!(torn.error(), (400, "M_NOT_JSON"));
        assert_eq!(alice.put(&world, path, Value::Null).await.error(), (400, "M_NOT_JSON"));
    }
    for kind in ["m.push_rules", "m.fully_read"] {
        let path = format!("/v3/user/{}/account_data/{kind}", alice.user_id);
        assert_eq!(alice.put(&world, &path, json!({})).await.error(), (405, "M_BAD_JSON"));
    }
    let path = format!("/v3/user/{}/rooms/nonsense/account_data/x", alice.user_id);
    assert_eq!(alice.get(&world, &path).await.error(), (400, "M_INVALID_PARAM"));
    let rules = alice.get(&world, &format!("/v3/user/{}/account_data/m.push_rules", alice.user_id)).await.ok();
    assert!(rules["global"]["override"].is_array());
}

/// [MSC3391]
#[tokio::test]
async fn what_is_deleted_is_told_once_and_to_nobody_who_begins() {
    let world = World::new();
    let alice = world.person("alice").await;
    let path = format!("/v3/user/{}/account_data/test.key", alice.user_id);
    let delete = format!("/unstable/org.matrix.msc3391/user/{}/account_data/test.key", alice.user_id);
    let told = |answer: &Value| {
        let events = answer["account_data"]["events"].as_array().cloned().unwrap_or_default();
        events.into_iter().find(|event| event["type"] == "test.key").map(|event| event["content"].clone())
    };
    for way in [Method::DELETE, Method::PUT] {
        alice.put(&world, &path, json!({ "value": 1 })).await.ok();
        let before = alice.get(&world, "/v3/sync").await.ok();
        assert_eq!(told(&before), Some(json!({ "value": 1 })));
        match way {
            Method::PUT => alice.put(&world, &path, json!({})).await.ok(),
            _ => alice.call(&world, way, &delete, Value::Null).await.ok(),
        };
        let since = before["next_batch"].as_str().expect("a token");
        let after = alice.get(&world, &format!("/v3/sync?since={since}")).await.ok();
        assert_eq!(told(&after), Some(json!({})));
        assert_eq!(told(&alice.get(&world, "/v3/sync").await.ok()), None);
        assert_eq!(alice.get(&world, &path).await.error(), (404, "M_NOT_FOUND"));
    }
    let rules = format!("/unstable/org.matrix.msc3391/user/{}/account_data/m.push_rules", alice.user_id);
    assert_eq!(alice.call(&world, Method::DELETE, &rules, Value::Null).await.status, 405);
}

/// [MSC3890]
#[tokio::test]
async fn settings_of_a_device_go_with_it() {
    let world = World::new();
    let alice = world.person("alice").await;
    let other = world.log_in("alice").await;
    let kind = format!("m.local_notification_settings.{}", other.device_id);
    let path = format!("/v3/user/{}/account_data/{kind}", alice.user_id);
    alice.put(&world, &path, json!({ "is_silenced": true })).await.ok();
    other.post(&world, "/v3/logout", json!({})).await.ok();
    assert_eq!(alice.get(&world, &path).await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn tags_sort_rooms() {
    let world = World::new();
    let alice = world.person("alice").await;
    let tags = format!("/v3/user/{}/rooms/!room:example.org/tags", alice.user_id);
    assert_eq!(alice.get(&world, &tags).await.ok(), json!({ "tags": {} }));
    alice.put(&world, &format!("{tags}/m.favourite"), json!({ "order": 0.5 })).await.ok();
    alice.put(&world, &format!("{tags}/u.Caf%C3%A9%2Fwork"), json!({})).await.ok();
    assert_eq!(
        alice.get(&world, &tags).await.ok(),
        json!({ "tags": { "m.favourite": { "order": 0.5 }, "u.Café/work": {} } })
    );
    let data = format!("/v3/user/{}/rooms/!room:example.org/account_data/m.tag", alice.user_id);
    assert_eq!(alice.get(&world, &data).await.ok()["tags"]["m.favourite"]["order"], 0.5);
    alice.call(&world, Method::DELETE, &format!("{tags}/m.favourite"), Value::Null).await.ok();
    alice.call(&world, Method::DELETE, &format!("{tags}/m.favourite"), Value::Null).await.ok();
    assert_eq!(alice.get(&world, &tags).await.ok(), json!({ "tags": { "u.Café/work": {} } }));
}

#[tokio::test]
async fn filters_are_kept_as_they_were_said() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let path = format!("/v3/user/{}/filter", alice.user_id);
    let filter = json!({ "room": { "timeline": { "limit": 10 } }, "org.example.extra": 1 });
    let answer = alice.post(&world, &path, filter.clone()).await.ok();
    let id = answer["filter_id"].as_str().expect("a string");
    assert!(!id.starts_with('{'));
    assert_eq!(alice.get(&world, &format!("{path}/{id}")).await.ok(), filter);
    assert_eq!(alice.get(&world, &format!("{path}/999")).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(bob.get(&world, &format!("{path}/{id}")).await.error(), (403, "M_FORBIDDEN"));
    for bad in [json!({ "room": 1 }), json!({ "room": { "timeline": { "limit": "x" } } }), json!([])] {
        assert_eq!(alice.post(&world, &path, bad.clone()).await.error(), (400, "M_BAD_JSON"), "{bad}");
    }
}
