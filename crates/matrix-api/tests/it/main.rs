//! The client-server API as clients meet it: requests in, answers out, everything behind it real but the disk.
//!
//! [`World`] is a server in this process; [`World::call`] is the one place where a request is made. Areas add a file
//! each.

mod account_data;
mod admin;
mod admin_openapi;
mod appservices;
mod bad_input;
mod dehydrated_device;
mod delayed_events;
mod devices;
mod discovery;
mod hostile;
mod invitations;
mod key_backup;
mod keys;
mod keys_elsewhere;
mod media;
mod messages;
mod old_sync;
mod presence;
mod profiles;
mod push_rules;
mod pushers;
mod registration;
mod rooms;
mod search;
mod sessions;
mod sliding_sync;
mod sliding_sync_merged;
mod sliding_sync_restart;
mod spaces;
mod synapse_admin;
mod sync;
mod thread_subscriptions;
mod threepids;
mod to_device;
mod user_directory;

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode, header::AUTHORIZATION};
use http_body_util::BodyExt as _;
use koine_account::{AccountConfig, Accounts, LimitConfig, PasswordConfig, Registration};
use koine_graph::SigningKey;
use koine_matrix_api::{Api, ApiConfig, Cores, Services};
use koine_media::{Media, Place};
use koine_net::Client;
use koine_push::{PushRules, PusherCores, Pushers};
use koine_room::{Rooms, RoomsConfig};
use koine_store::{DomainId, MemoryEngine, Shard};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedServerName, owned_server_name};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt as _;

/// A server.
pub(crate) struct World {
    router: axum::Router,
    api: Api,
    pub(crate) accounts: Arc<Accounts>,
    /// Media live here as long as the server does.
    _folder: tempfile::TempDir,
    /// Dropped only with the server: then whoever waits for news is answered.
    _closing: watch::Sender<bool>,
}

/// Somebody who is logged in.
pub(crate) struct Person {
    pub(crate) user_id: String,
    pub(crate) device_id: String,
    pub(crate) token: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The body, if it is JSON.
    pub(crate) json: Value,
}

impl Answer {
    /// Status and errcode, to compare both at once.
    pub(crate) fn error(&self) -> (u16, &str) {
        (self.status.as_u16(), self.json["errcode"].as_str().unwrap_or_default())
    }

    /// The body of a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.json);
        self.json
    }
}

impl World {
    /// A server where everybody may make an account, without limits.
    pub(crate) fn new() -> Self {
        Self::with(AccountConfig {
            registration: Registration::Open,
            limits: LimitConfig::unlimited(),
            ..AccountConfig::default()
        })
    }

    /// The same with bridges and bots.
    pub(crate) fn with_services(services: Services) -> Self {
        let limits = LimitConfig::unlimited();
        Self::with_both(
            AccountConfig { registration: Registration::Open, limits, ..AccountConfig::default() },
            services,
        )
    }

    /// A server with these settings; passwords are always cheap.
    pub(crate) fn with(config: AccountConfig) -> Self {
        Self::with_both(config, Services::none())
    }

    /// A server without limits on this store, which may hold what an earlier one left.
    pub(crate) fn on(shard: Shard) -> Self {
        let limits = LimitConfig::unlimited();
        let config = AccountConfig { registration: Registration::Open, limits, ..AccountConfig::default() };
        Self::with_all(config, Services::none(), shard)
    }

    /// Ends it, so that another may open its store.
    pub(crate) fn stop(self) {
        self.api.rooms.shard().close();
    }

    fn with_both(config: AccountConfig, services: Services) -> Self {
        let shard = Shard::open(Arc::new(MemoryEngine::new())).expect("an empty engine opens");
        Self::with_all(config, services, shard)
    }

