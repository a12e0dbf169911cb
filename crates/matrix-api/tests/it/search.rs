//! Finding what was said.

use http::Method;
use serde_json::{Value, json};

use crate::{Person, World};

async fn room(world: &World, who: &Person, extra: Value) -> String {
    let created = who.post(world, "/v3/createRoom", extra).await.ok();
    created["room_id"].as_str().expect("an id").to_owned()
}

async fn say(world: &World, who: &Person, room: &str, text: &str) -> String {
    let path = format!(
        "/v3/rooms/{room}/send/m.room.message/{}",
        text.len() * 1000 + text.bytes().map(usize::from).sum::<usize>()
    );
    let sent = who.put(world, &path, json!({ "msgtype": "m.text", "body": text })).await.ok();
    sent["event_id"].as_str().expect("an id").to_owned()
}

async fn search(world: &World, who: &Person, query: &str, criteria: Value) -> Value {
    let body = json!({ "search_categories": { "room_events": criteria } });
    let found = who.post(world, &format!("/v3/search{query}"), body).await.ok();
    found["search_categories"]["room_events"].clone()
}

fn texts(found: &Value) -> Vec<&str> {
    let results = found["results"].as_array().expect("a list");
    results.iter().filter_map(|hit| hit["result"]["content"]["body"].as_str()).collect()
}

#[tokio::test]
async fn what_was_said_is_found_in_every_script_the_newest_first() {
    let world = World::new();
    let alice = world.person("alice").await;
    let den = room(&world, &alice, json!({})).await;
    for text in ["Hello world", "今日は天気がいい", "hello again", "Привет"] {
        say(&world, &alice, &den, text).await;
    }
    for (term, expected) in [
        ("HELLO", vec!["hello again", "Hello world"]),
        ("hello world", vec!["Hello world"]),
        ("天気", vec!["今日は天気がいい"]),
        ("привет", vec!["Привет"]),
        ("hell", vec![]),
        ("", vec![]),
    ] {
        let found = search(&world, &alice, "", json!({ "search_term": term, "order_by": "recent" })).await;
        assert_eq!(texts(&found), expected, "{term}");
        assert_eq!(found["count"], expected.len());
    }
}

#[tokio::test]
async fn pages_do_not_move_when_more_is_said() {
    let world = World::new();
    let alice = world.person("alice").await;
    let den = room(&world, &alice, json!({})).await;
    for number in 0..5 {
        say(&world, &alice, &den, &format!("word {number}")).await;
    }
    let criteria = json!({ "search_term": "word", "order_by": "recent", "filter": { "limit": 2 } });
    let first = search(&world, &alice, "", criteria.clone()).await;
    assert_eq!((texts(&first), &first["count"]), (vec!["word 4", "word 3"], &json!(5)));
    say(&world, &alice, &den, "word of another day").await;
    let next = format!("?next_batch={}", first["next_batch"].as_str().expect("there is more"));
    let second = search(&world, &alice, &next, criteria.clone()).await;
    assert_eq!(texts(&second), ["word 2", "word 1"]);
    let next = format!("?next_batch={}", second["next_batch"].as_str().expect("there is more"));
    let last = search(&world, &alice, &next, criteria).await;
    assert_eq!((texts(&last), &last["next_batch"]), (vec!["word 0"], &Value::Null));
    let body = json!({ "search_categories": { "room_events": { "search_term": "x" } } });
    let bad = alice.post(&world, "/v3/search?next_batch=nonsense", body.clone()).await;
    assert_eq!(bad.error(), (400, "M_INVALID_PARAM"));
    assert_eq!(world.call(Method::POST, "/v3/search", None, body).await.error(), (401, "M_MISSING_TOKEN"));
}

#[tokio::test]
async fn nobody_finds_what_they_may_not_see_or_what_was_redacted() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let den = room(&world, &alice, json!({ "invite": [bob.user_id] })).await;
    let history = format!("/v3/rooms/{den}/state/m.room.history_visibility");
    alice.put(&world, &history, json!({ "history_visibility": "joined" })).await.ok();
    say(&world, &alice, &den, "secret before").await;
    bob.post(&world, &format!("/v3/join/{den}"), json!({})).await.ok();
    let regretted = say(&world, &alice, &den, "secret regretted").await;
    say(&world, &alice, &den, "secret after").await;
    alice.put(&world, &format!("/v3/rooms/{den}/redact/{regretted}/1"), json!({})).await.ok();
    let criteria = json!({ "search_term": "secret", "order_by": "recent" });
    assert_eq!(texts(&search(&world, &bob, "", criteria.clone()).await), ["secret after"]);
    assert_eq!(texts(&search(&world, &alice, "", criteria.clone()).await), ["secret after", "secret before"]);
    let stranger = world.person("carol").await;
    assert!(texts(&search(&world, &stranger, "", criteria).await).is_empty());
}

#[tokio::test]
async fn results_come_with_neighbours_groups_and_state() {
    let world = World::new();
    let alice = world.person("alice").await;
    let path = format!("/v3/profile/{}/displayname", alice.user_id);
    alice.put(&world, &path, json!({ "displayname": "Alice" })).await.ok();
    let den = room(&world, &alice, json!({ "name": "Den of lions" })).await;
    for text in ["before", "the lion", "after"] {
        say(&world, &alice, &den, text).await;
    }
    let criteria = json!({
        "search_term": "lion", "event_context": { "before_limit": 1, "after_limit": 1, "include_profile": true },
        "groupings": { "group_by": [{ "key": "room_id" }, { "key": "sender" }] }, "include_state": true,
    });
    let found = search(&world, &alice, "", criteria).await;
    let context = &found["results"][0]["context"];
    assert_eq!(context["events_before"][0]["content"]["body"], "before");
    assert_eq!(context["events_after"][0]["content"]["body"], "after");
    assert_eq!(context["profile_info"][&alice.user_id]["displayname"], "Alice");
    assert!(context["start"].is_string() && context["end"].is_string());
    let id = &found["results"][0]["result"]["event_id"];
    assert_eq!(found["groups"]["room_id"][&den], json!({ "order": 1, "results": [id] }));
    assert_eq!(found["groups"]["sender"][&alice.user_id]["results"], json!([id]));
    assert!(found["state"][&den].as_array().expect("a list").len() > 3);
    assert_eq!(found["highlights"], json!(["lion"]));
    let by_name = json!({ "search_term": "lions", "keys": ["content.name"] });
    assert_eq!(search(&world, &alice, "", by_name).await["results"][0]["result"]["type"], "m.room.name");
    let elsewhere = json!({ "search_term": "lion", "filter": { "rooms": ["!other:example.org"] } });
    assert_eq!(search(&world, &alice, "", elsewhere).await["count"], 0);
}
