//! Profiles.

use http::Method;
use serde_json::{Value, json};

use crate::World;

#[tokio::test]
async fn a_profile_is_set_by_its_owner_and_read_by_everybody() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let path = format!("/v3/profile/{}", alice.user_id);
    let get = async |rest: &str| world.call(Method::GET, &format!("{path}{rest}"), None, Value::Null).await;
    assert_eq!(get("").await.ok(), json!({}));
    assert_eq!(get("/displayname").await.error(), (404, "M_NOT_FOUND"));

    let put = async |field: &str, body: Value| alice.put(&world, &format!("{path}/{field}"), body).await;
    put("displayname", json!({ "displayname": "LemurLover" })).await.ok();
    put("avatar_url", json!({ "avatar_url": "mxc://example.com/SEsfnsuifSDFSSEF" })).await.ok();
    put("org.example.jobs", json!({ "org.example.jobs": ["gardener"] })).await.ok();
    assert_eq!(get("/displayname").await.ok(), json!({ "displayname": "LemurLover" }));
    assert_eq!(
        get("").await.ok(),
        json!({
            "displayname": "LemurLover", "avatar_url": "mxc://example.com/SEsfnsuifSDFSSEF",
            "org.example.jobs": ["gardener"],
        })
    );
    let delete = alice.call(&world, Method::DELETE, &format!("{path}/org.example.jobs"), Value::Null).await;
    assert_eq!(delete.ok(), json!({}));
    assert_eq!(get("/org.example.jobs").await.error(), (404, "M_NOT_FOUND"));

    let forbidden = bob.put(&world, &format!("{path}/displayname"), json!({ "displayname": "Mallory" })).await;
    assert_eq!(forbidden.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn what_cannot_be_in_a_profile_says_why() {
    let world = World::new();
    let alice = world.person("alice").await;
    let path = format!("/v3/profile/{}", alice.user_id);
    let long = format!("m.{}", "a".repeat(300));
    let cases = [
        ("displayname", json!({}), "M_MISSING_PARAM"),
        ("displayname", json!({ "displayname": 1 }), "M_INVALID_PARAM"),
        ("displayname", json!([]), "M_BAD_JSON"),
        ("avatar_url", json!({ "avatar_url": ["mxc://example.org/cat"] }), "M_INVALID_PARAM"),
        ("Nonsense", json!({ "Nonsense": 1 }), "M_INVALID_PARAM"),
        ("m.big", json!({ "m.big": "x".repeat(65 * 1024) }), "M_PROFILE_TOO_LARGE"),
        (&long, json!({ &long: 1 }), "M_KEY_TOO_LARGE"),
    ];
    for (field, body, errcode) in cases {
        let answer = alice.put(&world, &format!("{path}/{field}"), body).await;
        assert_eq!(answer.error(), (400, errcode), "{field}");
    }
    let nobody = world.call(Method::GET, "/v3/profile/@nobody:example.org", None, Value::Null).await;
    assert_eq!(nobody.error(), (404, "M_NOT_FOUND"));
    let not_an_id = world.call(Method::GET, "/v3/profile/nobody", None, Value::Null).await;
    assert_eq!(not_an_id.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn nobody_has_addresses_yet() {
    let world = World::new();
    let alice = world.person("alice").await;
    assert_eq!(alice.get(&world, "/v3/account/3pid").await.ok(), json!({ "threepids": [] }));
}