    fn with_all(config: AccountConfig, services: Services, shard: Shard) -> Self {
        let passwords = PasswordConfig { argon2_memory_kib: 8, argon2_passes: 1, scram_iterations: 4096 };
        let config = AccountConfig { passwords, ..config };
        let domain = DomainId(1);
        let server_name: OwnedServerName = owned_server_name!("example.org");
        let folder = tempfile::tempdir().expect("a temporary folder");

        let clock = Arc::new(MilliSecondsSinceUnixEpoch::now);
        let accounts = Accounts::new(shard.clone(), domain, server_name.clone(), config, clock);
        let rooms = RoomsConfig {
            domain,
            server_name: server_name.clone(),
            signing_key: SigningKey::from_seed("test", &[7; 32]).expect("a valid key id"),
            cache_bytes: 16 * 1024 * 1024,
            now: MilliSecondsSinceUnixEpoch::now,
            opaque_id: koine_room::opaque_id,
        };
        let rooms = Rooms::open(shard.clone(), rooms).expect("an empty store opens");
        let place = Place { domain, server_name, folder: folder.path().to_owned() };
        let media = Media::open(shard, place, koine_media::Config::default()).expect("an empty folder opens");
        let push = Arc::new(PushRules::new(accounts.clone()));
        let pushers = PusherCores {
            domain,
            accounts: accounts.clone(),
            rooms: rooms.clone(),
            rules: push.clone(),
            web: Client::new(&koine_net::Config::default().with_loopback()).expect("a client"),
            now: MilliSecondsSinceUnixEpoch::now,
        };
        let pushers = Pushers::open(pushers).expect("an empty store opens");
        pushers.start();
        let config =
            ApiConfig { public_base_url: Some("https://matrix.example.org".to_owned()), ..ApiConfig::default() };
        let (closing, closed) = watch::channel(false);
        let cores = Cores {
            accounts: accounts.clone(),
            rooms,
            media,
            previews: None,
            unread_rules: push.clone(),
            push,
            pushers,
            services,
            config,
            observer: Arc::new(()),
            closing: closed,
        };
        let api = Api::new(cores);
        Self { router: koine_matrix_api::router(api.clone()), api, accounts, _folder: folder, _closing: closing }
    }

    /// Methods and paths that are served.
    pub(crate) fn served(&self) -> Vec<(Method, String)> {
        koine_matrix_api::served(self.api.clone())
    }

    /// Any request.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("the router does not fail");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("answers are complete").to_bytes();
        let json = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer { status: parts.status, headers: parts.headers, json }
    }

    /// A request with a JSON body, or with none if it is `null`. `path` begins after `/_matrix/client`.
    pub(crate) async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.call_raw(method, path, token, body.into()).await
    }

    /// The same with any bytes as body.
    pub(crate) async fn call_raw(&self, method: Method, path: &str, token: Option<&str>, body: Vec<u8>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/_matrix/client{path}"));
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        self.send(request.body(body.into()).expect("a valid request")).await
    }

    /// Registers somebody, whose password is their name with an exclamation mark.
    pub(crate) async fn person(&self, name: &str) -> Person {
        let body = json!({ "username": name, "password": format!("{name}!"), "auth": { "type": "m.login.dummy" } });
        let answer = self.call(Method::POST, "/v3/register", None, body).await.ok();
        person(&answer)
    }

    /// Logs somebody in once more.
    pub(crate) async fn log_in(&self, name: &str) -> Person {
        let identifier = json!({ "type": "m.id.user", "user": name });
        let body = json!({ "type": "m.login.password", "identifier": identifier, "password": format!("{name}!") });
        let answer = self.call(Method::POST, "/v3/login", None, body).await.ok();
        person(&answer)
    }
}

impl Person {
    /// A request of this person.
    pub(crate) async fn call(&self, world: &World, method: Method, path: &str, body: Value) -> Answer {
        world.call(method, path, Some(&self.token), body).await
    }

    /// `GET`
    pub(crate) async fn get(&self, world: &World, path: &str) -> Answer {
        self.call(world, Method::GET, path, Value::Null).await
    }

    /// `PUT`
    pub(crate) async fn put(&self, world: &World, path: &str, body: Value) -> Answer {
        self.call(world, Method::PUT, path, body).await
    }

    /// `POST`
    pub(crate) async fn post(&self, world: &World, path: &str, body: Value) -> Answer {
        self.call(world, Method::POST, path, body).await
    }
}

fn person(answer: &Value) -> Person {
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    Person { user_id: text("user_id"), device_id: text("device_id"), token: text("access_token") }
}

/// The password stage of user-interactive authentication.
pub(crate) fn password_stage(name: &str, password: &str) -> Value {
    json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": name }, "password": password })
}
