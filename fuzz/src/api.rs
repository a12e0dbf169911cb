//! The client-server API of Matrix, as a router.

use axum::body::Body;
use http::{Method, Request, StatusCode, header::AUTHORIZATION};
use http_body_util::BodyExt as _;
use koine_matrix_api::{Api, ApiConfig, Cores, Services};
use koine_net::Client;
use koine_push::{PusherCores, Pushers};
use ruma_common::MilliSecondsSinceUnixEpoch;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt as _;

use crate::{PASSWORD, Parts};

/// A server with two people, of whom one asks.
pub struct World {
    router: axum::Router,
    /// Methods and paths that are served, the paths with their variables in braces.
    pub served: Vec<(Method, String)>,
    pub asker: Person,
    /// Has things that are nobody else's business.
    pub other: Person,
    _parts: Parts,
    _closing: watch::Sender<bool>,
}

/// Somebody who is logged in, and a room of theirs with a message.
pub struct Person {
    pub user: String,
    pub device: String,
    pub token: String,
    pub room: String,
    pub event: String,
}

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    pub json: Option<Value>,
    pub text: String,
}

impl World {
    /// Nobody is waited for here: who asks for news is answered at once.
    pub async fn new(secret: &str) -> Self {
        let parts = Parts::new();
        let pushers = PusherCores {
            domain: parts.domain,
            accounts: parts.accounts.clone(),
            rooms: parts.rooms.clone(),
            rules: parts.push.clone(),
            web: Client::new(&koine_net::Config::default()).expect("a client"),
            now: MilliSecondsSinceUnixEpoch::now,
        };
        // They are kept and listed, and never started: nothing is sent anywhere.
        let pushers = Pushers::open(pushers).expect("an empty store opens");
        let (closing, closed) = watch::channel(true);
        let cores = Cores {
            accounts: parts.accounts.clone(),
            rooms: parts.rooms.clone(),
            media: parts.media.clone(),
            previews: None,
            unread_rules: parts.push.clone(),
            push: parts.push.clone(),
            pushers,
            services: Services::none(),
            config: ApiConfig::default(),
            observer: std::sync::Arc::new(()),
            closing: closed,
        };
        let api = Api::new(cores);
        let router = koine_matrix_api::router(api.clone());
        let served = koine_matrix_api::served(api);
        // Who comes first may be more than others.
        let other = person(&router, "other", secret).await;
        let asker = person(&router, "asker", "a room").await;
        Self { router, served, asker, other, _parts: parts, _closing: closing }
    }

    /// A request; `None` if it could not even be written.
    pub async fn ask(&self, method: &Method, path: &str, token: Option<&str>, body: Vec<u8>) -> Option<Answer> {
        ask(&self.router, method, path, token, body).await
    }
}

async fn ask(router: &axum::Router, method: &Method, path: &str, token: Option<&str>, body: Vec<u8>) -> Option<Answer> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Body::from(body)).ok()?;
    let (parts, body) = router.clone().oneshot(request).await.expect("the router does not fail").into_parts();
    let bytes = body.collect().await.expect("answers are complete").to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Some(Answer { status: parts.status, json: serde_json::from_slice(&bytes).ok(), text })
}

async fn person(router: &axum::Router, name: &str, room_name: &str) -> Person {
    let ask = async |method: Method, path: &str, token: Option<&str>, body: Value| {
        let answer = ask(router, &method, path, token, body.to_string().into_bytes()).await.expect("a request");
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
        answer.json.expect("an object")
    };
    let text = |answer: &Value, field: &str| answer[field].as_str().expect("a text").to_owned();
    let body = json!({ "username": name, "password": PASSWORD, "auth": { "type": "m.login.dummy" } });
    let answer = ask(Method::POST, "/_matrix/client/v3/register", None, body).await;
    let (user, device) = (text(&answer, "user_id"), text(&answer, "device_id"));
    let token = text(&answer, "access_token");
    let body = json!({ "name": room_name, "topic": room_name });
    let room = text(&ask(Method::POST, "/_matrix/client/v3/createRoom", Some(&token), body).await, "room_id");
    let body = json!({ "msgtype": "m.text", "body": room_name });
    let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/1", room.replace('!', "%21"));
    let event = text(&ask(Method::PUT, &path, Some(&token), body).await, "event_id");
    Person { user, device, token, room, event }
}
