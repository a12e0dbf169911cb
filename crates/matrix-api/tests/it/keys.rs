//! Keys of devices and users: publishing, asking, claiming, signing, and who is told of changes.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use ed25519_dalek::{Signer as _, SigningKey};
use http::Method;
use serde_json::{Value, json};

use crate::{
    Person, World, password_stage,
    rooms::{create, encode, text},
};

/// A pair of keys made of one number.
fn pair(seed: u8) -> (SigningKey, String) {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let public = BASE64.encode(key.verifying_key().as_bytes());
    (key, public)
}

/// The object with one more signature.
fn signed(mut object: Value, user: &str, key_id: &str, key: &SigningKey) -> Value {
    let signatures = object.as_object_mut().expect("an object").remove("signatures").unwrap_or(json!({}));
    // Keys of objects are sorted here, so this is canonical JSON.
    let signature = BASE64.encode(key.sign(object.to_string().as_bytes()).to_bytes());
    object["signatures"] = signatures;
    object["signatures"][user][key_id] = signature.into();
    object
}

fn device_keys(who: &Person, seed: u8) -> Value {
    let (key, public) = pair(seed);
    let id = format!("ed25519:{}", who.device_id);
    let object = json!({
        "user_id": who.user_id, "device_id": who.device_id,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": { (id.as_str()): public, (format!("curve25519:{}", who.device_id)): "Y3VydmU" },
    });
    signed(object, &who.user_id, &id, &key)
}

fn cross_signing_key(who: &Person, usage: &str, seed: u8) -> Value {
    let (_, public) = pair(seed);
    json!({ "user_id": who.user_id, "usage": [usage], "keys": { (format!("ed25519:{public}")): public } })
}

/// Master, self-signing and user-signing keys from three seeds that follow each other.
fn cross_signing_keys(who: &Person, seed: u8) -> Value {
    let (master, public) = pair(seed);
    let sign = |object| signed(object, &who.user_id, &format!("ed25519:{public}"), &master);
    json!({
        "master_key": cross_signing_key(who, "master", seed),
        "self_signing_key": sign(cross_signing_key(who, "self_signing", seed + 1)),
        "user_signing_key": sign(cross_signing_key(who, "user_signing", seed + 2)),
    })
}

async fn upload(world: &World, who: &Person, body: Value) -> Value {
    who.post(world, "/v3/keys/upload", body).await.ok()
}

async fn query(world: &World, who: &Person, of: &Person) -> Value {
    who.post(world, "/v3/keys/query", json!({ "device_keys": { (of.user_id.as_str()): [] } })).await.ok()
}

async fn claim(world: &World, who: &Person, of: &Person) -> Value {
    let body = json!({ "one_time_keys": { (of.user_id.as_str()): { (of.device_id.as_str()): "signed_curve25519" } } });
    let answer = who.post(world, "/v3/keys/claim", body).await.ok();
    answer["one_time_keys"][&of.user_id][&of.device_id].clone()
}

async fn sync(world: &World, who: &Person, since: Option<&Value>) -> Value {
    let query = since.map_or_else(String::new, |since| format!("since={}", text(since, "next_batch")));
    who.get(world, &format!("/v3/sync?{query}")).await.ok()
}

async fn join(world: &World, who: &Person, room: &str) {
    who.post(world, &format!("/v3/join/{}", encode(room)), json!({})).await.ok();
}

async fn leave(world: &World, who: &Person, room: &str) {
    who.post(world, &format!("/v3/rooms/{}/leave", encode(room)), json!({})).await.ok();
}

/// One part of the device lists of an answer.
fn listed(answer: &Value, part: &str) -> Vec<String> {
    let lists = answer.get("device_lists").unwrap_or(answer);
    let list = lists[part].as_array().cloned().unwrap_or_default();
    list.iter().map(|user| user.as_str().expect("a user id").to_owned()).collect()
}

