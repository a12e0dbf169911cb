//! What admins do to accounts; and small things that every client asks: OpenID, TURN, other networks, pushers, support.

use koine_account::Flag;
use serde_json::{Value, json};

use crate::{Person, World};

async fn admin(world: &World, name: &str) -> Person {
    let person = world.person(name).await;
    let user_id = person.user_id.as_str().try_into().expect("a user id");
    world.accounts.set_flag(user_id, Flag::Admin, true).await.expect("an account");
    person
}

#[tokio::test]
async fn admins_lock_and_suspend_others() {
    let world = World::new();
    let (root, other) = (admin(&world, "root").await, admin(&world, "other").await);
    let alice = world.person("alice").await;
    for (what, key) in [("lock", "locked"), ("suspend", "suspended")] {
        let path = |user: &str| format!("/v1/admin/{what}/{user}");
        let own = path(&alice.user_id);
        assert_eq!(root.get(&world, &own).await.ok(), json!({ key: false }));
        assert_eq!(root.put(&world, &own, json!({ key: true })).await.ok(), json!({ key: true }));
        assert_eq!(root.get(&world, &own).await.ok(), json!({ key: true }));
        if what == "lock" {
            assert_eq!(alice.get(&world, "/v3/account/whoami").await.error(), (401, "M_USER_LOCKED"));
        } else {
            let renamed = format!("/v3/profile/{}/displayname", alice.user_id);
            let refused = alice.put(&world, &renamed, json!({ "displayname": "x" })).await;
            assert_eq!(refused.error(), (403, "M_USER_SUSPENDED"));
        }
        assert_eq!(root.put(&world, &own, json!({ key: false })).await.ok(), json!({ key: false }));
        alice.get(&world, "/v3/account/whoami").await.ok();

        assert_eq!(root.get(&world, &path("@nobody:example.org")).await.error(), (404, "M_NOT_FOUND"));
        assert_eq!(root.get(&world, &path("@alice:elsewhere.org")).await.error(), (400, "M_INVALID_PARAM"));
        assert_eq!(root.put(&world, &own, json!({})).await.error(), (400, "M_BAD_JSON"));
        for user in [&root.user_id, &other.user_id] {
            assert_eq!(root.put(&world, &path(user), json!({ key: true })).await.error(), (403, "M_FORBIDDEN"));
        }
        for user in ["@nobody:example.org", "@root:example.org", "@alice:elsewhere.org"] {
            assert_eq!(alice.get(&world, &path(user)).await.error(), (403, "M_FORBIDDEN"));
            let refused = alice.put(&world, &path(user), json!({ key: true })).await;
            assert_eq!(refused.error(), (403, "M_FORBIDDEN"));
        }
    }
    let can = root.get(&world, "/v3/capabilities").await.ok();
    assert_eq!(can["capabilities"]["m.account_moderation"], json!({ "lock": true, "suspend": true }));
    let can = alice.get(&world, "/v3/capabilities").await.ok();
    assert!(can["capabilities"].get("m.account_moderation").is_none());
}

#[tokio::test]
async fn admins_and_owners_see_where_an_account_is_used() {
    let world = World::new();
    let (root, alice, bob) = (admin(&world, "root").await, world.person("alice").await, world.person("bob").await);
    let path = format!("/v3/admin/whois/{}", alice.user_id);
    for who in [&root, &alice] {
        let answer = who.get(&world, &path).await.ok();
        assert_eq!(answer["user_id"], alice.user_id.as_str());
        let connection = &answer["devices"][&alice.device_id]["sessions"][0]["connections"][0];
        assert!(connection["last_seen"].is_u64(), "{answer}");
    }
    assert_eq!(bob.get(&world, &path).await.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn openid_tokens_name_their_owner_to_this_server_alone() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let path = format!("/v3/user/{}/openid/request_token", alice.user_id);
    let answer = alice.post(&world, &path, json!({})).await.ok();
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(3600)));
    assert_eq!(answer["matrix_server_name"], "example.org");
    let token = answer["access_token"].as_str().expect("a token");
    let owner = world.accounts.openid_user(&token.into()).expect("readable");
    assert_eq!(owner.expect("known").as_str(), alice.user_id);
    assert_eq!(world.accounts.openid_user(&"koi_nonsense".into()).expect("readable"), None);
    let no_session = world.call(http::Method::GET, "/v3/account/whoami", Some(token), Value::Null).await;
    assert_eq!(no_session.error(), (401, "M_UNKNOWN_TOKEN"));
    assert_eq!(bob.post(&world, &path, json!({})).await.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn what_is_not_there_is_said_as_specified() {
    let world = World::new();
    let alice = world.person("alice").await;
    assert_eq!(alice.get(&world, "/v3/voip/turnServer").await.ok(), json!({}));
    assert_eq!(alice.get(&world, "/v3/thirdparty/protocols").await.ok(), json!({}));
    assert_eq!(alice.get(&world, "/v3/pushers").await.ok(), json!({ "pushers": [] }));
    for path in [
        "/v3/thirdparty/protocol/irc",
        "/v3/thirdparty/location/irc?channel=x",
        "/v3/thirdparty/user/irc?nick=x",
        "/v3/thirdparty/location?alias=%23a:example.org",
        "/v3/thirdparty/user?userid=@a:example.org",
    ] {
        assert_eq!(alice.get(&world, path).await.error(), (404, "M_NOT_FOUND"), "{path}");
    }
    let support = http::Request::get("/.well-known/matrix/support").body(axum::body::Body::empty()).expect("valid");
    assert_eq!(world.send(support).await.error(), (404, "M_NOT_FOUND"));
}
