//! Logging in, refreshing, logging out.

use http::{Method, Request};
use koine_account::{AccountConfig, Class, Flag, LimitConfig, LimitKey, Rate};
use ruma_common::user_id;
use serde_json::{Value, json};

use crate::{Answer, World, password_stage};

async fn log_in(world: &World, body: Value) -> Answer {
    world.call(Method::POST, "/v3/login", None, body).await
}

#[tokio::test]
async fn a_password_logs_in_however_the_user_is_named() {
    let world = World::new();
    world.person("alice").await;
    let flows = world.call(Method::GET, "/v3/login", None, Value::Null).await.ok();
    assert_eq!(
        flows,
        json!({ "flows": [{ "type": "m.login.password" }, { "type": "m.login.token", "get_login_token": true }] })
    );
    for user in ["alice", "@alice:example.org", "@ALICE:example.org"] {
        assert!(log_in(&world, password_stage(user, "alice!")).await.ok()["access_token"].is_string(), "{user}");
    }
    let old = json!({ "type": "m.login.password", "user": "alice", "password": "alice!", "device_id": "OLD" });
    let answer = log_in(&world, old).await.ok();
    assert_eq!((&answer["user_id"], &answer["device_id"]), (&json!("@alice:example.org"), &json!("OLD")));
    assert_eq!(answer["well_known"]["m.homeserver"]["base_url"], "https://matrix.example.org");
}

