//! Sliding sync in the form that its proposal was merged with: what it asks and says otherwise.

use serde_json::{Value, json};

use crate::{
    Answer, Person, World,
    rooms::{create, encode, text},
    sliding_sync::{bodies, join, leave, rooms, say, state},
};

async fn ask(world: &World, who: &Person, body: &Value) -> Answer {
    who.post(world, "/v4/sync", body.clone()).await
}

async fn next(world: &World, who: &Person, before: &Value, body: &Value) -> Value {
    let mut body = body.clone();
    body["pos"] = before["pos"].clone();
    ask(world, who, &body).await.ok()
}

/// One list of the first rooms.
fn list(range: &Value, required_state: &Value) -> Value {
    json!({ "lists": { "all": { "range": range, "required_state": required_state, "timeline_limit": 1 } } })
}

#[tokio::test]
async fn a_room_says_how_the_reader_stands_to_it_and_which_lists_show_it() {
    let world = World::new();
    let alice = world.person("alice").await;
    let one = create(&world, &alice, json!({ "name": "One" })).await;
    let two = create(&world, &alice, json!({ "name": "Two" })).await;
    let mut body = list(&json!([0, 0]), &json!({ "include": [{ "type": "m.room.name" }] }));
    body["lists"]["wide"] = json!({ "required_state": {}, "timeline_limit": 1 });
    let answer = ask(&world, &alice, &body).await.ok();
    assert_eq!(answer["lists"], json!({ "all": { "count": 2 }, "wide": { "count": 2 } }));
    let (first, second) = (&answer["rooms"][&two], &answer["rooms"][&one]);
    assert_eq!((&first["lists"], &second["lists"]), (&json!(["all", "wide"]), &json!(["wide"])));
    assert_eq!((&first["membership"], &first["initial"]), (&json!("join"), &json!(true)));
    assert_eq!((state(first), state(second)), (vec![("m.room.name", "")], vec![]));
    assert!(first.get("notification_count").is_none() && answer.get("txn_id").is_none());
    assert!(rooms(&next(&world, &alice, &answer, &body).await).is_empty());
    // The position names a place in the timeline too.
    say(&world, &alice, &one, "later").await;
    let from = encode(&text(&answer, "pos"));
    let page = alice.get(&world, &format!("/v3/rooms/{}/messages?dir=f&from={from}", encode(&one))).await.ok();
    assert_eq!(page["chunk"][0]["content"]["body"], "later");
    assert_eq!(page["chunk"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn state_is_selected_by_what_is_included_and_what_is_not() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat", "name": "N", "topic": "T" })).await;
    join(&world, &bob, &room).await;
    say(&world, &bob, &room, "hello").await;
    let wanted = |selection: Value| json!({ "room_subscriptions": { (room.as_str()): { "required_state": selection, "timeline_limit": 1 } } });
    let all = ask(&world, &alice, &wanted(json!({ "include": [{}] }))).await.ok();
    let all = state(&all["rooms"][&room]).len();
    let but = json!({ "include": [{}], "exclude": [{ "type": "m.room.topic", "state_key": "" }] });
    let answer = ask(&world, &alice, &wanted(but)).await.ok();
    let seen = state(&answer["rooms"][&room]);
    assert_eq!(seen.len(), all - 1);
    assert!(!seen.contains(&("m.room.topic", "")) && seen.contains(&("m.room.member", bob.user_id.as_str())));
    let lazy = wanted(json!({ "include": [{ "type": "m.room.name" }], "lazy_members": true }));
    let answer = ask(&world, &alice, &lazy).await.ok();
    assert_eq!(state(&answer["rooms"][&room]), [("m.room.member", bob.user_id.as_str()), ("m.room.name", "")]);
    // Members who come are told of without a gap, whoever speaks.
    let carol = world.person("carol").await;
    join(&world, &carol, &room).await;
    let answer = next(&world, &alice, &answer, &lazy).await;
    assert_eq!(state(&answer["rooms"][&room]), [("m.room.member", carol.user_id.as_str())]);
    assert!(answer["rooms"][&room].get("lists").is_none());
}

#[tokio::test]
async fn a_name_that_is_taken_away_is_null() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({ "name": "Named" })).await;
    let body = list(&json!([0, 9]), &json!({}));
    let answer = ask(&world, &alice, &body).await.ok();
    assert_eq!(answer["rooms"][&room]["name"], "Named");
    alice.put(&world, &format!("/v3/rooms/{}/state/m.room.name", encode(&room)), json!({})).await.ok();
    let answer = next(&world, &alice, &answer, &body).await;
    assert_eq!(answer["rooms"][&room].get("name"), Some(&Value::Null));
}

#[tokio::test]
async fn a_conversation_of_two_is_told_when_it_becomes_one_and_when_it_ceases() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({})).await;
    let body = list(&json!([0, 9]), &json!({}));
    let answer = ask(&world, &alice, &body).await.ok();
    assert!(answer["rooms"][&room].get("is_dm").is_none());
    let path = format!("/v3/user/{}/account_data/m.direct", encode(&alice.user_id));
    alice.put(&world, &path, json!({ "@bob:example.org": [room] })).await.ok();
    let answer = next(&world, &alice, &answer, &body).await;
    assert_eq!(answer["rooms"][&room]["is_dm"], true);
    alice.put(&world, &path, json!({})).await.ok();
    let answer = next(&world, &alice, &answer, &body).await;
    assert_eq!(answer["rooms"][&room]["is_dm"], false);
    assert!(rooms(&next(&world, &alice, &answer, &body).await).is_empty());
}

