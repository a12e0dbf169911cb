//! Speaking in rooms, and reading what was said.

use http::Method;
use serde_json::{Value, json};

use crate::{
    Person, World,
    rooms::{create, encode, text},
};

async fn send(world: &World, who: &Person, room: &str, content: Value, txn: &str) -> String {
    let path = format!("/v3/rooms/{room}/send/m.room.message/{txn}");
    text(&who.put(world, &path, content).await.ok(), "event_id")
}

async fn say(world: &World, who: &Person, room: &str, body: &str) -> String {
    send(world, who, room, json!({ "msgtype": "m.text", "body": body }), &format!("txn {body}").replace(' ', "_")).await
}

fn bodies(page: &Value) -> Vec<&str> {
    let events = page["chunk"].as_array().expect("a list");
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

#[tokio::test]
async fn an_event_is_shown_with_what_its_reader_may_know() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let before = say(&world, &alice, &room, "before").await;
    bob.post(&world, &format!("/v3/join/{room}"), json!({})).await.ok();
    let content = json!({ "msgtype": "m.text", "body": "Hello", "org.example": { "deep": [1, null, "ü"] } });
    let id = send(&world, &alice, &room, content.clone(), "lorem").await;
    let path = format!("/v3/rooms/{room}/event/{}", encode(&id));

    let own = alice.get(&world, &path).await.ok();
    assert_eq!(own["content"], content);
    let expected = [("event_id", &*id), ("room_id", &*room), ("sender", &*alice.user_id), ("type", "m.room.message")];
    for (key, value) in expected {
        assert_eq!(own[key], value, "{key}");
    }
    assert!(own["origin_server_ts"].is_u64() && own["unsigned"]["age"].is_i64());
    assert_eq!((&own["unsigned"]["transaction_id"], &own["unsigned"]["membership"]), (&json!("lorem"), &json!("join")));
    for hidden in ["hashes", "signatures", "auth_events", "prev_events", "depth"] {
        assert!(own.get(hidden).is_none(), "{hidden}");
    }
    assert!(bob.get(&world, &path).await.ok()["unsigned"].get("transaction_id").is_none());
    assert!(world.log_in("alice").await.get(&world, &path).await.ok()["unsigned"].get("transaction_id").is_none());
    let early = bob.get(&world, &format!("/v3/rooms/{room}/event/{}", encode(&before))).await.ok();
    assert_eq!(early["unsigned"]["membership"], "leave");

    let carol = world.person("carol").await;
    assert_eq!(carol.get(&world, &path).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(alice.get(&world, &format!("/v3/rooms/{room}/event/%24none")).await.error(), (404, "M_NOT_FOUND"));
    let elsewhere = format!("/v3/rooms/!none:example.org/event/{}", encode(&id));
    assert_eq!(alice.get(&world, &elsewhere).await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn a_transaction_makes_one_event_of_one_device_in_one_room() {
    let world = World::new();
    let alice = world.person("alice").await;
    let other = world.log_in("alice").await;
    let (room, elsewhere) = (create(&world, &alice, json!({})).await, create(&world, &alice, json!({})).await);
    let first = send(&world, &alice, &room, json!({ "body": "1" }), "abc").await;
    assert_eq!(send(&world, &alice, &room, json!({ "body": "2" }), "abc").await, first);
    assert_ne!(send(&world, &alice, &elsewhere, json!({ "body": "1" }), "abc").await, first);
    assert_ne!(send(&world, &other, &room, json!({ "body": "1" }), "abc").await, first);
}

#[tokio::test]
async fn what_cannot_be_an_event_is_refused() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({ "room_version": "11" })).await;
    let path = format!("/v3/rooms/{room}/send/m.room.message/x");
    let large = format!("{{\"body\":\"{}\"}}", "x".repeat(70_000));
    let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    for (body, error) in [
        ("[]", (400, "M_BAD_JSON")),
        ("\"x\"", (400, "M_BAD_JSON")),
        ("", (400, "M_NOT_JSON")),
        ("{\"a\":", (400, "M_NOT_JSON")),
        ("{\"a\":NaN}", (400, "M_NOT_JSON")),
        ("{\"a\":1.5}", (400, "M_BAD_JSON")),
        ("{\"a\":9007199254740992}", (400, "M_BAD_JSON")),
        (&deep, (400, "M_BAD_JSON")),
        (&large, (413, "M_TOO_LARGE")),
    ] {
        let answer = world.call_raw(Method::PUT, &path, Some(&alice.token), body.as_bytes().to_vec()).await;
        assert_eq!(answer.error(), error, "{}", body.get(..20).unwrap_or(body));
        let state = format!("/v3/rooms/{room}/state/org.example.state");
        let answer = world.call_raw(Method::PUT, &state, Some(&alice.token), body.as_bytes().to_vec()).await;
        assert_eq!(answer.error(), error, "state: {}", body.get(..20).unwrap_or(body));
    }
    let bob = world.person("bob").await;
    assert_eq!(bob.put(&world, &path, json!({})).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(alice.put(&world, "/v3/rooms/nonsense/send/x/y", json!({})).await.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn history_is_read_page_by_page_in_both_directions() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    for n in 0..25 {
        say(&world, &alice, &room, &n.to_string()).await;
    }
    let expected: Vec<String> = (0..25).map(|n| n.to_string()).collect();
    for dir in ["b", "f"] {
        let mut seen: Vec<String> = Vec::new();
        let mut from = String::new();
        loop {
            let path = format!("/v3/rooms/{room}/messages?dir={dir}&limit=7{from}");
            let page = alice.get(&world, &path).await.ok();
            assert!(page["start"].is_string());
            seen.extend(bodies(&page).into_iter().map(str::to_owned));
            match page["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => break,
            }
        }
        if dir == "b" {
            seen.reverse();
        }
        assert_eq!(seen, expected, "{dir}");
    }
    let first = alice.get(&world, &format!("/v3/rooms/{room}/messages?dir=b&limit=5")).await.ok();
    let (start, end) = (text(&first, "start"), text(&first, "end"));
    let again = format!("/v3/rooms/{room}/messages?dir=f&from={end}&to={start}&limit=100");
    assert_eq!(bodies(&alice.get(&world, &again).await.ok()), ["20", "21", "22", "23", "24"]);
    assert_eq!(
        alice.get(&world, &format!("/v3/rooms/{room}/messages")).await.ok()["chunk"].as_array().map(Vec::len),
        Some(10)
    );
    for bad in ["from=nonsense", "dir=x", "limit=x", "filter=%7B", "to=s1_2"] {
        let answer = alice.get(&world, &format!("/v3/rooms/{room}/messages?{bad}")).await;
        assert_eq!(answer.error(), (400, "M_INVALID_PARAM"), "{bad}");
    }
    let foreign = "from=t1_0000000000000000&dir=b";
    assert_eq!(
        alice.get(&world, &format!("/v3/rooms/{room}/messages?{foreign}")).await.error(),
        (400, "M_UNKNOWN_POS")
    );
    assert_eq!(alice.get(&world, "/v3/rooms/!none:example.org/messages?dir=b").await.error(), (403, "M_FORBIDDEN"));
}

#[tokio::test]
async fn a_filter_chooses_events_and_members_are_told_with_them() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    bob.post(&world, &format!("/v3/join/{room}"), json!({})).await.ok();
    say(&world, &alice, &room, "by alice").await;
    let picture = json!({ "msgtype": "m.image", "body": "picture", "url": "mxc://example.org/x" });
    send(&world, &bob, &room, picture, "p").await;
    let read = async |filter: Value| {
        let filter = encode(&filter.to_string());
        alice.get(&world, &format!("/v3/rooms/{room}/messages?dir=b&limit=50&filter={filter}")).await.ok()
    };
    assert_eq!(bodies(&read(json!({ "types": ["m.room.mess*"], "not_senders": [bob.user_id] })).await), ["by alice"]);
    assert_eq!(bodies(&read(json!({ "contains_url": true })).await), ["picture"]);
    let page = read(json!({ "lazy_load_members": true, "senders": [bob.user_id] })).await;
    let members = page["state"].as_array().expect("a list");
    assert_eq!((members.len(), &members[0]["state_key"]), (1, &json!(bob.user_id)));
    assert_eq!(members[0]["content"]["membership"], "join");

    // What the ignored say is not shown; what they do to the room is.
    let data = format!("/v3/user/{}/account_data/m.ignored_user_list", alice.user_id);
    alice.put(&world, &data, json!({ "ignored_users": { &*bob.user_id: {} } })).await.ok();
    let page = read(json!({ "senders": [bob.user_id] })).await;
    let kinds: Vec<_> = page["chunk"].as_array().expect("a list").iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds, ["m.room.member"]);
}

#[tokio::test]
async fn who_left_reads_up_to_their_leaving() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat", "name": "before" })).await;
    bob.post(&world, &format!("/v3/join/{room}"), json!({})).await.ok();
    say(&world, &alice, &room, "one").await;
    bob.post(&world, &format!("/v3/rooms/{room}/leave"), json!({})).await.ok();
    alice.put(&world, &format!("/v3/rooms/{room}/state/m.room.name"), json!({ "name": "after" })).await.ok();
    say(&world, &alice, &room, "two").await;
    let page = bob.get(&world, &format!("/v3/rooms/{room}/messages?dir=b&limit=2")).await.ok();
    assert_eq!(bodies(&page), ["one"]);
    let page = bob.get(&world, &format!("/v3/rooms/{room}/messages?dir=f&from={}", text(&page, "start"))).await.ok();
    assert_eq!(page["chunk"], json!([]));
    assert_eq!(bob.get(&world, &format!("/v3/rooms/{room}/state/m.room.name")).await.ok()["name"], "before");
    let state = bob.get(&world, &format!("/v3/rooms/{room}/state")).await.ok();
    let names: Vec<_> =
        state.as_array().expect("a list").iter().filter(|event| event["type"] == "m.room.name").collect();
    assert_eq!((names.len(), &names[0]["content"]["name"]), (1, &json!("before")));
    assert_eq!(
        bob.get(&world, &format!("/v3/rooms/{room}/members")).await.ok()["chunk"].as_array().map(Vec::len),
        Some(2)
    );
    let carol = world.person("carol").await;
    for path in ["state", "members", "messages?dir=b", "state/m.room.name"] {
        assert_eq!(
            carol.get(&world, &format!("/v3/rooms/{room}/{path}")).await.error(),
            (403, "M_FORBIDDEN"),
            "{path}"
        );
    }
    assert_eq!(alice.get(&world, &format!("/v3/rooms/{room}/state/m.none")).await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn a_redaction_empties_an_event_and_says_why() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    for version in ["10", "11"] {
        let room = create(&world, &alice, json!({ "preset": "public_chat", "room_version": version })).await;
        bob.post(&world, &format!("/v3/join/{room}"), json!({})).await.ok();
        let id = say(&world, &alice, &room, "secret").await;
        let path = format!("/v3/rooms/{room}/redact/{}/t", encode(&id));
        assert_eq!(bob.put(&world, &path, json!({})).await.error(), (403, "M_FORBIDDEN"));
        let redaction = text(&alice.put(&world, &path, json!({ "reason": "oops" })).await.ok(), "event_id");
        assert_eq!(text(&alice.put(&world, &path, json!({ "reason": "oops" })).await.ok(), "event_id"), redaction);
        let event = bob.get(&world, &format!("/v3/rooms/{room}/event/{}", encode(&id))).await.ok();
        assert_eq!(event["content"], json!({}));
        let because = &event["unsigned"]["redacted_because"];
        assert_eq!((&because["event_id"], &because["content"]["reason"]), (&json!(redaction), &json!("oops")));
        let event = bob.get(&world, &format!("/v3/rooms/{room}/event/{}", encode(&redaction))).await.ok();
        assert_eq!((&event["redacts"], &event["content"]["redacts"]), (&json!(id), &json!(id)), "{version}");
    }
}

#[tokio::test]
async fn state_tells_what_it_replaces() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({})).await;
    let path = format!("/v3/rooms/{room}/state/org.example.thing/key");
    let first = text(&alice.put(&world, &path, json!({ "n": 1 })).await.ok(), "event_id");
    assert_eq!(text(&alice.put(&world, &path, json!({ "n": 1 })).await.ok(), "event_id"), first);
    alice.put(&world, &path, json!({ "n": 2 })).await.ok();
    let event = alice.get(&world, &format!("{path}?format=event")).await.ok();
    let unsigned = &event["unsigned"];
    assert_eq!((&unsigned["prev_content"], &unsigned["replaces_state"]), (&json!({ "n": 1 }), &json!(first)));
}