#[tokio::test]
async fn device_keys_are_published_and_found_by_others() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let keys = device_keys(&alice, 1);
    let counts = upload(&world, &alice, json!({ "device_keys": keys })).await;
    assert_eq!(counts, json!({ "one_time_key_counts": { "signed_curve25519": 0 } }));
    let name = format!("/v3/devices/{}", alice.device_id);
    alice.put(&world, &name, json!({ "display_name": "Phone" })).await.ok();
    let answer = query(&world, &bob, &alice).await;
    let mut expected = keys.clone();
    expected["unsigned"] = json!({ "device_display_name": "Phone" });
    assert_eq!(answer["device_keys"][&alice.user_id], json!({ (alice.device_id.as_str()): expected }));
    assert_eq!(answer["failures"], json!({}));
    assert_eq!(query(&world, &alice, &bob).await["device_keys"][&bob.user_id], json!({}));
    let body = json!({ "device_keys": { "@carol:elsewhere.org": [], "@nobody:example.org": [] } });
    let answer = alice.post(&world, "/v3/keys/query", body).await.ok();
    assert_eq!(answer["device_keys"], json!({}));
    assert!(answer["failures"].get("elsewhere.org").is_some(), "{answer}");
    for bad in [
        json!({ "device_keys": { (bob.user_id.as_str()): { (bob.device_id.as_str()): true } } }),
        json!({ "device_keys": [] }),
        json!({}),
    ] {
        assert_eq!(alice.post(&world, "/v3/keys/query", bad).await.error(), (400, "M_BAD_JSON"));
    }
}

#[tokio::test]
async fn what_are_no_keys_or_anothers_is_refused() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let refused = async |body: Value| bob.post(&world, "/v3/keys/upload", body).await;
    assert_eq!(refused(json!({ "device_keys": device_keys(&alice, 1) })).await.error(), (400, "M_INVALID_PARAM"));
    let bare = json!({ "user_id": bob.user_id, "device_id": bob.device_id });
    assert_eq!(refused(json!({ "device_keys": bare })).await.error(), (400, "M_BAD_JSON"));
    for bad in
        [json!({ "nocolon": {} }), json!({ "a:b": 7 }), json!({ ":b": {} }), json!([]), json!({ "a:b": { "x": 0.5 } })]
    {
        assert_eq!(refused(json!({ "one_time_keys": bad })).await.error(), (400, "M_BAD_JSON"), "{bad}");
    }
    let two = json!({ "a:1": "x", "a:2": "y" });
    assert_eq!(refused(json!({ "fallback_keys": two })).await.error(), (400, "M_BAD_JSON"));
    let many: serde_json::Map<_, _> = (0..501).map(|n| (format!("a:{n}"), json!("key"))).collect();
    assert_eq!(refused(json!({ "one_time_keys": many })).await.error(), (400, "M_INVALID_PARAM"));
    let large = json!({ "a:1": "x".repeat(9000) });
    assert_eq!(refused(json!({ "one_time_keys": large })).await.error(), (413, "M_TOO_LARGE"));
    assert_eq!(upload(&world, &bob, json!({})).await["one_time_key_counts"], json!({ "signed_curve25519": 0 }));
}

#[tokio::test]
async fn one_time_keys_are_given_out_once_in_the_order_of_uploading() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let one = json!({ "signed_curve25519:B": { "key": "b" } });
    let two = json!({ "signed_curve25519:A": { "key": "a" } });
    upload(&world, &alice, json!({ "one_time_keys": one })).await;
    let counts = upload(&world, &alice, json!({ "one_time_keys": two })).await;
    assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 2);
    let counts = upload(&world, &alice, json!({ "one_time_keys": one })).await;
    assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 2, "the same once more");
    let other = json!({ "one_time_keys": { "signed_curve25519:B": { "key": "x" } } });
    assert_eq!(alice.post(&world, "/v3/keys/upload", other).await.error(), (400, "M_INVALID_PARAM"));
    assert_eq!(claim(&world, &bob, &alice).await, one);
    let counts = upload(&world, &alice, json!({ "one_time_keys": one })).await;
    assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 1, "a key given out does not come back");
    assert_eq!(sync(&world, &alice, None).await["device_one_time_keys_count"]["signed_curve25519"], 1);
    assert_eq!(claim(&world, &bob, &alice).await, two);
    assert_eq!(claim(&world, &bob, &alice).await, Value::Null);
    assert_eq!(sync(&world, &alice, None).await["device_one_time_keys_count"]["signed_curve25519"], 0);
}