#[tokio::test]
async fn who_was_removed_finds_the_room_and_who_left_does_not() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let left = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let removed = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let banned = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let never = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    for room in [&left, &removed, &banned] {
        join(&world, &bob, room).await;
        say(&world, &alice, room, "before").await;
    }
    leave(&world, &bob, &left).await;
    for (room, how) in [(&removed, "kick"), (&banned, "ban"), (&never, "ban")] {
        let path = format!("/v3/rooms/{}/{how}", encode(room));
        alice.post(&world, &path, json!({ "user_id": bob.user_id })).await.ok();
        say(&world, &alice, room, "after").await;
    }
    let body = list(&json!([0, 9]), &json!({ "include": [{ "type": "m.room.member", "state_key": bob.user_id }] }));
    let answer = ask(&world, &bob, &body).await.ok();
    let mut expected = [removed.as_str(), banned.as_str()];
    expected.sort_unstable();
    assert_eq!(rooms(&answer), expected);
    for (room, membership) in [(&removed, "leave"), (&banned, "ban")] {
        let section = &answer["rooms"][room];
        assert_eq!((section["membership"].as_str(), bodies(section)), (Some(membership), vec![]), "{section}");
        assert_eq!(section["required_state"][0]["content"]["membership"], membership);
    }
    let quiet = next(&world, &bob, &answer, &body).await;
    assert!(rooms(&quiet).is_empty(), "{quiet}");
    assert_eq!(quiet["lists"]["all"]["count"], 2);
}

#[tokio::test]
async fn an_invitation_shows_stripped_state_and_so_does_its_refusal() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let body = list(&json!([0, 9]), &json!({}));
    let answer = ask(&world, &bob, &body).await.ok();
    let room = create(&world, &alice, json!({ "name": "Den", "invite": [bob.user_id] })).await;
    let answer = next(&world, &bob, &answer, &body).await;
    let invited = &answer["rooms"][&room];
    assert_eq!((&invited["membership"], &invited["lists"]), (&json!("invite"), &json!(["all"])));
    assert!(invited["stripped_state"].is_array() && invited.get("invite_state").is_none());
    let mut only = body.clone();
    only["lists"]["all"]["filters"] = json!({ "is_invited": true });
    assert_eq!(ask(&world, &bob, &only).await.ok()["lists"]["all"]["count"], 1);
    let answer = ask(&world, &bob, &body).await.ok();
    leave(&world, &bob, &room).await;
    let answer = next(&world, &bob, &answer, &body).await;
    let refused = &answer["rooms"][&room];
    let shown = json!([{ "membership": "leave" }]);
    let contents: Vec<_> =
        refused["stripped_state"].as_array().into_iter().flatten().map(|e| e["content"].clone()).collect();
    assert_eq!((&refused["membership"], json!(contents)), (&json!("leave"), shown));
    assert!(refused.get("required_state").is_none() && refused.get("timeline").is_none());
}

#[tokio::test]
async fn a_longer_timeline_is_said_to_be_one() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({})).await;
    for n in 0..3 {
        say(&world, &alice, &room, &n.to_string()).await;
    }
    let mut body = list(&json!([0, 9]), &json!({}));
    let answer = ask(&world, &alice, &body).await.ok();
    body["lists"]["all"]["timeline_limit"] = json!(2);
    let answer = next(&world, &alice, &answer, &body).await;
    let section = &answer["rooms"][&room];
    assert_eq!((bodies(section), &section["expanded_timeline"]), (vec!["1", "2"], &json!(true)));
}

#[tokio::test]
async fn both_forms_may_be_open_at_once_and_nonsense_is_refused() {
    let world = World::new();
    let alice = world.person("alice").await;
    create(&world, &alice, json!({})).await;
    let many: serde_json::Map<String, Value> =
        (0..101).map(|n| (format!("!{n}:example.org"), json!({ "timeline_limit": 1, "required_state": {} }))).collect();
    for (body, expected) in [
        (json!({ "lists": { "a b": { "timeline_limit": 1, "required_state": {} } } }), (400, "M_INVALID_PARAM")),
        (json!({ "lists": { "a": { "required_state": {} } } }), (400, "M_BAD_JSON")),
        (json!({ "lists": { "a": { "timeline_limit": 1, "required_state": "all" } } }), (400, "M_BAD_JSON")),
        (json!({ "room_subscriptions": many }), (400, "M_INVALID_PARAM")),
        (json!({ "set_presence": "dancing" }), (400, "M_INVALID_PARAM")),
        (json!({ "pos": "nonsense" }), (400, "M_UNKNOWN_POS")),
        (json!({ "timeout": -1 }), (400, "M_BAD_JSON")),
    ] {
        assert_eq!(ask(&world, &alice, &body).await.error(), expected, "{body}");
    }
    let merged = ask(&world, &alice, &json!({ "conn_id": "merged" })).await.ok();
    let old = "/unstable/org.matrix.simplified_msc3575/sync";
    alice.post(&world, old, json!({ "conn_id": "old" })).await.ok();
    next(&world, &alice, &merged, &json!({ "conn_id": "merged" })).await;
    let stranger = world.person("bob").await;
    let stolen = json!({ "conn_id": "merged", "pos": merged["pos"] });
    assert_eq!(ask(&world, &stranger, &stolen).await.error(), (400, "M_UNKNOWN_POS"));
}
