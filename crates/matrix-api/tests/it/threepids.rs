//! E-mail addresses and telephone numbers, of which this server has none.

use http::Method;
use serde_json::{Value, json};

use crate::{World, password_stage};

#[tokio::test]
async fn what_takes_an_address_is_refused_in_the_words_of_the_specification() {
    let world = World::new();
    let alice = world.person("alice").await;
    let email = json!({ "client_secret": "s", "email": "a@b.c", "send_attempt": 1 });
    let telephone = json!({ "client_secret": "s", "country": "GB", "phone_number": "0770", "send_attempt": 1 });
    for (path, expected) in [
        ("/v3/account/3pid", (403, "M_THREEPID_DENIED")),
        ("/v3/register", (403, "M_THREEPID_DENIED")),
        ("/v3/account/password", (400, "M_THREEPID_NOT_FOUND")),
    ] {
        for (kind, body) in [("email", &email), ("msisdn", &telephone)] {
            let path = format!("{path}/{kind}/requestToken");
            assert_eq!(world.call(Method::POST, &path, None, body.clone()).await.error(), expected, "{path}");
            assert_eq!(world.call(Method::POST, &path, None, json!({})).await.status, 400, "{path}");
        }
    }
    assert_eq!(alice.get(&world, "/v3/account/3pid").await.ok(), json!({ "threepids": [] }));
    let credentials = json!({ "id_server": "id.example", "id_access_token": "t", "sid": "1", "client_secret": "s" });
    let add = json!({ "three_pid_creds": credentials });
    assert_eq!(alice.post(&world, "/v3/account/3pid", add).await.error(), (403, "M_THREEPID_AUTH_FAILED"));
    assert_eq!(alice.post(&world, "/v3/account/3pid/bind", credentials).await.error(), (400, "M_SERVER_NOT_TRUSTED"));
    for path in ["/v3/account/3pid/unbind", "/v3/account/3pid/delete"] {
        let body = json!({ "medium": "email", "address": "a@b.c" });
        assert_eq!(alice.post(&world, path, body).await.ok(), json!({ "id_server_unbind_result": "no-support" }));
        assert_eq!(world.call(Method::POST, path, None, json!({})).await.error(), (401, "M_MISSING_TOKEN"));
    }
}

#[tokio::test]
async fn an_address_is_added_by_the_owner_of_the_account_alone() {
    let world = World::new();
    let alice = world.person("alice").await;
    let mut add = json!({ "sid": "1", "client_secret": "s" });
    let asked = alice.post(&world, "/v3/account/3pid/add", add.clone()).await;
    assert_eq!((asked.status.as_u16(), &asked.json["flows"][0]["stages"][0]), (401, &Value::from("m.login.password")));
    add["auth"] = password_stage("alice", "alice!");
    add["auth"]["session"] = asked.json["session"].clone();
    assert_eq!(alice.post(&world, "/v3/account/3pid/add", add).await.error(), (400, "M_THREEPID_AUTH_FAILED"));
}
