//! `/register` and what belongs to it.

use http::Method;
use koine_account::{AccountConfig, Class, LimitConfig, LimitKey, Rate, Registration};
use serde_json::{Value, json};

use crate::{Answer, World};

async fn register(world: &World, body: Value) -> Answer {
    world.call(Method::POST, "/v3/register", None, body).await
}

#[tokio::test]
async fn the_flows_are_told_before_anything_else() {
    let world = World::new();
    for body in [Value::Null, json!({}), json!({ "auth": {} }), json!({ "auth": null })] {
        let answer = register(&world, body).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.json["flows"], json!([{ "stages": ["m.login.dummy"] }]));
        assert!(answer.json["session"].is_string() && answer.json["params"].is_object());
    }
}

#[tokio::test]
async fn an_account_is_made_and_logged_in_to() {
    let world = World::new();
    let asked = register(&world, json!({ "username": "test_user", "password": "übers3kr1t" })).await;
    assert_eq!(asked.status, 401);
    let body = json!({
        "username": "Test_User", "password": "übers3kr1t", "device_id": "xyzzy",
        "initial_device_display_name": "display_name",
        "auth": { "type": "m.login.dummy", "session": asked.json["session"] },
    });
    let answer = register(&world, body).await.ok();
    assert_eq!(answer["user_id"], "@test_user:example.org");
    assert_eq!(answer["device_id"], "xyzzy");
    let token = answer["access_token"].as_str().expect("a token");
    let whoami = world.call(Method::GET, "/v3/account/whoami", Some(token), Value::Null).await.ok();
    assert_eq!(whoami, json!({ "user_id": "@test_user:example.org", "device_id": "xyzzy" }));
}

#[tokio::test]
async fn an_account_can_be_made_without_logging_in() {
    let world = World::new();
    let body = json!({ "password": "secret", "inhibit_login": true, "auth": { "type": "m.login.dummy" } });
    let answer = register(&world, body).await.ok();
    assert!(answer["user_id"].as_str().expect("made up").ends_with(":example.org"));
    assert!(answer.get("access_token").is_none() && answer.get("device_id").is_none());
}

#[tokio::test]
async fn names_are_judged_before_anything_has_to_be_proven() {
    let world = World::new();
    world.person("alice").await;
    let try_name = async |name: &str| register(&world, json!({ "username": name, "password": "x" })).await;
    assert_eq!(try_name("alice").await.error(), (400, "M_USER_IN_USE"));
    for name in ["us,er", "a:b", "é", "", "_ghost", &"a".repeat(300)] {
        assert_eq!(try_name(name).await.error(), (400, "M_INVALID_USERNAME"), "{name}");
    }
    let available = async |name: &str| {
        world.call(Method::GET, &format!("/v3/register/available?username={name}"), None, Value::Null).await
    };
    assert_eq!(available("bob").await.ok(), json!({ "available": true }));
    assert_eq!(available("alice").await.error(), (400, "M_USER_IN_USE"));
    assert_eq!(available("us,er").await.error(), (400, "M_INVALID_USERNAME"));
    let nameless = world.call(Method::GET, "/v3/register/available", None, Value::Null).await;
    assert_eq!(nameless.error(), (400, "M_MISSING_PARAM"));
}

#[tokio::test]
async fn guests_are_not_let_in() {
    let world = World::new();
    let answer = world.call(Method::POST, "/v3/register?kind=guest", None, json!({})).await;
    assert_eq!(answer.error(), (403, "M_GUEST_ACCESS_FORBIDDEN"));
}

#[tokio::test]
async fn where_registration_is_closed_nobody_registers() {
    let world = World::with(AccountConfig { registration: Registration::Closed, ..AccountConfig::default() });
    assert_eq!(register(&world, json!({})).await.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn a_registration_token_opens_the_door() {
    let world = World::with(AccountConfig { registration: Registration::Token, ..AccountConfig::default() });
    let token = world.accounts.create_registration_token(None, Some(1), None).await.expect("new");
    let validity = async |token: &str| {
        let path = format!("/v1/register/m.login.registration_token/validity?token={token}");
        world.call(Method::GET, &path, None, Value::Null).await.ok()["valid"].clone()
    };
    assert_eq!((validity(&token).await, validity("guess").await), (true.into(), false.into()));
    let join = async |name: &str, token: &str| {
        let auth = json!({ "type": "m.login.registration_token", "token": token });
        register(&world, json!({ "username": name, "password": "x", "auth": auth })).await
    };
    let refused = join("alice", "guess").await;
    assert_eq!(refused.error(), (401, "M_UNAUTHORIZED"));
    assert_eq!(refused.json["flows"], json!([{ "stages": ["m.login.registration_token"] }]));
    assert!(join("alice", &token).await.ok()["access_token"].is_string());
    assert_eq!(join("bob", &token).await.status, 401);
    assert_eq!(validity(&token).await, false);
}

#[tokio::test]
async fn too_many_are_told_how_long_to_wait() {
    let limits = LimitConfig { registration: Some(Rate { burst: 1, per_second: 0.5 }), ..LimitConfig::unlimited() };
    let world = World::with(AccountConfig { registration: Registration::Open, limits, ..AccountConfig::default() });
    assert_eq!(register(&world, json!({})).await.status, 401);
    let refused = register(&world, json!({})).await;
    assert_eq!(refused.error(), (429, "M_LIMIT_EXCEEDED"));
    let wait = refused.json["retry_after_ms"].as_u64().expect("a number");
    assert!((1..=2000).contains(&wait), "{wait}");
    assert_eq!(refused.headers["retry-after"], "2");
    let other = LimitKey::Address([192, 0, 2, 1].into());
    assert!(world.accounts.permit(Class::Registration, other).is_ok(), "others are not held up");
}
