//! The user directory: who is found, and by whom.

use serde_json::{Value, json};

use crate::{Person, World};

async fn search(world: &World, who: &Person, term: &str) -> Value {
    who.post(world, "/v3/user_directory/search", json!({ "search_term": term })).await.ok()
}

async fn name(world: &World, who: &Person, name: &str) {
    let path = format!("/v3/profile/{}/displayname", who.user_id);
    who.put(world, &path, json!({ "displayname": name })).await.ok();
}

#[tokio::test]
async fn people_in_public_rooms_are_found_by_the_names_of_their_profiles() {
    let world = World::new();
    let (alice, eve) = (world.person("alice").await, world.person("eve").await);
    name(&world, &alice, "Alice Cooper").await;
    assert_eq!(search(&world, &eve, "cooper").await, json!({ "results": [], "limited": false }));
    alice.post(&world, "/v3/createRoom", json!({ "preset": "public_chat" })).await.ok();
    let found = json!({ "user_id": "@alice:example.org", "display_name": "Alice Cooper" });
    for term in ["Alice Cooper", "COOPER", "alice", "@alice:example.org"] {
        assert_eq!(search(&world, &eve, term).await, json!({ "results": [found], "limited": false }), "{term}");
    }
    name(&world, &alice, "Freddy").await;
    assert_eq!(search(&world, &eve, "cooper").await["results"], json!([]));
    assert_eq!(search(&world, &eve, "fred").await["results"][0]["display_name"], "Freddy");
    assert_eq!(search(&world, &alice, "alice").await["results"], json!([]), "not oneself");
}

#[tokio::test]
async fn who_shares_a_private_room_is_found_and_lists_have_an_end() {
    let world = World::new();
    let (alice, bob, eve) = (world.person("alice").await, world.person("bob").await, world.person("eve").await);
    let invited = json!({ "preset": "private_chat", "invite": [bob.user_id] });
    let room = alice.post(&world, "/v3/createRoom", invited).await.ok();
    let join = format!("/v3/join/{}", room["room_id"].as_str().expect("a room id"));
    assert_eq!(search(&world, &bob, "alice").await["results"], json!([]));
    bob.post(&world, &join, json!({})).await.ok();
    assert_eq!(search(&world, &bob, "alice").await["results"][0]["user_id"], "@alice:example.org");
    assert_eq!(search(&world, &eve, "alice").await["results"], json!([]));
    let none = bob.post(&world, "/v3/user_directory/search", json!({ "search_term": "alice", "limit": 0 })).await.ok();
    assert_eq!(none, json!({ "results": [], "limited": true }));
    let bad = bob.post(&world, "/v3/user_directory/search", json!({})).await;
    assert_eq!(bad.error(), (400, "M_BAD_JSON"));
}
