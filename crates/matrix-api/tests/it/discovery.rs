//! Versions, well-known, capabilities, and what is not there.

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::World;

#[tokio::test]
async fn versions_are_told_to_everybody() {
    let world = World::new();
    let answer = world.call(Method::GET, "/versions", None, Value::Null).await;
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    let answer = answer.ok();
    let versions = answer["versions"].as_array().expect("a list");
    assert!(versions.contains(&"v1.11".into()));
    assert!(answer["unstable_features"].as_object().expect("an object").values().all(Value::is_boolean));
}

/// What clients refuse to go on without, or take for an invitation to ask for what is not there.
#[tokio::test]
async fn versions_say_what_shipping_clients_look_for() {
    let world = World::new();
    let alice = world.person("alice").await;
    let nobody = world.call(Method::GET, "/versions", None, Value::Null).await.ok();
    let answer = alice.get(&world, "/versions").await.ok();
    assert_eq!(answer, nobody, "asked once more with a token");
    let features = &answer["unstable_features"];
    // COMPAT(Element X): no login without it. COMPAT(Element Web): media with a token, state after the timeline.
    for feature in ["org.matrix.simplified_msc3575", "org.matrix.msc3916.stable", "org.matrix.msc4222"] {
        assert_eq!(features[feature], true, "{feature}");
    }
    let versions: Vec<&str> = answer["versions"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let minors: Vec<u32> = versions.iter().filter_map(|version| version.strip_prefix("v1.")?.parse().ok()).collect();
    // COMPAT(matrix-js-sdk): discovery wants one of v1.1 to v1.13. COMPAT(FluffyChat): OAuth from v1.15 on.
    assert!((1..=13).all(|minor| minors.contains(&minor)) && minors.iter().all(|minor| *minor < 15), "{versions:?}");
    // Probes for what is not there yet.
    for path in ["/v1/auth_metadata", "/unstable/org.matrix.msc2965/auth_metadata", "/unstable/org.matrix.msc4108"] {
        assert_eq!(alice.get(&world, path).await.error(), (404, "M_UNRECOGNIZED"), "{path}");
    }
}

#[tokio::test]
async fn the_well_known_file_names_the_address() {
    let world = World::new();
    let request = Request::get("/.well-known/matrix/client").body(Body::empty()).expect("valid");
    let answer = world.send(request).await;
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert_eq!(answer.ok(), json!({ "m.homeserver": { "base_url": "https://matrix.example.org" } }));
}

#[tokio::test]
async fn capabilities_are_told_to_users() {
    let world = World::new();
    let alice = world.person("alice").await;
    let answer = alice.get(&world, "/v3/capabilities").await.ok();
    assert_eq!(answer["capabilities"]["m.change_password"]["enabled"], true);
    assert_eq!(answer["capabilities"]["m.room_versions"]["available"]["10"], "stable");
    let refused = world.call(Method::GET, "/v3/capabilities", None, Value::Null).await;
    assert_eq!(refused.error(), (401, "M_MISSING_TOKEN"));
}

#[tokio::test]
async fn what_is_not_there_is_unrecognized() {
    let world = World::new();
    for path in ["/v3/nonsense", "/v1/auth_metadata", "/v99/login", ""] {
        assert_eq!(world.call(Method::GET, path, None, Value::Null).await.error(), (404, "M_UNRECOGNIZED"), "{path}");
    }
    for (method, path) in [(Method::DELETE, "/v3/login"), (Method::POST, "/versions"), (Method::PATCH, "/v3/register")]
    {
        assert_eq!(world.call(method, path, None, Value::Null).await.error(), (405, "M_UNRECOGNIZED"), "{path}");
    }
}

#[tokio::test]
async fn browsers_may_call_from_anywhere() {
    let world = World::new();
    let request = Request::options("/_matrix/client/v3/login").body(Body::empty()).expect("valid");
    let answer = world.send(request).await;
    assert!(answer.status.is_success());
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert!(answer.headers["access-control-allow-methods"].to_str().expect("text").contains("PUT"));
    assert!(answer.headers["access-control-allow-headers"].to_str().expect("text").contains("Authorization"));
    let refused = world.call(Method::GET, "/v3/nonsense", None, Value::Null).await;
    assert_eq!(refused.headers["access-control-allow-origin"], "*");
}