#[tokio::test]
async fn an_account_is_limited_however_it_is_written() {
    let limits = LimitConfig { login: Some(Rate { burst: 20, per_second: 0.01 }), ..LimitConfig::unlimited() };
    let world = World::with(AccountConfig { limits, ..AccountConfig::default() });
    world.accounts.permit(Class::Login, LimitKey::User(user_id!("@bob:example.org"))).expect("the first");
    for user in [user_id!("@alice:example.org"), user_id!("@nobody:example.org")] {
        while world.accounts.permit(Class::Login, LimitKey::User(user)).is_ok() {}
    }
    for user in ["alice", "@alice", " alice ", "ALICE", "@ALICE", "@alice:example.org", "@alice:EXAMPLE.org", "@nobody"]
    {
        assert_eq!(log_in(&world, password_stage(user, "wrong")).await.error(), (429, "M_LIMIT_EXCEEDED"), "{user}");
    }
    assert_eq!(log_in(&world, password_stage("@bob", "wrong")).await.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn what_does_not_log_in_says_why() {
    let world = World::new();
    world.person("alice").await;
    let cases = [
        (password_stage("alice", "wrong"), 403, "M_FORBIDDEN"),
        (password_stage("nobody", "alice!"), 403, "M_FORBIDDEN"),
        (json!({ "type": "m.login.token", "token": "x" }), 403, "M_FORBIDDEN"),
        (json!({ "type": "m.login.token" }), 400, "M_MISSING_PARAM"),
        (json!({ "type": "m.login.sso", "token": "x" }), 400, "M_UNKNOWN"),
        (json!({ "type": "m.login.password", "password": "x" }), 400, "M_MISSING_PARAM"),
        (json!({ "type": "m.login.password", "user": "alice" }), 400, "M_MISSING_PARAM"),
        (json!({ "user": "alice", "password": "x" }), 400, "M_BAD_JSON"),
        (json!({ "type": 7 }), 400, "M_BAD_JSON"),
        (json!([]), 400, "M_BAD_JSON"),
    ];
    for (body, status, errcode) in cases {
        assert_eq!(log_in(&world, body.clone()).await.error(), (status, errcode), "{body}");
    }
}

#[tokio::test]
async fn logging_out_ends_the_session_at_once() {
    let world = World::new();
    let phone = world.person("alice").await;
    let laptop = world.log_in("alice").await;
    phone.post(&world, "/v3/logout", Value::Null).await.ok();
    let refused = phone.get(&world, "/v3/account/whoami").await;
    assert_eq!(refused.error(), (401, "M_UNKNOWN_TOKEN"));
    assert!(refused.json.get("soft_logout").is_none());
    laptop.get(&world, "/v3/account/whoami").await.ok();
    laptop.post(&world, "/v3/logout/all", json!({})).await.ok();
    assert_eq!(laptop.get(&world, "/v3/devices").await.error(), (401, "M_UNKNOWN_TOKEN"));
    for path in ["/v3/logout", "/v3/logout/all"] {
        assert_eq!(world.call(Method::POST, path, None, json!({})).await.error(), (401, "M_MISSING_TOKEN"));
        assert_eq!(world.call(Method::POST, path, Some("nonsense"), json!({})).await.error(), (401, "M_UNKNOWN_TOKEN"));
    }
}

#[tokio::test]
async fn tokens_are_taken_from_the_query_too() {
    let world = World::new();
    let alice = world.person("alice").await;
    for path in [
        format!("/_matrix/client/r0/account/whoami?access_token={}", alice.token),
        format!("/_matrix/client/v3/account/whoami?a=b&access_token={}", alice.token),
    ] {
        world.send(Request::get(path).body(axum::body::Body::empty()).expect("valid")).await.ok();
    }
}

#[tokio::test]
async fn sessions_are_refreshed() {
    let world = World::new();
    world.person("alice").await;
    let mut body = password_stage("alice", "alice!");
    body["refresh_token"] = true.into();
    let first = log_in(&world, body).await.ok();
    assert!(first["expires_in_ms"].as_u64().is_some_and(|lifetime| lifetime > 0));
    let refresh =
        async |token: &Value| world.call(Method::POST, "/v3/refresh", None, json!({ "refresh_token": token })).await;
    let second = refresh(&first["refresh_token"]).await.ok();
    let token = second["access_token"].as_str().expect("a token");
    world.call(Method::GET, "/v3/account/whoami", Some(token), Value::Null).await.ok();
    assert!(second["refresh_token"].is_string() && second.get("user_id").is_none());
    assert_eq!(refresh(&json!("nonsense")).await.error(), (401, "M_UNKNOWN_TOKEN"));
    assert_eq!(refresh(&Value::Null).await.error(), (400, "M_BAD_JSON"));
}

#[tokio::test]
async fn the_locked_can_do_nothing_but_log_out() {
    let world = World::new();
    let alice = world.person("alice").await;
    let user_id = alice.user_id.as_str().try_into().expect("a user id");
    world.accounts.set_flag(user_id, Flag::Locked, true).await.expect("an account");
    let refused = alice.get(&world, "/v3/account/whoami").await;
    assert_eq!(refused.error(), (401, "M_USER_LOCKED"));
    assert_eq!(refused.json["soft_logout"], true);
    assert_eq!(log_in(&world, password_stage("alice", "alice!")).await.error(), (401, "M_USER_LOCKED"));
    alice.post(&world, "/v3/logout", json!({})).await.ok();
    assert_eq!(alice.get(&world, "/v3/account/whoami").await.error(), (401, "M_UNKNOWN_TOKEN"));
}

#[tokio::test]
async fn a_changed_password_ends_the_other_sessions_unless_told_otherwise() {
    let world = World::new();
    let alice = world.person("alice").await;
    let other = world.log_in("alice").await;
    let asked = alice.post(&world, "/v3/account/password", json!({ "new_password": "new" })).await;
    assert_eq!(asked.status, 401);
    assert_eq!(asked.json["flows"], json!([{ "stages": ["m.login.password"] }]));
    let change = async |old: &str, new: &str, logout: Value| {
        let mut body = json!({ "auth": password_stage("alice", old), "new_password": new });
        if !logout.is_null() {
            body["logout_devices"] = logout;
        }
        alice.post(&world, "/v3/account/password", body).await
    };
    change("alice!", "new", false.into()).await.ok();
    other.get(&world, "/v3/account/whoami").await.ok();
    change("new", "newer", Value::Null).await.ok();
    assert_eq!(other.get(&world, "/v3/account/whoami").await.status, 401);
    alice.get(&world, "/v3/account/whoami").await.ok();
    assert_eq!(log_in(&world, password_stage("alice", "alice!")).await.error(), (403, "M_FORBIDDEN"));
    log_in(&world, password_stage("alice", "newer")).await.ok();
    let nobody = world.call(Method::POST, "/v3/account/password", None, json!({ "new_password": "x" })).await;
    assert_eq!(nobody.error(), (401, "M_MISSING_TOKEN"));
}

#[tokio::test]
async fn an_account_is_closed_by_its_owner() {
    let world = World::new();
    let alice = world.person("alice").await;
    let deactivate = async |password: &str| {
        alice.post(&world, "/v3/account/deactivate", json!({ "auth": password_stage("alice", password) })).await
    };
    assert_eq!(deactivate("wrong").await.error(), (401, "M_FORBIDDEN"));
    assert_eq!(deactivate("alice!").await.ok(), json!({ "id_server_unbind_result": "success" }));
    assert_eq!(alice.get(&world, "/v3/account/whoami").await.error(), (401, "M_UNKNOWN_TOKEN"));
    assert_eq!(log_in(&world, password_stage("alice", "alice!")).await.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn a_session_lets_another_device_in_once() {
    let world = World::new();
    let alice = world.person("alice").await;
    let asked = alice.post(&world, "/v1/login/get_token", json!({})).await;
    assert_eq!(asked.status, 401);
    let auth = json!({ "auth": password_stage("alice", "alice!") });
    let given = alice.post(&world, "/v1/login/get_token", auth).await.ok();
    assert_eq!(given["expires_in_ms"], 120_000);
    let body = json!({ "type": "m.login.token", "token": given["login_token"], "device_id": "TABLET" });
    let answer = log_in(&world, body.clone()).await.ok();
    assert_eq!((&answer["user_id"], &answer["device_id"]), (&json!("@alice:example.org"), &json!("TABLET")));
    assert_eq!(log_in(&world, body).await.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn a_waiting_sync_ends_with_its_session() {
    let world = World::new();
    let alice = world.person("alice").await;
    let lost = world.log_in("alice").await;
    let since = lost.get(&world, "/v3/sync?timeout=0").await.ok()["next_batch"].clone();
    let path = format!("/v3/sync?timeout=60000&since={}", since.as_str().expect("a token"));
    let begun = std::time::Instant::now();
    let log_out = async {
        // Lets the other go to sleep first; if it does not get there in time, it is refused at once instead.
        tokio::task::yield_now().await;
        let body = json!({ "devices": [lost.device_id], "auth": password_stage("alice", "alice!") });
        alice.post(&world, "/v3/delete_devices", body).await.ok();
    };
    let (answer, ()) = tokio::join!(lost.get(&world, &path), log_out);
    assert_eq!(answer.error(), (401, "M_UNKNOWN_TOKEN"));
    assert!(begun.elapsed().as_secs() < 30);
}