#[tokio::test]
async fn hundreds_who_claim_at_once_get_a_key_each() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let keys: serde_json::Map<_, _> =
        (0..100).map(|n| (format!("signed_curve25519:{n}"), json!({ "key": n }))).collect();
    upload(&world, &alice, json!({ "one_time_keys": keys })).await;
    let mut given = BTreeSet::new();
    let mut empty = 0;
    let mut claims: Vec<_> = (0..200).map(|_| Box::pin(claim(&world, &bob, &alice))).collect();
    // All are under way before the first is answered.
    std::future::poll_fn(|context| {
        claims.retain_mut(|claim| match claim.as_mut().poll(context) {
            std::task::Poll::Ready(Value::Object(keys)) => {
                given.extend(keys.keys().cloned());
                false
            }
            std::task::Poll::Ready(_) => {
                empty += 1;
                false
            }
            std::task::Poll::Pending => true,
        });
        if claims.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert_eq!((given.len(), empty), (100, 100));
}

#[tokio::test]
async fn a_fallback_key_is_given_out_when_nothing_else_is_left() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let fallback = json!({ "signed_curve25519:F": { "key": "f", "fallback": true } });
    let one = json!({ "signed_curve25519:1": { "key": "1" } });
    upload(&world, &alice, json!({ "one_time_keys": one, "fallback_keys": fallback })).await;
    assert_eq!(sync(&world, &alice, None).await["device_unused_fallback_key_types"], json!(["signed_curve25519"]));
    assert_eq!(claim(&world, &bob, &alice).await, one);
    for _ in 0..2 {
        assert_eq!(claim(&world, &bob, &alice).await, fallback);
    }
    assert_eq!(sync(&world, &alice, None).await["device_unused_fallback_key_types"], json!([]));
    upload(&world, &alice, json!({ "fallback_keys": fallback })).await;
    assert_eq!(sync(&world, &alice, None).await["device_unused_fallback_key_types"], json!([]), "still the used one");
    let new = json!({ "signed_curve25519:G": { "key": "g", "fallback": true } });
    upload(&world, &alice, json!({ "fallback_keys": new })).await;
    assert_eq!(sync(&world, &alice, None).await["device_unused_fallback_key_types"], json!(["signed_curve25519"]));
    assert_eq!(claim(&world, &bob, &alice).await, new);
}

#[tokio::test]
async fn cross_signing_keys_need_a_proof_only_to_be_replaced() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let path = "/v3/keys/device_signing/upload";
    assert_eq!(alice.post(&world, path, json!({})).await.error(), (400, "M_MISSING_PARAM"));
    let mut forged = cross_signing_keys(&alice, 10);
    forged["self_signing_key"]["signatures"] = json!({});
    assert_eq!(alice.post(&world, path, forged).await.error(), (400, "M_INVALID_SIGNATURE"));
    let keys = cross_signing_keys(&alice, 10);
    assert_eq!(bob.post(&world, path, keys.clone()).await.error(), (400, "M_INVALID_PARAM"));
    alice.post(&world, path, keys.clone()).await.ok();
    alice.post(&world, path, keys.clone()).await.ok();
    let seen = query(&world, &bob, &alice).await;
    assert_eq!(seen["master_keys"][&alice.user_id], keys["master_key"]);
    assert_eq!(seen["self_signing_keys"][&alice.user_id], keys["self_signing_key"]);
    assert_eq!(seen["user_signing_keys"], json!({}), "is hers alone to see");
    assert_eq!(query(&world, &alice, &alice).await["user_signing_keys"][&alice.user_id], keys["user_signing_key"]);

    let mut new = cross_signing_keys(&alice, 20);
    let asked = alice.post(&world, path, new.clone()).await;
    assert_eq!(asked.status, 401);
    assert!(asked.json.get("flows").is_some());
    assert_eq!(query(&world, &bob, &alice).await["master_keys"][&alice.user_id], keys["master_key"]);
    new["auth"] = password_stage("alice", "alice!");
    new["auth"]["session"] = asked.json["session"].clone();
    alice.post(&world, path, new.clone()).await.ok();
    assert_eq!(query(&world, &bob, &alice).await["master_keys"][&alice.user_id], new["master_key"]);
}

