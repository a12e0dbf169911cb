//! Backups of room keys.

use http::Method;
use serde_json::{Value, json};

use crate::{Person, World, rooms::text};

const ALGORITHM: &str = "m.megolm_backup.v1.curve25519-aes-sha2";

async fn backup(world: &World, who: &Person) -> String {
    let body = json!({ "algorithm": ALGORITHM, "auth_data": { "public_key": "abc" } });
    text(&who.post(world, "/v3/room_keys/version", body).await.ok(), "version")
}

fn key(is_verified: bool, first_message_index: u64, forwarded_count: u64, data: &str) -> Value {
    json!({
        "is_verified": is_verified, "first_message_index": first_message_index, "forwarded_count": forwarded_count,
        "session_data": { "ciphertext": data },
    })
}

#[tokio::test]
async fn versions_come_change_and_go() {
    let world = World::new();
    let alice = world.person("alice").await;
    let newest = "/v3/room_keys/version";
    assert_eq!(alice.get(&world, newest).await.error(), (404, "M_NOT_FOUND"));
    let first = backup(&world, &alice).await;
    let second = backup(&world, &alice).await;
    assert_ne!(first, second);
    let info = alice.get(&world, newest).await.ok();
    let expected = json!({
        "algorithm": ALGORITHM, "auth_data": { "public_key": "abc" }, "count": 0, "etag": "0", "version": second,
    });
    assert_eq!(info, expected);
    let path = format!("{newest}/{second}");
    let new = json!({ "algorithm": ALGORITHM, "auth_data": { "public_key": "def" }, "version": second });
    alice.put(&world, &path, new).await.ok();
    assert_eq!(alice.get(&world, &path).await.ok()["auth_data"]["public_key"], "def");
    for bad in [
        json!({ "algorithm": "other", "auth_data": {} }),
        json!({ "algorithm": ALGORITHM, "auth_data": {}, "version": "77" }),
    ] {
        assert_eq!(alice.put(&world, &path, bad).await.error(), (400, "M_INVALID_PARAM"));
    }
    let bad = json!({ "algorithm": ALGORITHM, "auth_data": [] });
    assert_eq!(alice.put(&world, &path, bad).await.error(), (400, "M_BAD_JSON"));
    alice.call(&world, Method::DELETE, &path, json!({})).await.ok();
    assert_eq!(alice.get(&world, &path).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(alice.call(&world, Method::DELETE, &path, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(alice.get(&world, newest).await.ok()["version"], first, "the one before is the newest again");
    assert_ne!(backup(&world, &alice).await, second, "no version is used twice");
    assert_eq!(alice.get(&world, "/v3/room_keys/version/nonsense").await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn keys_are_put_found_and_deleted_in_three_sizes() {
    let world = World::new();
    let alice = world.person("alice").await;
    let version = backup(&world, &alice).await;
    let at = |rest: &str| format!("/v3/room_keys/keys{rest}?version={version}");
    let (room, other) = ("/!a:example.org", "/!b:example.org");
    let state = alice.put(&world, &at(&format!("{room}/one")), key(false, 1, 1, "1")).await.ok();
    assert_eq!(state["count"], 1);
    alice.put(&world, &at(room), json!({ "sessions": { "two": key(true, 0, 0, "2") } })).await.ok();
    let rooms = json!({ "rooms": { "!b:example.org": { "sessions": { "three": key(false, 2, 0, "3") } } } });
    let full = alice.put(&world, &at(""), rooms.clone()).await.ok();
    assert_eq!(full["count"], 3);
    assert_ne!(full["etag"], state["etag"]);
    assert_eq!(alice.put(&world, &at(""), rooms).await.ok(), full, "nothing changed, nor does the etag");
    assert_eq!(alice.get(&world, "/v3/room_keys/version").await.ok()["etag"], full["etag"]);

    assert_eq!(alice.get(&world, &at(&format!("{room}/one"))).await.ok(), key(false, 1, 1, "1"));
    let sessions = alice.get(&world, &at(room)).await.ok();
    assert_eq!(sessions["sessions"].as_object().expect("sessions").len(), 2);
    let all = alice.get(&world, &at("")).await.ok();
    assert_eq!(all["rooms"]["!b:example.org"]["sessions"]["three"], key(false, 2, 0, "3"));
    assert_eq!(alice.get(&world, &at(&format!("{room}/none"))).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(alice.get(&world, &at("/!none:example.org")).await.ok(), json!({ "sessions": {} }));

    let delete = async |rest: String| alice.call(&world, Method::DELETE, &at(&rest), Value::Null).await.ok();
    assert_eq!(delete(format!("{room}/one")).await["count"], 2);
    assert_eq!(delete(other.to_owned()).await["count"], 1);
    assert_eq!(delete(String::new()).await["count"], 0);
    assert_eq!(alice.get(&world, &at("")).await.ok(), json!({ "rooms": {} }));
}

#[tokio::test]
async fn the_better_key_stays() {
    let world = World::new();
    let alice = world.person("alice").await;
    let version = backup(&world, &alice).await;
    let path = format!("/v3/room_keys/keys/!a:example.org/s?version={version}");
    alice.put(&world, &path, key(false, 10, 5, "first")).await.ok();
    for worse in [key(false, 11, 5, "x"), key(false, 10, 6, "x"), key(false, 10, 5, "x")] {
        alice.put(&world, &path, worse).await.ok();
        assert_eq!(alice.get(&world, &path).await.ok(), key(false, 10, 5, "first"));
    }
    for better in [key(false, 10, 4, "b"), key(false, 9, 9, "c"), key(true, 20, 9, "d")] {
        alice.put(&world, &path, better.clone()).await.ok();
        assert_eq!(alice.get(&world, &path).await.ok(), better);
    }
}

#[tokio::test]
async fn keys_go_into_the_newest_version_of_ones_own() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let old = backup(&world, &alice).await;
    let new = backup(&world, &alice).await;
    let path = |version: &str| format!("/v3/room_keys/keys/!a:example.org/s?version={version}");
    let refused = alice.put(&world, &path(&old), key(false, 1, 1, "x")).await;
    assert_eq!(refused.error(), (403, "M_WRONG_ROOM_KEYS_VERSION"));
    assert_eq!(refused.json["current_version"], new);
    assert_eq!(bob.put(&world, &path(&new), key(false, 1, 1, "x")).await.error(), (404, "M_NOT_FOUND"));
    alice.put(&world, &path(&new), key(false, 1, 1, "x")).await.ok();
    assert_eq!(bob.get(&world, &path(&new)).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(alice.get(&world, "/v3/room_keys/keys").await.error(), (400, "M_MISSING_PARAM"));
    let bad = json!({ "is_verified": true, "first_message_index": -1, "forwarded_count": 0, "session_data": {} });
    assert_eq!(alice.put(&world, &path(&new), bad).await.error(), (400, "M_BAD_JSON"));
    let large = key(false, 1, 1, &"x".repeat(20_000));
    assert_eq!(alice.put(&world, &path(&new), large).await.error(), (413, "M_TOO_LARGE"));
}
