//! Pushers, the gateway that they name, and what was notified.

use axum::{Json, Router, extract::State, routing::post};
use http::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{Person, World};

/// A push gateway on loopback. It rejects the push key `bad`.
struct Gateway {
    url: String,
    told: mpsc::UnboundedReceiver<Value>,
}

async fn notify(State(told): State<mpsc::UnboundedSender<Value>>, Json(body): Json<Value>) -> Json<Value> {
    let bad = body["notification"]["devices"][0]["pushkey"] == "bad";
    told.send(body["notification"].clone()).expect("the test listens");
    Json(json!({ "rejected": if bad { vec!["bad"] } else { vec![] } }))
}

impl Gateway {
    async fn new() -> Self {
        let (sender, told) = mpsc::unbounded_channel();
        let router = Router::new().route("/_matrix/push/v1/notify", post(notify)).with_state(sender);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/_matrix/push/v1/notify", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, told }
    }

    async fn next(&mut self) -> Value {
        self.told.recv().await.expect("the gateway runs")
    }
}

fn pusher(url: &str, pushkey: &str) -> Value {
    json!({
        "kind": "http", "app_id": "app", "pushkey": pushkey, "app_display_name": "App", "lang": "en",
        "device_display_name": "Phone", "data": { "url": url, "brand": "x" },
    })
}

async fn pushers(world: &World, who: &Person) -> Vec<Value> {
    who.get(world, "/v3/pushers").await.ok()["pushers"].as_array().expect("a list").clone()
}

/// A room of both, and its id.
async fn room(world: &World, alice: &Person, bob: &Person) -> String {
    let body = json!({ "preset": "private_chat", "invite": [bob.user_id], "name": "Den" });
    let created = alice.post(world, "/v3/createRoom", body).await.ok();
    let id = created["room_id"].as_str().expect("an id").to_owned();
    bob.post(world, &format!("/v3/join/{id}"), json!({})).await.ok();
    id
}

