//! The admin API of Synapse.

use http::{Method, Request};
use koine_account::Flag;
use serde_json::{Value, json};

use crate::{
    Answer, Person, World,
    rooms::{create, encode, text},
};

async fn admin(world: &World) -> Person {
    let person = world.person("root").await;
    let user_id = person.user_id.as_str().try_into().expect("a user id");
    world.accounts.set_flag(user_id, Flag::Admin, true).await.expect("an account");
    person
}

impl Person {
    /// A request to the admin API. `path` begins after `/_synapse/admin`.
    async fn admin(&self, world: &World, method: Method, path: &str, body: Value) -> Answer {
        let request = Request::builder().method(method).uri(format!("/_synapse/admin{path}"));
        let request = request.header("authorization", format!("Bearer {}", self.token));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        world.send(request.body(body.into()).expect("a valid request")).await
    }
}

#[tokio::test]
async fn nobody_but_admins_is_served() {
    let world = World::new();
    let (root, alice) = (admin(&world).await, world.person("alice").await);
    for (method, path) in [
        (Method::GET, "/v2/users"),
        (Method::GET, "/v2/users/@alice:example.org"),
        (Method::PUT, "/v2/users/@new:example.org"),
        (Method::POST, "/v1/deactivate/@root:example.org"),
        (Method::POST, "/v1/reset_password/@root:example.org"),
        (Method::GET, "/v1/rooms"),
        (Method::GET, "/v1/registration_tokens"),
        (Method::POST, "/v1/send_server_notice"),
        (Method::GET, "/v1/event_reports"),
        (Method::POST, "/v1/media/delete?before_ts=1"),
    ] {
        let body = if method == Method::GET { Value::Null } else { json!({ "new_password": "x" }) };
        assert_eq!(alice.admin(&world, method, path, body).await.error(), (403, "M_FORBIDDEN"), "{path}");
    }
    let version = Request::get("/_synapse/admin/v1/server_version").body(String::new().into()).expect("valid");
    assert!(world.send(version).await.ok()["server_version"].is_string());
    let unknown = root.admin(&world, Method::POST, "/v1/users/@alice:example.org/shadow_ban", json!({})).await;
    assert_eq!(unknown.error(), (404, "M_UNRECOGNIZED"));
}

#[tokio::test]
async fn accounts_are_made_changed_listed_and_closed() {
    let world = World::new();
    let root = admin(&world).await;
    let path = "/v2/users/@carol:example.org";
    let body = json!({ "password": "carol!", "displayname": "Carol" });
    let made = root.admin(&world, Method::PUT, path, body).await;
    assert_eq!((made.status.as_u16(), &made.json["displayname"]), (201, &json!("Carol")));
    let carol = world.log_in("carol").await;
    let body = json!({ "displayname": null, "admin": true, "password": "other", "logout_devices": true });
    let changed = root.admin(&world, Method::PUT, path, body).await.ok();
    assert_eq!((&changed["displayname"], &changed["admin"]), (&Value::Null, &json!(true)));
    assert_eq!(carol.get(&world, "/v3/account/whoami").await.error(), (401, "M_UNKNOWN_TOKEN"));

    let is_admin = "/v1/users/@carol:example.org/admin";
    root.admin(&world, Method::PUT, is_admin, json!({ "admin": false })).await.ok();
    assert_eq!(root.admin(&world, Method::GET, is_admin, Value::Null).await.ok(), json!({ "admin": false }));
    let reset = "/v1/reset_password/@carol:example.org";
    root.admin(&world, Method::POST, reset, json!({ "new_password": "carol!" })).await.ok();
    let carol = world.log_in("carol").await;

    let listed = root.admin(&world, Method::GET, "/v2/users?limit=1", Value::Null).await.ok();
    assert_eq!((&listed["total"], &listed["next_token"]), (&json!(2), &json!("1")));
    let found = root.admin(&world, Method::GET, "/v2/users?name=CAR", Value::Null).await.ok();
    assert_eq!((&found["total"], &found["users"][0]["name"]), (&json!(1), &json!("@carol:example.org")));

    let devices = root.admin(&world, Method::GET, &format!("{path}/devices"), Value::Null).await.ok();
    assert_eq!((&devices["total"], &devices["devices"][0]["device_id"]), (&json!(1), &json!(carol.device_id)));
    let one = format!("{path}/devices/{}", carol.device_id);
    root.admin(&world, Method::PUT, &one, json!({ "display_name": "named" })).await.ok();
    assert_eq!(root.admin(&world, Method::GET, &one, Value::Null).await.ok()["display_name"], "named");
    root.admin(&world, Method::DELETE, &one, Value::Null).await.ok();
    assert_eq!(carol.get(&world, "/v3/account/whoami").await.error(), (401, "M_UNKNOWN_TOKEN"));

    let login = root.admin(&world, Method::POST, "/v1/users/@carol:example.org/login", json!({})).await.ok();
    let as_carol = world.call(Method::GET, "/v3/account/whoami", login["access_token"].as_str(), Value::Null).await;
    assert_eq!(as_carol.ok()["user_id"], "@carol:example.org");

    root.admin(&world, Method::POST, "/v1/deactivate/@carol:example.org", json!({ "erase": true })).await.ok();
    let closed = root.admin(&world, Method::GET, path, Value::Null).await.ok();
    assert_eq!((&closed["deactivated"], &closed["erased"]), (&json!(true), &json!(true)));
    let again = root.admin(&world, Method::PUT, path, json!({ "deactivated": false })).await;
    assert_eq!(again.status, 400);
    let unknown = root.admin(&world, Method::GET, "/v2/users/@nobody:example.org", Value::Null).await;
    assert_eq!(unknown.error(), (404, "M_NOT_FOUND"));
    let foreign = root.admin(&world, Method::GET, "/v2/users/@a:elsewhere.org", Value::Null).await;
    assert_eq!(foreign.error(), (400, "M_INVALID_PARAM"));
    let free = root.admin(&world, Method::GET, "/v1/username_available?username=dora", Value::Null).await.ok();
    assert_eq!(free, json!({ "available": true }));
}

