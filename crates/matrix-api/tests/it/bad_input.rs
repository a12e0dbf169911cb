//! Every operation of the client-server API that the ledger calls built, against what nobody should send.
//!
//! The operations come from `spec/matrix-operations.tsv`, so that a new one is tried as soon as it is listed. Whatever is
//! sent, the answer is never a failure of ours, every refusal says its errcode, and nobody is served without a token
//! where one is needed.

use http::{Method, Request};
use koine_account::Flag;
use ruma_common::UserId;
use serde_json::{Value, json};

use crate::{
    Answer, Person, World,
    rooms::{create, encode, text},
};

const LEDGER: &str = include_str!("../../../../spec/matrix-operations.tsv");

/// Operations that everybody may ask for. [CS-API §using-access-tokens]
const OPEN: &[&str] = &[
    "getWellknown",
    "getWellknownSupport",
    "getWellknownPolicy",
    "getVersions",
    "getLoginFlows",
    "login",
    "refresh",
    "register",
    "checkUsernameAvailability",
    "registrationTokenValidity",
    "getUserProfile",
    "getProfileField",
    "getRoomIdByAlias",
    "getRoomVisibilityOnDirectory",
    "getPublicRooms",
    "getContent",
    "getContentOverrideName",
    "getContentThumbnail",
    "getRoomSummary",
    "requestTokenTo3PIDEmail",
    "requestTokenTo3PIDMSISDN",
    "requestTokenToRegisterEmail",
    "requestTokenToRegisterMSISDN",
    "requestTokenToResetPasswordEmail",
    "requestTokenToResetPasswordMSISDN",
    "getAuthMetadata",
    "redirectToSSO",
    "redirectToIdP",
];
/// Operations that ask for proof without a token too: their refusal is the question for it.
const PROVEN_OTHERWISE: &[&str] = &["changePassword", "deactivateAccount"];

struct Operation {
    method: Method,
    path: String,
    name: String,
}

fn operations() -> Vec<Operation> {
    let rows = LEDGER.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    let built = rows.filter(|row| row[0] == "client-server" && matches!(row[4], "yes" | "partly"));
    built
        .map(|row| Operation {
            method: row[1].parse().expect("a method"),
            path: row[2].to_owned(),
            name: row[3].to_owned(),
        })
        .collect()
}

/// Somebody to ask, with a room of their own and what belongs to somebody else.
struct Scene {
    who: Person,
    room: String,
    /// What somebody else has, if there is somebody else.
    victim: Option<Victim>,
}

/// Somebody whose things are nobody else's business; each of them has [`SECRET`] in it.
struct Victim {
    person: Person,
    room: String,
    event: String,
    filter: String,
    tag: &'static str,
}

/// Stands in everything that belongs to a [`Victim`], and so in no answer to anybody else.
const SECRET: &str = "vixen-in-the-vault";

impl Victim {
    async fn new(world: &World) -> Self {
        let person = world.person("victim").await;
        let room = create(world, &person, json!({ "name": SECRET, "topic": SECRET })).await;
        let say = format!("/v3/rooms/{}/send/m.room.message/1", encode(&room));
        let event =
            text(&person.put(world, &say, json!({ "msgtype": "m.text", "body": SECRET })).await.ok(), "event_id");
        let user = encode(&person.user_id);
        let filter = json!({ "room": { "timeline": { "types": [SECRET] } } });
        let filter = text(&person.post(world, &format!("/v3/user/{user}/filter"), filter).await.ok(), "filter_id");
        let room_path = encode(&room);
        for (path, content) in [
            (format!("/v3/user/{user}/account_data/m.room.topic"), json!({ "x": SECRET })),
            (format!("/v3/user/{user}/rooms/{room_path}/account_data/m.room.topic"), json!({ "x": SECRET })),
            (format!("/v3/user/{user}/rooms/{room_path}/tags/{SECRET}"), json!({})),
            (format!("/v3/devices/{}", person.device_id), json!({ "display_name": SECRET })),
            (format!("/v3/rooms/{room_path}/state/org.example.thing/x"), json!({ "x": SECRET })),
        ] {
            person.put(world, &path, content).await.ok();
        }
        Self { person, room, event, filter, tag: SECRET }
    }

    fn value(&self, variable: &str) -> String {
        match variable {
            "userId" => self.person.user_id.clone(),
            "roomId" | "roomIdOrAlias" => self.room.clone(),
            "eventId" => self.event.clone(),
            "deviceId" => self.person.device_id.clone(),
            "filterId" => self.filter.clone(),
            "serverName" => "example.org".to_owned(),
            "roomAlias" => "#own:example.org".to_owned(),
            "eventType" | "type" => "m.room.topic".to_owned(),
            "stateKey" => String::new(),
            "tag" => self.tag.to_owned(),
            "receiptType" => "m.read".to_owned(),
            "keyName" => "displayname".to_owned(),
            _ => "x".to_owned(),
        }
    }
}