async fn say(world: &World, who: &Person, room: &str, text: &str) -> String {
    let body = json!({ "msgtype": "m.text", "body": text });
    let sent = who.put(world, &format!("/v3/rooms/{room}/send/m.room.message/{text}"), body).await.ok();
    sent["event_id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_message_reaches_the_gateway_and_reading_it_clears_the_badge() {
    let (world, mut gateway) = (World::new(), Gateway::new().await);
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let path = format!("/v3/profile/{}/displayname", alice.user_id);
    alice.put(&world, &path, json!({ "displayname": "Alice" })).await.ok();
    let room = room(&world, &alice, &bob).await;
    bob.post(&world, "/v3/pushers/set", pusher(&gateway.url, "key")).await.ok();
    let first = say(&world, &alice, &room, "hello").await;
    let told = gateway.next().await;
    assert_eq!(told["event_id"], json!(first));
    assert_eq!(told["room_id"], json!(room));
    assert_eq!(told["type"], "m.room.message");
    assert_eq!(told["sender"], json!(alice.user_id));
    assert_eq!((&told["sender_display_name"], &told["room_name"]), (&json!("Alice"), &json!("Den")));
    assert_eq!(told["content"]["body"], "hello");
    assert_eq!(told["counts"]["unread"], 1);
    let device = &told["devices"][0];
    assert_eq!(
        (&device["app_id"], &device["pushkey"], &device["data"]),
        (&json!("app"), &json!("key"), &json!({ "brand": "x" }))
    );
    assert_eq!(device["tweaks"]["sound"], "default", "a room of two makes a sound");
    let second = say(&world, &alice, &room, "again").await;
    assert_eq!(gateway.next().await["counts"]["unread"], 2);
    say(&world, &bob, &room, "mine").await;
    bob.post(&world, &format!("/v3/rooms/{room}/receipt/m.read/{second}"), json!({})).await.ok();
    let cleared = gateway.next().await;
    assert_eq!((&cleared["counts"]["unread"], &cleared["event_id"]), (&json!(0), &Value::Null));
}

#[tokio::test]
async fn a_gateway_that_wants_ids_only_gets_no_more() {
    let (world, mut gateway) = (World::new(), Gateway::new().await);
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = room(&world, &alice, &bob).await;
    let mut wanted = pusher(&gateway.url, "key");
    wanted["data"]["format"] = json!("event_id_only");
    bob.post(&world, "/v3/pushers/set", wanted).await.ok();
    let event = say(&world, &alice, &room, "secret").await;
    let told = gateway.next().await;
    assert_eq!(told["event_id"], json!(event));
    assert!(!told.to_string().contains("secret") && !told.to_string().contains("Den"), "{told}");
}

#[tokio::test]
async fn an_invitation_is_pushed_and_a_rejected_key_is_removed() {
    let (world, mut gateway) = (World::new(), Gateway::new().await);
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    bob.post(&world, "/v3/pushers/set", pusher(&gateway.url, "bad")).await.ok();
    alice.post(&world, "/v3/createRoom", json!({ "invite": [bob.user_id] })).await.ok();
    let told = gateway.next().await;
    assert_eq!((&told["type"], &told["user_is_target"]), (&json!("m.room.member"), &json!(true)));
    while !pushers(&world, &bob).await.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_pusher_belongs_to_one_account_and_goes_with_its_device() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let wanted = pusher("https://push.example.org/_matrix/push/v1/notify", "key");
    alice.post(&world, "/v3/pushers/set", wanted.clone()).await.ok();
    alice.post(&world, "/v3/pushers/set", wanted.clone()).await.ok();
    assert_eq!(pushers(&world, &alice).await.len(), 1, "the same again is the same");
    assert_eq!(pushers(&world, &alice).await[0]["data"]["brand"], "x");
    bob.post(&world, "/v3/pushers/set", wanted.clone()).await.ok();
    assert!(pushers(&world, &alice).await.is_empty(), "the device is somebody else's now");
    let mut appended = wanted.clone();
    appended["append"] = json!(true);
    alice.post(&world, "/v3/pushers/set", appended).await.ok();
    assert_eq!(pushers(&world, &bob).await.len(), 1);
    let mut removed = wanted.clone();
    removed["kind"] = Value::Null;
    bob.post(&world, "/v3/pushers/set", removed).await.ok();
    assert!(pushers(&world, &bob).await.is_empty());
    let again = world.log_in("alice").await;
    alice.post(&world, "/v3/logout", json!({})).await.ok();
    assert!(pushers(&world, &again).await.is_empty());
}

#[tokio::test]
async fn what_is_no_pusher_is_refused() {
    let world = World::new();
    let alice = world.person("alice").await;
    let good = pusher("https://push.example.org/_matrix/push/v1/notify", "key");
    let long = "x".repeat(513);
    for (change, error) in [
        (json!({ "kind": "email" }), (400, "M_INVALID_PARAM")),
        (json!({ "data": {} }), (400, "M_MISSING_PARAM")),
        (json!({ "data": { "url": "https://push.example.org/elsewhere" } }), (400, "M_INVALID_PARAM")),
        (json!({ "data": { "url": "file:///_matrix/push/v1/notify" } }), (400, "M_INVALID_PARAM")),
        (json!({ "pushkey": long }), (400, "M_INVALID_PARAM")),
        (json!({ "app_id": "" }), (400, "M_INVALID_PARAM")),
        (json!({ "lang": null }), (400, "M_MISSING_PARAM")),
    ] {
        let mut wanted = good.clone();
        wanted.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        assert_eq!(alice.post(&world, "/v3/pushers/set", wanted).await.error(), error, "{change}");
    }
    assert_eq!(world.call(Method::GET, "/v3/pushers", None, Value::Null).await.error(), (401, "M_MISSING_TOKEN"));
}

#[tokio::test]
async fn what_was_notified_is_listed_newest_first_page_by_page() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let rooms = [room(&world, &alice, &bob).await, room(&world, &alice, &bob).await];
    let mut sent = Vec::new();
    for (number, text) in ["one", "two", "three", "bob"].into_iter().enumerate() {
        sent.push(say(&world, &alice, &rooms[number % 2], text).await);
        say(&world, &bob, &rooms[number % 2], &format!("{text}-heard")).await;
    }
    bob.post(&world, &format!("/v3/rooms/{}/receipt/m.read/{}", rooms[0], sent[2]), json!({})).await.ok();
    let page = bob.get(&world, "/v3/notifications?limit=3").await.ok();
    let found = page["notifications"].as_array().expect("a list");
    let ids: Vec<&str> = found.iter().filter_map(|found| found["event"]["event_id"].as_str()).collect();
    assert_eq!(ids, [&*sent[3], &*sent[2], &*sent[1]]);
    assert_eq!((&found[1]["read"], &found[1]["room_id"]), (&json!(true), &json!(rooms[0])));
    assert!(found[0]["actions"].as_array().expect("a list").contains(&json!("notify")));
    let next = page["next_token"].as_str().expect("there is more");
    let rest = bob.get(&world, &format!("/v3/notifications?from={next}")).await.ok();
    assert_eq!(rest["notifications"][0]["event"]["event_id"], json!(sent[0]));
    assert_eq!(rest["next_token"], Value::Null);
    let loud = bob.get(&world, "/v3/notifications?only=highlight").await.ok();
    let highlights = loud["notifications"].as_array().expect("a list");
    assert!(highlights.len() <= 1, "{loud}");
    assert_eq!(bob.get(&world, "/v3/notifications?from=nonsense").await.status.as_u16(), 400);
}