#[tokio::test]
async fn registration_tokens_come_and_go() {
    let world = World::new();
    let root = admin(&world).await;
    let all = "/v1/registration_tokens";
    let made =
        root.admin(&world, Method::POST, &format!("{all}/new"), json!({ "token": "abc", "uses_allowed": 2 })).await;
    let expected = json!({ "token": "abc", "uses_allowed": 2, "pending": 0, "completed": 0, "expiry_time": null });
    assert_eq!(made.ok(), expected);
    let random = root.admin(&world, Method::POST, &format!("{all}/new"), json!({ "length": 5 })).await.ok();
    assert_eq!(text(&random, "token").len(), 5);
    let changed = root.admin(&world, Method::PUT, &format!("{all}/abc"), json!({ "uses_allowed": null })).await.ok();
    assert_eq!(changed["uses_allowed"], Value::Null);
    let listed = root.admin(&world, Method::GET, &format!("{all}?valid=true"), Value::Null).await.ok();
    assert_eq!(listed["registration_tokens"].as_array().map(Vec::len), Some(2));
    root.admin(&world, Method::DELETE, &format!("{all}/abc"), Value::Null).await.ok();
    let gone = root.admin(&world, Method::GET, &format!("{all}/abc"), Value::Null).await;
    assert_eq!(gone.error(), (404, "M_NOT_FOUND"));
    for wrong in [json!({ "token": "ä" }), json!({ "expiry_time": 1 }), json!({ "length": 0 })] {
        let refused = root.admin(&world, Method::POST, &format!("{all}/new"), wrong).await;
        assert_eq!(refused.error(), (400, "M_INVALID_PARAM"));
    }
}

