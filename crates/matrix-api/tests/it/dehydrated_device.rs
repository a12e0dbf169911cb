//! A device that is packed up. [MSC3814]

use http::Method;
use serde_json::{Value, json};

use crate::{Person, World};

const PATH: &str = "/unstable/org.matrix.msc3814.v1/dehydrated_device";

fn packed(person: &Person, device: &str) -> Value {
    json!({
        "device_id": device,
        "device_data": { "algorithm": "m.megolm.v1", "account": "packed" },
        "initial_device_display_name": "Dehydrated",
        "device_keys": {
            "user_id": person.user_id, "device_id": device, "algorithms": [], "dehydrated": true,
            "keys": { format!("ed25519:{device}"): "c2lnbmF0dXJlcyBhcmUgbm90IGNoZWNrZWQgaGVyZSE" }, "signatures": {},
        },
        "fallback_keys": { "signed_curve25519:AAAAGj": { "fallback": true, "key": "zKbLg+NrIjpnagy+pIY6uPL4ZwEG2v+8F9lmgsnlZzs" } },
    })
}

#[tokio::test]
async fn messages_wait_for_the_packed_device_until_it_is_replaced() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    assert_eq!(alice.get(&world, PATH).await.error(), (404, "M_NOT_FOUND"));
    alice.put(&world, PATH, packed(&alice, "PACKED")).await.ok();
    let found = alice.get(&world, PATH).await.ok();
    assert_eq!((&found["device_id"], &found["device_data"]["account"]), (&json!("PACKED"), &json!("packed")));
    let query = json!({ "device_keys": { alice.user_id.clone(): [] } });
    let keys = bob.post(&world, "/v3/keys/query", query.clone()).await.ok();
    assert_eq!(keys["device_keys"][&alice.user_id]["PACKED"]["dehydrated"], true, "{keys}");

    let messages = json!({ "messages": { alice.user_id.clone(): { "PACKED": { "n": 1 } } } });
    bob.put(&world, "/v3/sendToDevice/m.test/t", messages).await.ok();
    let events = format!("{PATH}/PACKED/events");
    for _ in 0..2 {
        let page = alice.post(&world, &events, json!({})).await.ok();
        assert_eq!(page["events"][0]["content"], json!({ "n": 1 }));
        let next = alice.post(&world, &events, json!({ "next_batch": page["next_batch"] })).await.ok();
        assert_eq!(next["events"], json!([]));
    }
    let foreign = alice.post(&world, &format!("{PATH}/{}/events", alice.device_id), json!({})).await;
    assert_eq!(foreign.error(), (403, "M_FORBIDDEN"));

    alice.put(&world, PATH, packed(&alice, "SECOND")).await.ok();
    let keys = bob.post(&world, "/v3/keys/query", query).await.ok();
    let devices: Vec<_> = keys["device_keys"][&alice.user_id].as_object().expect("devices").keys().collect();
    assert_eq!(devices, ["SECOND"]);
    let deleted = alice.call(&world, Method::DELETE, PATH, Value::Null).await.ok();
    assert_eq!(deleted, json!({ "device_id": "SECOND" }));
    assert_eq!(alice.call(&world, Method::DELETE, PATH, Value::Null).await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn a_device_in_use_or_without_keys_is_not_packed() {
    let world = World::new();
    let alice = world.person("alice").await;
    assert_eq!(alice.put(&world, PATH, packed(&alice, &alice.device_id)).await.error(), (400, "M_INVALID_PARAM"));
    let mut keyless = packed(&alice, "X");
    keyless.as_object_mut().expect("an object").remove("device_keys");
    assert_eq!(alice.put(&world, PATH, keyless).await.error(), (400, "M_MISSING_PARAM"));
    let mut foreign = packed(&alice, "X");
    foreign["device_keys"]["user_id"] = json!("@bob:example.org");
    assert_eq!(alice.put(&world, PATH, foreign).await.status, 400);
    assert_eq!(alice.get(&world, PATH).await.error(), (404, "M_NOT_FOUND"));
    alice.get(&world, "/v3/account/whoami").await.ok();
}
