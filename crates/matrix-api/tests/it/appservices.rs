//! Application services: acting as their users, and being told what happens.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post, put},
};
use http::Method;
use koine_matrix_api::{Registration, Services};
use koine_net::{Client, Config};
use ruma_common::server_name;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::World;

/// A bridge on loopback, and a server that knows it.
struct Bridge {
    world: World,
    told: mpsc::UnboundedReceiver<(String, Value)>,
}

type Told = mpsc::UnboundedSender<(String, Value)>;

fn is_us(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|token| token == "Bearer hs-secret")
}

async fn transaction(
    State(told): State<Told>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Json<Value> {
    assert!(is_us(&headers));
    told.send((id, body)).expect("the test listens");
    Json(json!({}))
}

async fn user(State(told): State<Told>, Path(id): Path<String>) -> Json<Value> {
    told.send(("asked".to_owned(), json!({ "asked": id }))).expect("the test listens");
    Json(json!({}))
}

async fn ping(headers: HeaderMap, Json(body): Json<Value>) -> StatusCode {
    if is_us(&headers) && body["transaction_id"] == "t" { StatusCode::OK } else { StatusCode::BAD_REQUEST }
}

async fn protocol() -> Json<Value> {
    Json(
        json!({ "user_fields": ["nick"], "location_fields": [], "icon": "x", "field_types": {}, "instances": [{ "desc": "Net", "network_id": "net" }] }),
    )
}

impl Bridge {
    async fn new() -> Self {
        let (sender, told) = mpsc::unbounded_channel();
        let router = Router::new()
            .route("/_matrix/app/v1/transactions/{id}", put(transaction))
            .route("/_matrix/app/v1/users/{id}", get(user))
            .route("/_matrix/app/v1/ping", post(ping))
            .route("/_matrix/app/v1/thirdparty/protocol/irc", get(protocol))
            .route(
                "/_matrix/app/v1/thirdparty/user/irc",
                get(|| async { Json(json!([{ "userid": "@irc_x:example.org" }])) }),
            )
            .with_state(sender);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let yaml = format!(
            "id: irc\nurl: {url}\nas_token: as-secret\nhs_token: hs-secret\nsender_localpart: irc-bot\n\
             protocols: [irc]\nreceive_ephemeral: true\norg.matrix.msc3202: true\nnamespaces:\n  users:\n  - exclusive: true\n    regex: '@irc_.*'\n  \
             aliases:\n  - exclusive: true\n    regex: '#irc_.*'\n"
        );
        let registration = Registration::parse(&yaml, server_name!("example.org")).expect("a good registration");
        let web = Client::new(&Config::default()).expect("a client");
        let services = Services::new(vec![registration], web).expect("one service");
        Self { world: World::with_services(services), told }
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> crate::Answer {
        self.world.call(method, path, Some("as-secret"), body).await
    }

    async fn register(&self, name: &str) -> crate::Answer {
        let body = json!({ "type": "m.login.application_service", "username": name });
        self.call(Method::POST, "/v3/register", body).await
    }

    /// The first transaction from now on in which something is found.
    async fn until<T>(&mut self, find: impl Fn(&Value) -> Option<T>) -> T {
        loop {
            let (_, body) = self.told.recv().await.expect("the bridge runs");
            if let Some(found) = find(&body) {
                return found;
            }
        }
    }

    /// The next event of this type in this list of a transaction.
    async fn next_in(&mut self, list: &str, kind: &str) -> Value {
        self.until(|body| body[list].as_array()?.iter().find(|event| event["type"] == kind).cloned()).await
    }

    /// The next event of this type that it is told of.
    async fn next(&mut self, kind: &str) -> Value {
        self.next_in("events", kind).await
    }

    /// Somebody's room with a user of the bridge in it.
    async fn shared_room(&self, owner: &crate::Person) -> String {
        let body = json!({ "preset": "public_chat" });
        let created = owner.post(&self.world, "/v3/createRoom", body).await.ok();
        let room = created["room_id"].as_str().expect("an id").to_owned();
        self.call(Method::POST, &format!("/v3/join/{room}?user_id=@irc_bob:example.org"), json!({})).await.ok();
        room
    }
}

/// Whoever is killed before there was anything to tell must not be new once more, or what came last is never told.
#[tokio::test]
async fn a_service_that_was_told_nothing_yet_has_its_place_written_down() {
    let bridge = Bridge::new().await;
    let written = async {
        while bridge.world.api.rooms.shard().view().cursor("appservice/irc").expect("it can be read").is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), written).await.expect("a place");
}

#[tokio::test]
async fn a_service_makes_users_and_acts_as_them() {
    let bridge = Bridge::new().await;
    assert_eq!(bridge.register("irc_bob").await.ok()["user_id"], "@irc_bob:example.org");
    assert_eq!(bridge.register("bob").await.error(), (400, "M_EXCLUSIVE"));
    let body = json!({ "username": "irc_eve", "password": "x", "auth": { "type": "m.login.dummy" } });
    assert_eq!(bridge.world.call(Method::POST, "/v3/register", None, body).await.error(), (400, "M_EXCLUSIVE"));
    let body = json!({ "type": "m.login.application_service", "username": "irc_eve" });
    let stranger = bridge.world.call(Method::POST, "/v3/register", Some("no-secret"), body).await;
    assert_eq!(stranger.error(), (401, "M_UNKNOWN_TOKEN"));

    let whoami = |query: &'static str| bridge.call(Method::GET, query, Value::Null);
    assert_eq!(
        whoami("/v3/account/whoami?user_id=%40irc_bob%3Aexample.org").await.ok()["user_id"],
        "@irc_bob:example.org"
    );
    assert_eq!(whoami("/v3/account/whoami?user_id=@alice:example.org").await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(whoami("/v3/account/whoami?user_id=@irc_ghost:example.org").await.error(), (403, "M_FORBIDDEN"));
    let unknown = whoami("/v3/account/whoami?user_id=@irc_bob:example.org&device_id=NONE").await;
    assert_eq!(unknown.error(), (400, "M_UNKNOWN_DEVICE"));
    let login =
        json!({ "type": "m.login.application_service", "identifier": { "type": "m.id.user", "user": "irc_bob" } });
    assert!(bridge.call(Method::POST, "/v3/login", login).await.ok()["access_token"].is_string());
}

#[tokio::test]
async fn a_service_is_told_of_what_concerns_its_users() {
    let mut bridge = Bridge::new().await;
    bridge.register("irc_bob").await.ok();
    let alice = bridge.world.person("alice").await;
    let body = json!({ "preset": "private_chat", "name": "Den", "invite": ["@irc_bob:example.org"] });
    let created = alice.post(&bridge.world, "/v3/createRoom", body).await.ok();
    let room = created["room_id"].as_str().expect("an id").to_owned();
    let invitation = bridge.next("m.room.member").await;
    assert_eq!((&invitation["state_key"], &invitation["room_id"]), (&json!("@irc_bob:example.org"), &json!(room)));
    let shown = invitation["unsigned"]["invite_room_state"].as_array().expect("a list");
    assert!(shown.iter().any(|event| event["content"]["name"] == "Den"));
    let join = format!("/v3/join/{room}?user_id=@irc_bob:example.org");
    bridge.call(Method::POST, &join, json!({})).await.ok();
    let body = json!({ "msgtype": "m.text", "body": "hello" });
    alice.put(&bridge.world, &format!("/v3/rooms/{room}/send/m.room.message/1"), body).await.ok();
    let message = bridge.next("m.room.message").await;
    assert_eq!((&message["content"]["body"], &message["sender"]), (&json!("hello"), &json!(alice.user_id)));
    let alone = alice.post(&bridge.world, "/v3/createRoom", json!({})).await.ok();
    let alone = alone["room_id"].as_str().expect("an id");
    let quiet = json!({ "msgtype": "m.text", "body": "quiet" });
    alice.put(&bridge.world, &format!("/v3/rooms/{alone}/send/m.room.message/2"), quiet).await.ok();
    let last = json!({ "msgtype": "m.text", "body": "last" });
    alice.put(&bridge.world, &format!("/v3/rooms/{room}/send/m.room.message/3"), last).await.ok();
    assert_eq!(
        bridge.next("m.room.message").await["content"]["body"],
        "last",
        "a room of others is no business of its"
    );
}

#[tokio::test]
async fn a_service_is_asked_for_a_user_who_is_wanted_and_not_there() {
    let mut bridge = Bridge::new().await;
    bridge.register("irc_bob").await.ok();
    let alice = bridge.world.person("alice").await;
    let wanted = json!({ "invite": ["@irc_bob:example.org", "@irc_new:example.org"] });
    let created = alice.post(&bridge.world, "/v3/createRoom", wanted).await.ok();
    let asked = |body: &Value| body["asked"].as_str().map(ToOwned::to_owned);
    assert_eq!(bridge.until(asked).await, "@irc_new:example.org", "who is there is not asked for");
    let invite = format!("/v3/rooms/{}/invite", created["room_id"].as_str().expect("an id"));
    alice.post(&bridge.world, &invite, json!({ "user_id": "@irc_newer:example.org" })).await.ok();
    assert_eq!(bridge.until(asked).await, "@irc_newer:example.org");
}

#[tokio::test]
async fn a_service_is_pinged_and_asked_about_its_network() {
    let bridge = Bridge::new().await;
    let ping = |id: &'static str, txn: &'static str| {
        bridge.call(
            Method::POST,
            if id == "irc" { "/v1/appservice/irc/ping" } else { "/v1/appservice/other/ping" },
            json!({ "transaction_id": txn }),
        )
    };
    assert!(ping("irc", "t").await.ok()["duration_ms"].is_u64());
    let refused = ping("irc", "other").await;
    assert_eq!((refused.error(), &refused.json["status"]), ((502, "M_BAD_STATUS"), &json!(400)));
    assert_eq!(ping("other", "t").await.error(), (403, "M_FORBIDDEN"));
    let alice = bridge.world.person("alice").await;
    assert_eq!(alice.post(&bridge.world, "/v1/appservice/irc/ping", json!({})).await.error(), (403, "M_FORBIDDEN"));
    let protocols = alice.get(&bridge.world, "/v3/thirdparty/protocols").await.ok();
    assert_eq!(protocols["irc"]["user_fields"], json!(["nick"]));
    let user = alice.get(&bridge.world, "/v3/thirdparty/user/irc?nick=x").await.ok();
    assert_eq!(user[0]["userid"], "@irc_x:example.org");
    assert_eq!(alice.get(&bridge.world, "/v3/thirdparty/user/xmpp").await.error(), (404, "M_NOT_FOUND"));
    let alias = alice
        .put(&bridge.world, "/v3/directory/room/%23irc_x:example.org", json!({ "room_id": "!x:example.org" }))
        .await;
    assert_eq!(alias.error(), (400, "M_EXCLUSIVE"));
}

#[tokio::test]
async fn a_service_is_told_who_types_who_is_there_and_who_read() {
    let mut bridge = Bridge::new().await;
    bridge.register("irc_bob").await.ok();
    let alice = bridge.world.person("alice").await;
    let room = bridge.shared_room(&alice).await;
    let path = format!("/v3/rooms/{room}/typing/@alice:example.org");
    alice.put(&bridge.world, &path, json!({ "typing": true, "timeout": 60_000 })).await.ok();
    let typing = bridge.next_in("ephemeral", "m.typing").await;
    assert_eq!((&typing["room_id"], &typing["content"]["user_ids"]), (&json!(room), &json!([alice.user_id])));
    let path = "/v3/presence/@alice:example.org/status";
    alice.put(&bridge.world, path, json!({ "presence": "online", "status_msg": "here" })).await.ok();
    let here = |body: &Value| {
        let events = body["ephemeral"].as_array()?;
        events.iter().find(|event| event["content"]["status_msg"] == "here").cloned()
    };
    let presence = bridge.until(here).await;
    assert_eq!((&presence["type"], &presence["sender"]), (&json!("m.presence"), &json!(alice.user_id)));

    let body = json!({ "msgtype": "m.text", "body": "x" });
    let sent = alice.put(&bridge.world, &format!("/v3/rooms/{room}/send/m.room.message/1"), body).await.ok();
    let event = sent["event_id"].as_str().expect("an id");
    // What alice keeps to herself is not told; what the bridge's own user does is.
    alice.post(&bridge.world, &format!("/v3/rooms/{room}/receipt/m.read.private/{event}"), json!({})).await.ok();
    let path = format!("/v3/rooms/{room}/receipt/m.read.private/{event}?user_id=@irc_bob:example.org");
    bridge.call(Method::POST, &path, json!({})).await.ok();
    let receipt = bridge.next_in("ephemeral", "m.receipt").await;
    assert!(receipt["content"][event]["m.read.private"]["@irc_bob:example.org"]["ts"].is_u64(), "{receipt}");
}

#[tokio::test]
async fn a_service_has_devices_and_is_told_of_keys_and_messages_to_them() {
    let mut bridge = Bridge::new().await;
    bridge.register("irc_bob").await.ok();
    let as_bob = "user_id=@irc_bob:example.org";
    let device = format!("/v3/devices/DEV?{as_bob}");
    let made = bridge.call(Method::PUT, &device, json!({ "display_name": "Bridge" })).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(bridge.call(Method::PUT, &device, json!({})).await.status, StatusCode::OK);
    assert_eq!(bridge.call(Method::GET, &device, Value::Null).await.ok()["display_name"], "Bridge");
    let alice = bridge.world.person("alice").await;
    assert_eq!(alice.put(&bridge.world, "/v3/devices/NEW", json!({})).await.error(), (404, "M_NOT_FOUND"));

    bridge.shared_room(&alice).await;
    const LISTS: &str = "org.matrix.msc3202.device_lists";
    let changed = |body: &Value| {
        body[LISTS]["changed"].as_array().filter(|all| all.contains(&json!("@alice:example.org"))).map(|_| ())
    };
    bridge.until(changed).await;
    let content = json!({ "messages": { "@irc_bob:example.org": { "DEV": { "secret": 1 } } } });
    alice.put(&bridge.world, "/v3/sendToDevice/m.test/1", content).await.ok();
    let (message, counts) = bridge
        .until(|body| {
            let message = body["de.sorunome.msc2409.to_device"].get(0)?.clone();
            Some((message, body["org.matrix.msc3202.device_one_time_keys_count"].clone()))
        })
        .await;
    assert_eq!(
        message,
        json!({ "type": "m.test", "sender": alice.user_id, "content": { "secret": 1 },
            "to_user_id": "@irc_bob:example.org", "to_device_id": "DEV" })
    );
    assert_eq!(counts["@irc_bob:example.org"]["DEV"]["signed_curve25519"], 0);
    // No password is asked of a service.
    assert_eq!(bridge.call(Method::DELETE, &device, json!({})).await.status, StatusCode::OK);
    assert_eq!(bridge.call(Method::GET, &device, Value::Null).await.error(), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn a_service_says_when_something_happened_elsewhere() {
    let bridge = Bridge::new().await;
    bridge.register("irc_bob").await.ok();
    let alice = bridge.world.person("alice").await;
    let room = bridge.shared_room(&alice).await;
    let message = json!({ "msgtype": "m.text", "body": "x" });
    let path = |who: &str| format!("/v3/rooms/{room}/send/m.room.message/1?ts=1000{who}");
    let old = bridge.call(Method::PUT, &path("&user_id=@irc_bob:example.org"), message.clone()).await.ok();
    let new = alice.put(&bridge.world, &path(""), message.clone()).await.ok();
    let time = async |sent: Value| {
        let path = format!("/v3/rooms/{room}/event/{}", sent["event_id"].as_str().expect("an id"));
        alice.get(&bridge.world, &path).await.ok()["origin_server_ts"].as_u64().expect("a time")
    };
    assert_eq!(time(old).await, 1000);
    assert!(time(new).await > 1000, "people cannot choose a time");
    let path = format!("/v3/rooms/{room}/send/m.room.message/2?ts=99999999999999999&user_id=@irc_bob:example.org");
    assert_eq!(bridge.call(Method::PUT, &path, message).await.error(), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn a_bridge_has_a_list_of_rooms_of_its_own() {
    let bridge = Bridge::new().await;
    bridge.register("irc_bob").await.ok();
    let alice = bridge.world.person("alice").await;
    let room = bridge.shared_room(&alice).await;
    let protocols = alice.get(&bridge.world, "/v3/thirdparty/protocols").await.ok();
    let instance = protocols["irc"]["instances"][0]["instance_id"].clone();
    let path = format!("/v3/directory/list/appservice/net/{room}");
    assert_eq!(alice.put(&bridge.world, &path, json!({ "visibility": "public" })).await.error(), (403, "M_FORBIDDEN"));
    bridge.call(Method::PUT, &path, json!({ "visibility": "public" })).await.ok();
    let count = async |question: Value| {
        let list = alice.post(&bridge.world, "/v3/publicRooms", question).await.ok();
        list["chunk"].as_array().expect("a list").iter().filter(|listed| listed["room_id"] == room).count()
    };
    assert_eq!(count(json!({})).await, 0);
    assert_eq!(count(json!({ "third_party_instance_id": instance })).await, 1);
    assert_eq!(count(json!({ "third_party_instance_id": "irc|other" })).await, 0);
    assert_eq!(count(json!({ "include_all_networks": true })).await, 1);
    let both = json!({ "include_all_networks": true, "third_party_instance_id": instance });
    assert_eq!(alice.post(&bridge.world, "/v3/publicRooms", both).await.error(), (400, "M_INVALID_PARAM"));
    bridge.call(Method::PUT, &path, json!({ "visibility": "private" })).await.ok();
    assert_eq!(count(json!({ "third_party_instance_id": instance })).await, 0);
}