#[tokio::test]
async fn context_surrounds_an_event() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({})).await;
    let mut ids = Vec::new();
    for n in 0..9 {
        ids.push(say(&world, &alice, &room, &n.to_string()).await);
    }
    let context = alice.get(&world, &format!("/v3/rooms/{room}/context/{}?limit=4", encode(&ids[4]))).await.ok();
    assert_eq!(context["event"]["event_id"], json!(ids[4]));
    let list = |key: &str| {
        let events = context[key].as_array().expect("a list");
        events.iter().filter_map(|event| event["content"]["body"].as_str()).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        (list("events_before"), list("events_after")),
        (vec!["3".into(), "2".into()], vec!["5".into(), "6".into()])
    );
    assert!(context["state"].as_array().expect("a list").iter().any(|event| event["type"] == "m.room.create"));
    let page =
        |dir: &str, from: &str| format!("/v3/rooms/{room}/messages?dir={dir}&limit=1&from={}", text(&context, from));
    assert_eq!(bodies(&alice.get(&world, &page("b", "start")).await.ok()), ["1"]);
    assert_eq!(bodies(&alice.get(&world, &page("f", "end")).await.ok()), ["7"]);
    let bob = world.person("bob").await;
    let path = format!("/v3/rooms/{room}/context/{}", encode(&ids[4]));
    assert_eq!(bob.get(&world, &path).await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn relations_are_listed_bundled_and_guarded() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({})).await;
    let root = say(&world, &alice, &room, "root").await;
    let related = |rel_type: &str| json!({ "rel_type": rel_type, "event_id": root });
    let reply = send(&world, &alice, &room, json!({ "body": "reply", "m.relates_to": related("m.thread") }), "1").await;
    let edit = json!({ "body": "* new", "m.new_content": { "body": "new" }, "m.relates_to": related("m.replace") });
    let edit = send(&world, &alice, &room, edit, "2").await;
    let path = format!("/v3/rooms/{room}/send/m.dummy/3");
    let dummy = text(&alice.put(&world, &path, json!({ "m.relates_to": related("m.thread") })).await.ok(), "event_id");

    let relations = format!("/v1/rooms/{room}/relations/{}", encode(&root));
    let ids = async |rest: &str| {
        let answer = alice.get(&world, &format!("{relations}{rest}")).await.ok();
        let ids = answer["chunk"].as_array().expect("a list").iter().map(|event| text(event, "event_id"));
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids("").await, [dummy.clone(), edit.clone(), reply.clone()]);
    assert_eq!(ids("?dir=f").await, [reply.clone(), edit.clone(), dummy.clone()]);
    assert_eq!(ids("/m.thread").await, [dummy.clone(), reply.clone()]);
    assert_eq!(ids("/m.thread/m.room.message").await, [reply]);
    let page = alice.get(&world, &format!("{relations}?limit=2")).await.ok();
    assert_eq!(ids(&format!("?limit=2&from={}", text(&page, "next_batch"))).await.len(), 1);

    let event = alice.get(&world, &format!("/v3/rooms/{room}/event/{}", encode(&root))).await.ok();
    assert_eq!(event["content"]["body"], "root", "the content of an edited event stays what it was");
    let bundle = &event["unsigned"]["m.relations"];
    assert_eq!(bundle["m.replace"]["event_id"], json!(edit));
    assert_eq!(bundle["m.replace"]["content"]["m.new_content"]["body"], "new");
    let thread = &bundle["m.thread"];
    assert_eq!((&thread["latest_event"]["event_id"], &thread["count"]), (&json!(dummy), &json!(2)));
    assert_eq!(thread["current_user_participated"], true);

    let like = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": root, "key": "👍" } });
    let react = |txn: &str| format!("/v3/rooms/{room}/send/m.reaction/{txn}");
    alice.put(&world, &react("a"), like.clone()).await.ok();
    alice.put(&world, &react("a"), like.clone()).await.ok();
    assert_eq!(alice.put(&world, &react("b"), like).await.error(), (400, "M_DUPLICATE_ANNOTATION"));
    let nested = json!({ "m.relates_to": { "rel_type": "m.thread", "event_id": dummy } });
    assert_eq!(alice.put(&world, &react("c"), nested).await.error(), (400, "M_UNKNOWN"));
    let bob = world.person("bob").await;
    assert_eq!(bob.get(&world, &relations).await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn members_are_filtered_and_joined_ones_told_with_profiles() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let profile = format!("/v3/profile/{}/displayname", alice.user_id);
    alice.put(&world, &profile, json!({ "displayname": "Alice A." })).await.ok();
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    bob.post(&world, &format!("/v3/join/{room}"), json!({})).await.ok();
    bob.post(&world, &format!("/v3/rooms/{room}/leave"), json!({})).await.ok();
    let keys = async |query: &str| {
        let answer = alice.get(&world, &format!("/v3/rooms/{room}/members{query}")).await.ok();
        let keys = answer["chunk"].as_array().expect("a list").iter().map(|event| text(event, "state_key"));
        keys.collect::<Vec<_>>()
    };
    assert_eq!(keys("").await.len(), 2);
    assert_eq!(keys("?membership=leave").await, std::slice::from_ref(&bob.user_id));
    assert_eq!(keys("?membership=join").await, std::slice::from_ref(&alice.user_id));
    assert_eq!(keys("?not_membership=leave").await, std::slice::from_ref(&alice.user_id));
    let sync = alice.get(&world, "/v3/sync").await.ok();
    let before = text(&sync["rooms"]["join"][&room]["timeline"], "prev_batch");
    assert_eq!(
        keys(&format!("?at={before}")).await,
        std::slice::from_ref(&alice.user_id),
        "before the room alice was alone"
    );
    let joined = alice.get(&world, &format!("/v3/rooms/{room}/joined_members")).await.ok();
    let expected = json!({ "joined": { &*alice.user_id: { "display_name": "Alice A.", "avatar_url": null } } });
    assert_eq!(joined, expected);
}