#[tokio::test]
async fn signatures_are_checked_and_shown_to_whom_they_concern() {
    let world = World::new();
    let (alice, bob, carol) = (world.person("alice").await, world.person("bob").await, world.person("carol").await);
    for (who, seed) in [(&alice, 10), (&bob, 20)] {
        upload(&world, who, json!({ "device_keys": device_keys(who, seed + 9) })).await;
        who.post(&world, "/v3/keys/device_signing/upload", cross_signing_keys(who, seed)).await.ok();
    }
    let first = sync(&world, &alice, None).await;
    let (self_signing, self_signing_public) = pair(11);
    let (user_signing, user_signing_public) = pair(12);
    let (device, _) = pair(19);
    let (alices_master, bobs_master) = (pair(10).1, pair(20).1);
    let sign =
        |object: Value, id: &str, key: &SigningKey| signed(object, &alice.user_id, &format!("ed25519:{id}"), key);
    let own_device = sign(device_keys(&alice, 19), &self_signing_public, &self_signing);
    let own_master = sign(cross_signing_key(&alice, "master", 10), &alice.device_id, &device);
    let bob_by_alice = sign(cross_signing_key(&bob, "master", 20), &user_signing_public, &user_signing);
    let forged = signed(
        cross_signing_key(&bob, "master", 20),
        &alice.user_id,
        &format!("ed25519:{user_signing_public}"),
        &device,
    );
    let answer = alice.post(&world, "/v3/keys/signatures/upload", json!({
        (alice.user_id.as_str()): { (alice.device_id.as_str()): own_device, (alices_master.as_str()): own_master, "unknown": own_master },
        (bob.user_id.as_str()): { (bobs_master.as_str()): forged },
    }));
    let failures = answer.await.ok()["failures"].clone();
    assert_eq!(failures[&bob.user_id][&bobs_master]["errcode"], "M_INVALID_SIGNATURE");
    assert_eq!(failures[&alice.user_id]["unknown"]["errcode"], "M_NOT_FOUND");
    assert_eq!(failures[&alice.user_id].as_object().expect("failures").len(), 1, "{failures}");
    let body = json!({ (bob.user_id.as_str()): { (bobs_master.as_str()): bob_by_alice } });
    let answer = alice.post(&world, "/v3/keys/signatures/upload", body).await.ok();
    assert_eq!(answer, json!({ "failures": {} }));

    let seen = query(&world, &carol, &alice).await;
    assert_eq!(seen["device_keys"][&alice.user_id][&alice.device_id]["signatures"], own_device["signatures"]);
    assert_eq!(seen["master_keys"][&alice.user_id]["signatures"], own_master["signatures"]);
    let by_alice = |answer: &Value| answer["master_keys"][&bob.user_id]["signatures"].get(&alice.user_id).cloned();
    assert_eq!(by_alice(&query(&world, &alice, &bob).await), Some(bob_by_alice["signatures"][&alice.user_id].clone()));
    assert_eq!(by_alice(&query(&world, &carol, &bob).await), None, "whom alice met is nobody else's business");
    assert_eq!(by_alice(&query(&world, &bob, &bob).await), None);
    let next = sync(&world, &alice, Some(&first)).await;
    assert_eq!(listed(&next, "changed"), [alice.user_id.clone(), bob.user_id.clone()], "her other devices hear of it");
}