impl Scene {
    async fn new(world: &World, name: &str) -> Self {
        let who = world.person(name).await;
        let room = create(world, &who, json!({ "preset": "public_chat" })).await;
        Self { who, room, victim: None }
    }

    /// The path with its variables filled in: with ids of the asker, of somebody else, or with nonsense.
    fn fill(&self, path: &str, kind: Ids) -> String {
        let mut filled = String::new();
        for segment in path.split('/').skip(1) {
            filled.push('/');
            match segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}')) {
                None => filled.push_str(segment),
                Some(variable) => filled.push_str(&encode(&self.value(variable, kind))),
            }
        }
        filled
    }

    fn value(&self, variable: &str, kind: Ids) -> String {
        match kind {
            Ids::Others => self.victim.as_ref().expect("a scene with somebody else").value(variable),
            Ids::Nonsense => "%00 🦀/".repeat(40),
            Ids::Huge => "-99999999999999999999".to_owned(),
            Ids::Foreign => match variable {
                "userId" => "@nobody:elsewhere.org",
                "roomId" | "roomIdOrAlias" => "!nowhere:elsewhere.org",
                "roomAlias" => "#nowhere:elsewhere.org",
                "eventId" => "$bm90aGluZyBpcyBoZXJlIGJ1dCBhIGxvbmcgbmFtZQ",
                "serverName" => "elsewhere.org",
                "deviceId" => "ELSEWHERE",
                _ => "0",
            }
            .to_owned(),
            Ids::Own => match variable {
                "userId" => self.who.user_id.clone(),
                "roomId" | "roomIdOrAlias" => self.room.clone(),
                "roomAlias" => "#own:example.org".to_owned(),
                "eventId" => "$b3Vycw".to_owned(),
                "serverName" => "example.org".to_owned(),
                "deviceId" => self.who.device_id.clone(),
                "eventType" | "type" => "m.room.topic".to_owned(),
                "receiptType" => "m.read".to_owned(),
                "kind" => "override".to_owned(),
                "keyName" => "displayname".to_owned(),
                _ => "x".to_owned(),
            },
        }
    }
}