#[tokio::test]
async fn receipts_markers_and_typing_are_taken_from_members_alone() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = create(&world, &alice, json!({ "preset": "public_chat" })).await;
    let (first, second) = (say(&world, &alice, &room, "one").await, say(&world, &alice, &room, "two").await);
    let receipt = |kind: &str, id: &str| format!("/v3/rooms/{room}/receipt/{kind}/{}", encode(id));
    alice.post(&world, &receipt("m.read", &first), json!({})).await.ok();
    alice.post(&world, &receipt("m.read.private", &first), json!({ "thread_id": "main" })).await.ok();
    alice.post(&world, &receipt("m.fully_read", &second), json!({})).await.ok();
    for (path, body) in [
        (receipt("m.unread", &first), json!({})),
        (receipt("m.read", &first), json!({ "thread_id": "" })),
        (receipt("m.read", &first), json!({ "thread_id": 1 })),
        (receipt("m.read", &first), json!({ "thread_id": second })),
        (receipt("m.fully_read", &first), json!({ "thread_id": "main" })),
        (receipt("m.read", "nonsense"), json!({})),
    ] {
        assert_eq!(alice.post(&world, &path, body.clone()).await.error(), (400, "M_INVALID_PARAM"), "{path} {body}");
    }
    assert_eq!(alice.post(&world, &receipt("m.read", "$none"), json!({})).await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(bob.post(&world, &receipt("m.read", &first), json!({})).await.error(), (403, "M_FORBIDDEN"));

    let markers = format!("/v3/rooms/{room}/read_markers");
    alice.post(&world, &markers, json!({ "m.fully_read": first, "m.read": second })).await.ok();
    let data = format!("/v3/user/{}/rooms/{room}/account_data/m.fully_read", alice.user_id);
    assert_eq!(alice.get(&world, &data).await.ok(), json!({ "event_id": second }), "the marker never moves back");
    assert_eq!(bob.post(&world, &markers, json!({ "m.fully_read": first })).await.error(), (403, "M_FORBIDDEN"));

    let typing = |user: &str| format!("/v3/rooms/{room}/typing/{user}");
    alice.put(&world, &typing(&alice.user_id), json!({ "typing": true, "timeout": 1000 })).await.ok();
    alice.put(&world, &typing(&alice.user_id), json!({ "typing": false })).await.ok();
    assert_eq!(alice.put(&world, &typing(&bob.user_id), json!({ "typing": true })).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(bob.put(&world, &typing(&bob.user_id), json!({ "typing": true })).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(alice.put(&world, &typing(&alice.user_id), json!({})).await.error(), (400, "M_BAD_JSON"));
}