#[tokio::test]
async fn device_lists_tell_of_those_who_share_a_room() {
    let world = World::new();
    let (alice, bob, carol) = (world.person("alice").await, world.person("bob").await, world.person("carol").await);
    for (who, seed) in [(&alice, 1), (&bob, 2), (&carol, 3)] {
        upload(&world, who, json!({ "device_keys": device_keys(who, seed) })).await;
    }
    let first = sync(&world, &alice, None).await;
    assert!(first.get("device_lists").is_none());
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let other = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    join(&world, &bob, &room).await;
    join(&world, &bob, &other).await;
    let joined = sync(&world, &alice, Some(&first)).await;
    // Whoever comes into a room is told of everybody there, themselves among them.
    let both = vec![alice.user_id.clone(), bob.user_id.clone()];
    assert_eq!((listed(&joined, "changed"), listed(&joined, "left")), (both, vec![]));
    assert!(sync(&world, &alice, Some(&joined)).await.get("device_lists").is_none());

    // Keys of whom one shares a room with, once, and not those of strangers.
    upload(&world, &bob, json!({ "device_keys": device_keys(&bob, 7) })).await;
    upload(&world, &bob, json!({ "device_keys": device_keys(&bob, 7) })).await;
    upload(&world, &carol, json!({ "device_keys": device_keys(&carol, 8) })).await;
    let changed = sync(&world, &alice, Some(&joined)).await;
    assert_eq!(listed(&changed, "changed"), [&*bob.user_id]);
    let range = format!("from={}&to={}", text(&joined, "next_batch"), text(&changed, "next_batch"));
    let told = alice.get(&world, &format!("/v3/keys/changes?{range}")).await.ok();
    assert_eq!(told, json!({ "changed": [bob.user_id], "left": [] }));

    // Left only when no room is shared any more; told as often as asked with the same token.
    leave(&world, &bob, &room).await;
    let one_left = sync(&world, &alice, Some(&changed)).await;
    assert!(one_left.get("device_lists").is_none(), "{one_left}");
    leave(&world, &bob, &other).await;
    for _ in 0..2 {
        let left = sync(&world, &alice, Some(&one_left)).await;
        assert_eq!((listed(&left, "changed"), listed(&left, "left")), (vec![], vec![bob.user_id.clone()]));
    }
    // Who went, changed their keys and came back between two answers.
    join(&world, &bob, &other).await;
    let back = sync(&world, &alice, Some(&one_left)).await;
    assert!(back.get("device_lists").is_none(), "nothing happened on the whole: {back}");
    leave(&world, &bob, &other).await;
    upload(&world, &bob, json!({ "device_keys": device_keys(&bob, 9) })).await;
    join(&world, &bob, &other).await;
    let back = sync(&world, &alice, Some(&back)).await;
    assert_eq!((listed(&back, "changed"), listed(&back, "left")), (vec![bob.user_id.clone()], vec![]));
    // Whoever comes into a room learns of all who are there, and who leaves the last one forgets them.
    let before = sync(&world, &carol, None).await;
    join(&world, &carol, &room).await;
    let came = sync(&world, &carol, Some(&before)).await;
    assert_eq!(listed(&came, "changed"), [&*alice.user_id, &*carol.user_id]);
    leave(&world, &carol, &room).await;
    let went = sync(&world, &carol, Some(&came)).await;
    assert_eq!(listed(&went, "left"), [&*alice.user_id]);
}

#[tokio::test]
async fn who_waits_is_woken_by_keys_of_contacts() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    join(&world, &bob, &room).await;
    let first = sync(&world, &alice, None).await;
    let path = format!("/v3/sync?timeout=60000&since={}", text(&first, "next_batch"));
    let body = json!({ "device_keys": device_keys(&bob, 1) });
    let (woken, _) = tokio::join!(alice.get(&world, &path), upload(&world, &bob, body));
    assert_eq!(listed(&woken.ok(), "changed"), [&*bob.user_id]);
}

#[tokio::test]
async fn keys_go_with_their_device() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    join(&world, &bob, &room).await;
    let second = world.log_in("bob").await;
    let one = json!({ "signed_curve25519:1": { "key": "1" } });
    upload(
        &world,
        &second,
        json!({ "device_keys": device_keys(&second, 1), "one_time_keys": one, "fallback_keys": one }),
    )
    .await;
    let first = sync(&world, &alice, None).await;
    second.post(&world, "/v3/logout", json!({})).await.ok();
    let next = sync(&world, &alice, Some(&first)).await;
    assert_eq!(listed(&next, "changed"), [&*bob.user_id]);
    assert_eq!(query(&world, &alice, &bob).await["device_keys"][&bob.user_id], json!({}));
    assert_eq!(claim(&world, &alice, &second).await, Value::Null);
    // A device without keys is nobody's business.
    world.log_in("bob").await.post(&world, "/v3/logout", json!({})).await.ok();
    assert!(sync(&world, &alice, Some(&next)).await.get("device_lists").is_none());
    // A closed account has no keys left.
    bob.post(&world, "/v3/keys/device_signing/upload", cross_signing_keys(&bob, 20)).await.ok();
    let body = json!({ "auth": password_stage("bob", "bob!") });
    bob.call(&world, Method::POST, "/v3/account/deactivate", body).await.ok();
    assert_eq!(query(&world, &alice, &bob).await["master_keys"], json!({}));
}