impl Person {
    fn id(&self) -> &UserId {
        self.user_id.as_str().try_into().expect("a user id")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ids {
    Own,
    Foreign,
    Nonsense,
    Huge,
    Others,
}

/// Bodies that no client means.
fn bodies() -> Vec<String> {
    let names = [
        "user_id",
        "room_id",
        "event_id",
        "device_id",
        "devices",
        "messages",
        "limit",
        "reason",
        "content",
        "name",
        "topic",
        "invite",
        "preset",
        "visibility",
        "room_version",
        "creation_content",
        "initial_state",
        "power_level_content_override",
        "identifier",
        "type",
        "password",
        "token",
        "auth",
        "new_password",
        "refresh_token",
        "username",
        "device_keys",
        "one_time_keys",
        "fallback_keys",
        "master_key",
        "self_signing_key",
        "timeout",
        "from",
        "to",
        "search_term",
        "filter",
        "since",
        "third_party_networks",
        "rooms",
        "sessions",
        "algorithm",
        "auth_data",
        "version",
        "typing",
        "presence",
        "status_msg",
        "locked",
        "suspended",
        "membership",
        "new_version",
        "additional_creators",
        "actions",
        "conditions",
        "enabled",
        "pattern",
        "m.fully_read",
        "m.read",
        "thread_id",
        "displayname",
        "avatar_url",
        "order",
        "score",
        "url",
        "include_all_networks",
        "lists",
        "room_subscriptions",
        "extensions",
        "conn_id",
        "room_alias_name",
        "state_key",
        "msgtype",
        "body",
        "pushkey",
        "kind",
        "app_id",
        "app_display_name",
        "data",
        "lang",
        "append",
        "profile_tag",
        "search_categories",
        "txn_id",
        "erase",
        "id_server",
        "medium",
        "address",
        "client_secret",
        "event_fields",
        "room",
    ];
    let all = |value: Value| {
        let fields = names.iter().map(|name| ((*name).to_owned(), value.clone()));
        Value::Object(fields.collect()).to_string()
    };
    vec![
        String::new(),
        "{}".to_owned(),
        "[]".to_owned(),
        "\"text\"".to_owned(),
        "null".to_owned(),
        "{\"torn".to_owned(),
        format!("{}{}", "{\"a\":".repeat(150), "1".to_owned() + &"}".repeat(150)),
        all(json!(-1)),
        all(json!(1e300)),
        all(json!(99_999_999_999_999_999_u64)),
        all(json!("")),
        all(json!(null)),
        all(json!([])),
        all(json!({})),
        all(json!(true)),
        all(json!([[1], { "": null }, "x"])),
        all(json!({ "": { "x": [] }, "@alice:example.org": 5, "!a:b": [] })),
    ]
}

const QUERIES: [&str; 6] = [
    "",
    "limit=-1&from=s1_0_0_0000000000000000&dir=x&ts=-5&timeout=-1&since=nonsense&filter=%7B",
    "limit=99999999999999999999999&from=&to=&dir=b&ts=99999999999999999999&since=t1_ff&width=-1&height=1e9&method=x",
    "limit=0&dir=f&ts=0&width=0&height=0&version=-1&recurse=maybe&since=&filter=0&set_presence=dancing&full_state=2",
    "from=s18446744073709551615_0_0_0000000000000000&limit=1&version=1&via=%00&server=%ff&at=s&membership=dancing",
    "%ff=%00&=&&limit&from=%F0%9F%A6%80&kind=%2F&user_id=@@@&username=%0A&room_types=%5B&q=",
];

async fn ask(world: &World, operation: &Operation, path: &str, token: Option<&str>, body: &str) -> Answer {
    // Asked without a time, it waits for something to happen.
    let waits = operation.path.ends_with("/v3/events") && !path.contains("timeout=");
    let path = match (waits, path.contains('?')) {
        (true, true) => format!("{path}&timeout=0"),
        (true, false) => format!("{path}?timeout=0"),
        (false, _) => path.to_owned(),
    };
    let mut request = Request::builder().method(operation.method.clone()).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = if operation.method == Method::GET { "" } else { body };
    world.send(request.body(body.to_owned().into()).expect("a valid request")).await
}

/// A refusal that says what it is, or a success.
#[track_caller]
fn is_in_order(answer: &Answer, operation: &Operation, what: &str) {
    let (status, name) = (answer.status.as_u16(), &operation.name);
    assert!(status < 500, "{name} {what}: {status} {}", answer.json);
    let says_why = answer.json["errcode"].is_string() || answer.json["flows"].is_array();
    assert!(status < 400 || says_why, "{name} {what}: {status} {}", answer.json);
}

#[tokio::test]
async fn nothing_is_answered_with_a_failure_of_ours() {
    let world = World::new();
    let bodies = bodies();
    for (number, operation) in operations().iter().enumerate() {
        // Some end the session of the asker, so each has one of its own.
        let scene = Scene::new(&world, &format!("body{number}")).await;
        for kind in [Ids::Own, Ids::Foreign, Ids::Nonsense, Ids::Huge] {
            let path = scene.fill(&operation.path, kind);
            for (place, body) in bodies.iter().enumerate() {
                if operation.method == Method::GET && place > 0 {
                    break;
                }
                let answer = ask(&world, operation, &path, Some(&scene.who.token), body).await;
                is_in_order(&answer, operation, &format!("{kind:?} body {place}"));
            }
            for query in QUERIES {
                let path = format!("{path}?{query}");
                let answer = ask(&world, operation, &path, Some(&scene.who.token), "{}").await;
                is_in_order(&answer, operation, &format!("{kind:?} ?{query}"));
            }
        }
    }
}

#[tokio::test]
async fn nobody_is_served_without_a_token_that_is_good() {
    let world = World::new();
    let (locked, closed) = (world.person("locked").await, world.person("closed").await);
    world.accounts.set_flag(locked.id(), Flag::Locked, true).await.expect("an account");
    world.accounts.deactivate(closed.id(), false).await.expect("an account");
    let scene = Scene::new(&world, "alice").await;
    let mut operations = operations();
    // Who is locked may log out, so that comes last.
    operations.sort_by_key(|operation| operation.name.starts_with("logout"));
    for operation in operations {
        let path = scene.fill(&operation.path, Ids::Own);
        let cases = [
            (None, "M_MISSING_TOKEN"),
            (Some("nonsense"), "M_UNKNOWN_TOKEN"),
            (Some(closed.token.as_str()), "M_UNKNOWN_TOKEN"),
            (Some(locked.token.as_str()), "M_USER_LOCKED"),
        ];
        for (token, errcode) in cases {
            let answer = ask(&world, &operation, &path, token, "{}").await;
            is_in_order(&answer, &operation, errcode);
            let name = operation.name.as_str();
            let may_still = errcode == "M_USER_LOCKED" && name.starts_with("logout");
            if OPEN.contains(&name) || PROVEN_OTHERWISE.contains(&name) || may_still {
                continue;
            }
            let found = answer.json["errcode"].as_str().unwrap_or_default();
            assert_eq!((answer.status.as_u16(), found), (401, errcode), "{name}: {}", answer.json);
        }
    }
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_neither_shown_nor_changed() {
    let world = World::new();
    let victim = Victim::new(&world).await;
    let mut scene = Scene::new(&world, "thief").await;
    let before = everything(&world, &victim).await;
    scene.victim = Some(victim);
    let mut bodies = bodies();
    bodies.push(json!({ "membership": "join", "reason": "mine now", "user_id": scene.who.user_id }).to_string());
    for operation in operations() {
        if operation.name.starts_with("logout") || operation.name == "deactivateAccount" {
            continue;
        }
        let path = scene.fill(&operation.path, Ids::Others);
        for body in &bodies {
            if operation.method == Method::GET && !body.is_empty() {
                continue;
            }
            let answer = ask(&world, &operation, &path, Some(&scene.who.token), body).await;
            is_in_order(&answer, &operation, "of somebody else");
            assert!(!answer.json.to_string().contains(SECRET), "{} shows it: {}", operation.name, answer.json);
        }
    }
    let victim = scene.victim.expect("somebody else");
    assert_eq!(everything(&world, &victim).await, before);
    // In the thief's own search, lists and syncs neither.
    for path in ["/v3/sync", "/v3/initialSync", "/v3/publicRooms", "/v3/notifications", "/v3/joined_rooms"] {
        let answer = scene.who.get(&world, path).await.ok();
        assert!(!answer.to_string().contains(SECRET), "{path}");
    }
    let term = json!({ "search_categories": { "room_events": { "search_term": SECRET } } });
    assert_eq!(scene.who.post(&world, "/v3/search", term).await.ok()["search_categories"]["room_events"]["count"], 0);
}

/// All that the victim has, as the victim sees it.
async fn everything(world: &World, victim: &Victim) -> Value {
    let person = &victim.person;
    let (user, room) = (encode(&person.user_id), encode(&victim.room));
    let mut found = Vec::new();
    for path in [
        format!("/v3/rooms/{room}/state"),
        format!("/v3/rooms/{room}/messages?dir=b"),
        format!("/v3/user/{user}/filter/{}", victim.filter),
        format!("/v3/user/{user}/account_data/m.room.topic"),
        format!("/v3/user/{user}/rooms/{room}/account_data/m.room.topic"),
        format!("/v3/user/{user}/rooms/{room}/tags"),
        format!("/v3/profile/{user}"),
        "/v3/joined_rooms".to_owned(),
        "/v3/pushrules/".to_owned(),
    ] {
        let mut answer = person.get(world, &path).await.ok();
        // How long ago, and where a page ends, are of the moment.
        if let Some(fields) = answer.as_object_mut() {
            fields.retain(|name, _| !matches!(name.as_str(), "start" | "end"));
        }
        strip_age(&mut answer);
        found.push(answer);
    }
    let devices = person.get(world, "/v3/devices").await.ok();
    let names: Vec<_> =
        devices["devices"].as_array().into_iter().flatten().map(|device| &device["display_name"]).collect();
    found.push(json!(names));
    Value::Array(found)
}

fn strip_age(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("age");
            fields.values_mut().for_each(strip_age);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_age),
        _ => {}
    }
}

/// Tokens that name a place in time, but not one of this stream, this server, or this time.
async fn odd_tokens(world: &World, scene: &Scene) -> Vec<String> {
    let who = &scene.who;
    let sync = text(&who.get(world, "/v3/sync").await.ok(), "next_batch");
    let page = format!("/v3/rooms/{}/messages?dir=b&limit=1", encode(&scene.room));
    let page = text(&who.get(world, &page).await.ok(), "start");
    let sliding = who.post(world, "/unstable/org.matrix.simplified_msc3575/sync", json!({})).await.ok();
    let sliding = text(&sliding, "pos");
    let identity = sync.split('_').nth(3).expect("an identity").to_owned();
    let other = "0000000000000000";
    vec![
        sync.clone(),
        page.clone(),
        sliding.clone(),
        // From before the data were restored from a backup: later than anything that is there.
        format!("s999999999_7_0_{identity}"),
        format!("s18446744073709551615_18446744073709551615_ffffffff_{identity}"),
        format!("s18446744073709551616_0_0_{identity}"),
        format!("t999999999_{identity}"),
        format!("t9223372036854775807_{identity}"),
        format!("t-9223372036854775808_{identity}"),
        format!("t-9223372036854775809_{identity}"),
        format!("p9_deadbeef_999999999_{identity}"),
        format!("s0_0_0_{identity}"),
        // Of another server.
        format!("s1_0_0_{other}"),
        format!("t1_{other}"),
        sync.replace('_', "."),
        format!("{sync}_{sync}"),
        "m123~1.2".to_owned(),
    ]
}

#[tokio::test]
async fn tokens_of_other_streams_servers_and_times_are_refused_or_understood() {
    let world = World::new();
    let mut number = 0;
    for operation in operations().iter().filter(|operation| operation.method == Method::GET) {
        number += 1;
        let scene = Scene::new(&world, &format!("time{number}")).await;
        let path = scene.fill(&operation.path, Ids::Own);
        for token in odd_tokens(&world, &scene).await {
            for name in ["from", "to", "since", "at", "batch", "next_batch", "pos"] {
                let path = format!("{path}?{name}={}&dir=b&timeout=0&limit=2&ts=1", encode(&token));
                let answer = ask(&world, operation, &path, Some(&scene.who.token), "").await;
                is_in_order(&answer, operation, &format!("{name}={token}"));
            }
        }
    }
    // And in bodies.
    let scene = Scene::new(&world, "bodies").await;
    for token in odd_tokens(&world, &scene).await {
        for path in ["/v4/sync", "/unstable/org.matrix.simplified_msc3575/sync", "/v3/publicRooms", "/v3/search"] {
            let body = json!({
                "pos": token, "since": token, "timeout": 0,
                "search_categories": { "room_events": { "search_term": "x" } },
                "extensions": { "to_device": { "enabled": true, "since": token }, "e2ee": { "enabled": true } },
            });
            let query = if path == "/v3/search" { format!("?next_batch={}", encode(&token)) } else { String::new() };
            let answer = scene.who.post(&world, &format!("{path}{query}"), body).await;
            let status = answer.status.as_u16();
            assert!(
                status < 500 && (status < 400 || answer.json["errcode"].is_string()),
                "{path} {token}: {}",
                answer.json
            );
        }
    }
}

#[tokio::test]
async fn a_room_may_be_left_in_the_middle_of_whatever_is_asked() {
    let world = World::new();
    let host = world.person("host").await;
    let room = create(&world, &host, json!({ "preset": "public_chat" })).await;
    let say = format!("/v3/rooms/{}/send/m.room.message/1", encode(&room));
    let event = text(&host.put(&world, &say, json!({ "msgtype": "m.text", "body": "x" })).await.ok(), "event_id");
    let guest = world.person("guest").await;
    let (join, leave) = (format!("/v3/join/{}", encode(&room)), format!("/v3/rooms/{}/leave", encode(&room)));
    let scene = Scene { who: guest, room, victim: None };
    let body = json!({ "msgtype": "m.text", "body": "x", "typing": true, "timeout": 1000, "user_id": host.user_id });
    for operation in operations().iter().filter(|operation| operation.path.contains("{roomId")) {
        if matches!(operation.name.as_str(), "leaveRoom" | "joinRoom" | "joinRoomById" | "upgradeRoom") {
            continue;
        }
        let path = scene.fill(&operation.path, Ids::Own).replace(&encode("$b3Vycw"), &encode(&event));
        // Before, beside and after: where the leaving falls is a matter of chance.
        for _ in 0..2 {
            scene.who.post(&world, &join, json!({})).await;
            let body = body.to_string();
            let asked = ask(&world, operation, &path, Some(&scene.who.token), &body);
            let left = scene.who.post(&world, &leave, json!({}));
            let (asked, _, again) =
                tokio::join!(asked, left, ask(&world, operation, &path, Some(&scene.who.token), &body));
            for answer in [asked, again] {
                is_in_order(&answer, operation, "while leaving");
            }
        }
    }
    // Whoever waits for news of it is told that it is over.
    scene.who.post(&world, &join, json!({})).await;
    let since = text(&scene.who.get(&world, "/v3/sync").await.ok(), "next_batch");
    let path = format!("/v3/sync?timeout=30000&since={since}");
    let waits = scene.who.get(&world, &path);
    let (news, _) = tokio::join!(waits, scene.who.post(&world, &leave, json!({})));
    assert!(news.ok()["rooms"]["leave"][&scene.room].is_object());
}
