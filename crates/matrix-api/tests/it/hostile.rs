//! What strangers send who mean no good.

use axum::body::Body;
use http::{Method, Request};
use serde_json::Value;

use crate::World;

#[tokio::test]
async fn bad_bodies_get_the_errcode_that_fits() {
    let world = World::new();
    let deep = [b"{\"a\":".repeat(100_000), b"1".to_vec(), b"}".repeat(100_000)].concat();
    let cases: [(&[u8], u16, &str); 7] = [
        (b"{", 400, "M_NOT_JSON"),
        (b"nonsense", 400, "M_NOT_JSON"),
        (b"{\"type\":\"m.login.password\"", 400, "M_NOT_JSON"),
        (b"{\"password\":\"\xff\xfe\"}", 400, "M_NOT_JSON"),
        (b"[]", 400, "M_BAD_JSON"),
        (&deep, 400, "M_BAD_JSON"),
        (&[b' '; 2 * 1024 * 1024], 413, "M_TOO_LARGE"),
    ];
    for (body, status, errcode) in cases {
        let answer = world.call_raw(Method::POST, "/v3/login", None, body.to_vec()).await;
        assert_eq!(answer.error(), (status, errcode), "{:?}", body.get(..40));
        assert!(answer.json["error"].is_string());
    }
}

#[tokio::test]
async fn bad_addresses_get_the_errcode_that_fits() {
    let world = World::new();
    let alice = world.person("alice").await;
    let long = format!("/v3/profile/@{}:example.org", "a".repeat(40_000));
    assert_eq!(alice.get(&world, &long).await.error(), (414, "M_TOO_LARGE"));
    for path in ["/v3/profile/%ff", "/v3/profile/@:", "/v3/profile/%00", "/v3/profile/@a%00:example.org"] {
        assert_eq!(alice.get(&world, path).await.error(), (400, "M_INVALID_PARAM"), "{path}");
    }
}

#[tokio::test]
async fn strangers_are_refused_before_their_body_is_looked_at() {
    let world = World::new();
    let path = "/v3/user/@alice:example.org/account_data/x";
    let refused = world.call_raw(Method::PUT, path, None, vec![b'['; 5_000_000]).await;
    assert_eq!(refused.error(), (401, "M_MISSING_TOKEN"));
    for header in ["Basic abc", "Bearer", "Bearer ", "\u{e9}"] {
        let request = Request::get("/_matrix/client/v3/account/whoami").header("authorization", header);
        let answer = world.send(request.body(Body::empty()).expect("valid")).await;
        assert_eq!(answer.status, 401, "{header}");
    }
    assert_eq!(
        world.call(Method::GET, "/v3/account/whoami", None, Value::Null).await.error(),
        (401, "M_MISSING_TOKEN")
    );
}
