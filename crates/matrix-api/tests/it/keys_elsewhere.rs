//! Keys of people of other servers, asked of servers that are here in this file.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use koine_account::{AnswerOf, Claim, ClaimedKey, NoAnswer, OtherServers, RemoteDevices};
use ruma_common::{CanonicalJsonObject, OwnedUserId, ServerName, UserId};
use serde_json::{Value, json};

use crate::World;

/// `good.example` answers, `slow.example` never does, `bad.example` tells what it was not asked for, all others fail.
struct Servers;

fn keys_of(user: &UserId) -> RemoteDevices {
    let keys = |user: &str, device: &str| -> CanonicalJsonObject {
        let keys = json!({
            "user_id": user, "device_id": device, "algorithms": [], "keys": { format!("ed25519:{device}"): "key" },
            "signatures": {}, "unsigned": { "device_display_name": "forged" },
        });
        serde_json::from_value(keys).expect("canonical JSON")
    };
    let devices = vec![
        ("PHONE".to_owned(), keys(user.as_str(), "PHONE"), Some("My phone".to_owned())),
        ("FOREIGN".to_owned(), keys("@alice:example.org", "FOREIGN"), None),
        ("RENAMED".to_owned(), keys(user.as_str(), "OTHER"), None),
    ];
    RemoteDevices { stream_id: Some(1), devices, ..RemoteDevices::default() }
}

impl OtherServers for Servers {
    fn devices<'a>(&'a self, user_id: &'a UserId) -> AnswerOf<'a, RemoteDevices> {
        Box::pin(async move { Ok(keys_of(user_id)) })
    }

    fn keys<'a>(
        &'a self,
        server: &'a ServerName,
        users: &'a BTreeMap<OwnedUserId, Vec<String>>,
    ) -> AnswerOf<'a, BTreeMap<OwnedUserId, RemoteDevices>> {
        Box::pin(async move {
            match server.as_str() {
                "slow.example" => std::future::pending().await,
                "good.example" => Ok(users.keys().map(|user| (user.clone(), keys_of(user))).collect()),
                "bad.example" => {
                    let alice = OwnedUserId::try_from("@alice:example.org").expect("a user id");
                    Ok([(alice.clone(), keys_of(&alice))].into())
                }
                _ => Err(NoAnswer("it is away".to_owned())),
            }
        })
    }

    fn claim<'a>(&'a self, server: &'a ServerName, claims: &'a [Claim]) -> AnswerOf<'a, Vec<ClaimedKey>> {
        Box::pin(async move {
            if server == "slow.example" {
                return std::future::pending().await;
            }
            let given = claims.iter().map(|claim| ClaimedKey {
                user_id: claim.user_id.clone(),
                device_id: claim.device_id.clone(),
                key_id: format!("{}:1", claim.algorithm),
                key: r#"{"key":"1"}"#.to_owned(),
            });
            Ok(given.collect())
        })
    }
}

fn world() -> World {
    let world = World::new();
    world.accounts.set_other_servers(Arc::new(Servers));
    world
}

#[tokio::test]
async fn those_that_answer_are_shown_and_the_others_are_named() {
    let world = world();
    let alice = world.person("alice").await;
    let body = json!({ "timeout": 200, "device_keys": {
        "@bob:good.example": [], "@eve:bad.example": [], "@sam:slow.example": [], "@gone:away.example": [],
        alice.user_id.as_str(): [],
    } });
    let asking = alice.post(&world, "/v3/keys/query", body);
    let answer = tokio::time::timeout(Duration::from_secs(20), asking).await.expect("nobody waits for ever").ok();
    let failed: Vec<&String> = answer["failures"].as_object().expect("failures").keys().collect();
    assert_eq!(failed, ["away.example", "slow.example"]);
    let bob = &answer["device_keys"]["@bob:good.example"];
    assert_eq!(bob.as_object().expect("devices").keys().collect::<Vec<_>>(), ["PHONE"], "what is not his is left out");
    assert_eq!(bob["PHONE"]["unsigned"], json!({ "device_display_name": "My phone" }));
    assert_eq!(answer["device_keys"]["@eve:bad.example"], Value::Null);
    assert_eq!(answer["device_keys"][&alice.user_id], json!({}), "nobody else speaks for her");
}

#[tokio::test]
async fn one_device_of_many_can_be_asked_for() {
    let world = world();
    let alice = world.person("alice").await;
    for (wanted, found) in [(json!(["PHONE"]), 1), (json!(["NONE"]), 0)] {
        let body = json!({ "device_keys": { "@bob:good.example": wanted } });
        let answer = alice.post(&world, "/v3/keys/query", body).await.ok();
        assert_eq!(answer["device_keys"]["@bob:good.example"].as_object().expect("devices").len(), found);
    }
    let many: BTreeMap<String, Value> = (0..10_001).map(|n| (format!("@u{n}:good.example"), json!([]))).collect();
    let answer = alice.post(&world, "/v3/keys/query", json!({ "device_keys": many })).await;
    assert_eq!(answer.error(), (413, "M_TOO_LARGE"));
}

#[tokio::test]
async fn claims_go_where_the_devices_are() {
    let world = world();
    let alice = world.person("alice").await;
    let claims = json!({ "@bob:good.example": { "PHONE": "signed_curve25519" }, "@sam:slow.example": { "X": "a" } });
    let answer = alice.post(&world, "/v3/keys/claim", json!({ "timeout": 200, "one_time_keys": claims })).await.ok();
    assert_eq!(answer["one_time_keys"]["@bob:good.example"]["PHONE"]["signed_curve25519:1"], json!({ "key": "1" }));
    assert_eq!(answer["failures"].as_object().expect("failures").keys().collect::<Vec<_>>(), ["slow.example"]);
}

#[tokio::test]
async fn messages_for_other_servers_wait_for_them() {
    let world = world();
    let alice = world.person("alice").await;
    let messages =
        json!({ "@bob:good.example": { "PHONE": { "text": "hi" }, "*": {} }, "@sam:slow.example": { "*": {} } });
    for _ in 0..2 {
        alice.put(&world, "/v3/sendToDevice/m.test/1", json!({ "messages": messages })).await.ok();
    }
    let servers = world.accounts.servers_to_write_to().expect("readable");
    assert_eq!(servers, ["good.example", "slow.example"]);
    let waiting = world.accounts.outgoing(&servers[0], 10, 1_000_000).expect("readable");
    assert_eq!(waiting.len(), 1, "the same transaction once more does nothing");
    let unit: Value = serde_json::from_slice(&waiting[0].content).expect("JSON");
    assert_eq!((&unit["sender"], &unit["type"]), (&json!(alice.user_id), &json!("m.test")));
    assert_eq!(unit["messages"]["@bob:good.example"]["PHONE"], json!({ "text": "hi" }));
    assert!(unit["message_id"].as_str().expect("an id").chars().count() <= 32);
}