#[tokio::test]
async fn rooms_are_listed_taken_over_purged_blocked_and_deleted() {
    let world = World::new();
    let (root, alice) = (admin(&world).await, world.person("alice").await);
    let room = create(&world, &alice, json!({ "name": "Bridge", "preset": "public_chat" })).await;
    create(&world, &alice, json!({ "name": "Other" })).await;
    let path = format!("/v1/rooms/{room}");
    let listed = root.admin(&world, Method::GET, "/v1/rooms?search_term=bridge", Value::Null).await.ok();
    assert_eq!((&listed["total_rooms"], &listed["rooms"][0]["room_id"]), (&json!(1), &json!(room)));
    let shown = root.admin(&world, Method::GET, &path, Value::Null).await.ok();
    assert_eq!((&shown["creator"], &shown["joined_local_members"]), (&json!(alice.user_id), &json!(1)));
    let members = root.admin(&world, Method::GET, &format!("{path}/members"), Value::Null).await.ok();
    assert_eq!(members, json!({ "members": [alice.user_id], "total": 1 }));
    let state = root.admin(&world, Method::GET, &format!("{path}/state"), Value::Null).await.ok();
    assert!(state["state"].as_array().is_some_and(|events| events.len() > 5));

    root.admin(&world, Method::POST, &format!("{path}/make_room_admin"), json!({})).await.ok();
    let join = format!("/v1/join/{room}");
    root.admin(&world, Method::POST, &join, json!({ "user_id": root.user_id })).await.ok();
    let levels = root.get(&world, &format!("/v3/rooms/{room}/state/m.room.power_levels")).await.ok();
    assert_eq!(levels["users"][&root.user_id], 100);

    for number in 0..3 {
        let path = format!("/v3/rooms/{room}/send/m.room.message/{number}");
        alice.put(&world, &path, json!({ "body": "x" })).await.ok();
    }
    let body = json!({ "delete_local_events": true, "purge_up_to_ts": 9_000_000_000_000_u64 });
    let purge = root.admin(&world, Method::POST, &format!("/v1/purge_history/{room}"), body).await.ok();
    let status = format!("/v1/purge_history_status/{}", text(&purge, "purge_id"));
    while root.admin(&world, Method::GET, &status, Value::Null).await.ok()["status"] == "active" {
        tokio::task::yield_now().await;
    }
    let page = alice.get(&world, &format!("/v3/rooms/{room}/messages?dir=b")).await.ok();
    let messages = page["chunk"].as_array().expect("events").iter().filter(|event| event["type"] == "m.room.message");
    assert_eq!(messages.count(), 1, "the newest stays");

    let body = json!({ "block": true, "new_room_user_id": root.user_id, "message": "closed" });
    let deletion = root.admin(&world, Method::DELETE, &format!("/v2/rooms/{room}"), body).await.ok();
    let status = format!("/v2/rooms/delete_status/{}", text(&deletion, "delete_id"));
    let done = loop {
        let status = root.admin(&world, Method::GET, &status, Value::Null).await.ok();
        if status["status"] != "active" {
            break status;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(done["status"], "complete", "{done}");
    let mut moved: Vec<_> = done["shutdown_room"]["kicked_users"].as_array().expect("users").clone();
    moved.sort_by_key(ToString::to_string);
    assert_eq!(moved, [json!(alice.user_id), json!(root.user_id)]);
    let joined = alice.get(&world, "/v3/joined_rooms").await.ok();
    assert!(joined["joined_rooms"].as_array().expect("rooms").contains(&done["shutdown_room"]["new_room_id"]));
    assert_eq!(root.admin(&world, Method::GET, &path, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    let blocked = root.admin(&world, Method::GET, &format!("{path}/block"), Value::Null).await.ok();
    assert_eq!(blocked, json!({ "block": true, "user_id": root.user_id }));
    assert_eq!(alice.post(&world, &format!("/v3/join/{room}"), json!({})).await.error(), (403, "M_FORBIDDEN"));
    let since_then = alice.get(&world, "/v3/sync").await.ok();
    assert!(since_then["rooms"]["join"].get(&room).is_none());
}

#[tokio::test]
async fn notices_reach_people_in_one_room_that_cannot_be_refused() {
    let world = World::new();
    let (root, alice) = (admin(&world).await, world.person("alice").await);
    let body = json!({ "user_id": alice.user_id, "content": { "msgtype": "m.text", "body": "hello" } });
    let path = "/v1/send_server_notice";
    root.admin(&world, Method::POST, path, body.clone()).await.ok();
    let seen = alice.get(&world, "/v3/sync").await.ok();
    let room = seen["rooms"]["invite"].as_object().expect("invitations").keys().next().expect("one").clone();
    let leave = format!("/v3/rooms/{room}/leave");
    assert_eq!(alice.post(&world, &leave, json!({})).await.error(), (403, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM"));
    alice.post(&world, &format!("/v3/join/{room}"), json!({})).await.ok();
    let tags = alice.get(&world, &format!("/v3/user/{}/rooms/{room}/tags", alice.user_id)).await.ok();
    assert!(tags["tags"]["m.server_notice"].is_object());
    let (first, again) = (
        root.admin(&world, Method::PUT, &format!("{path}/t"), body.clone()).await.ok(),
        root.admin(&world, Method::PUT, &format!("{path}/t"), body.clone()).await.ok(),
    );
    assert_eq!(first, again);
    alice.post(&world, &leave, json!({})).await.ok();
    root.admin(&world, Method::POST, path, body).await.ok();
    let seen = alice.get(&world, "/v3/sync").await.ok();
    assert!(seen["rooms"]["invite"][&room].is_object(), "the same room again");
    for wrong in
        [json!({}), json!({ "user_id": alice.user_id }), json!({ "user_id": "@nobody:example.org", "content": {} })]
    {
        assert_ne!(root.admin(&world, Method::POST, path, wrong).await.status, 200);
    }
}

#[tokio::test]
async fn media_are_listed_and_deleted() {
    let world = World::new();
    let (root, alice) = (admin(&world).await, world.person("alice").await);
    let upload = Request::post("/_matrix/media/v3/upload?filename=a.txt")
        .header("authorization", format!("Bearer {}", alice.token))
        .header("content-type", "text/plain")
        .body("text".to_owned().into())
        .expect("a valid request");
    let uri = text(&world.send(upload).await.ok(), "content_uri");
    let id = uri.rsplit('/').next().expect("an id");
    let own = format!("/v1/users/{}/media", encode(&alice.user_id));
    let listed = root.admin(&world, Method::GET, &own, Value::Null).await.ok();
    assert_eq!((&listed["total"], &listed["media"][0]["media_id"]), (&json!(1), &json!(id)));
    let one = format!("/v1/media/example.org/{id}");
    assert_eq!(root.admin(&world, Method::GET, &one, Value::Null).await.ok()["media_info"]["media_length"], 4);
    let deleted = root.admin(&world, Method::DELETE, &one, Value::Null).await.ok();
    assert_eq!(deleted, json!({ "deleted_media": [id], "total": 1 }));
    assert_eq!(root.admin(&world, Method::GET, &one, Value::Null).await.error(), (404, "M_NOT_FOUND"));
    let old = root.admin(&world, Method::POST, "/v1/media/delete", json!({})).await;
    assert_eq!(old.error(), (400, "M_MISSING_PARAM"));
}
