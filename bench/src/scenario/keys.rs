//! `key-upload`, `key-query`, `key-claim`, `to-device`: the server's side of end-to-end encryption, under its usual storms.
//!
//! `key-upload` has 1,000 devices that just logged in upload what such devices do, eight at once: device keys, 50 one-time keys and
//! a fallback key. `key-query` asks for the devices of 1,000 users in one request. `key-claim` has 50 devices claim one-time keys of the same
//! device at once, until its thousand are given out; no key may be given twice. `to-device` sends one message to each of 1,000
//! devices in one request. The keys are made up: servers check their shape and keep them.

use std::collections::HashSet;
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::matrix::{CallError, Client, Person, Server, register};
use crate::meter::{Line, Tally};
use crate::world::{World, in_parallel};

/// Devices that upload at once.
const UPLOADERS: usize = 8;
/// One-time keys of a new device, as client libraries make them.
const KEYS_OF_A_DEVICE: usize = 50;
/// Devices that claim at once.
const CLAIMERS: usize = 50;
/// Keys uploaded in one request.
const KEYS_AT_ONCE: usize = 100;

/// Somebody with device keys.
#[derive(Debug, Clone)]
pub struct Keyed {
    person: Person,
    user: String,
    device: String,
}

fn key(text: &str) -> String {
    let text: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{text:A<43}").chars().take(43).collect()
}

async fn who(server: &Server, person: Person) -> Result<Keyed, CallError> {
    #[derive(Deserialize)]
    struct Who {
        user_id: String,
        device_id: String,
    }
    let mut client = Client::new(server, &person);
    let who = client.call_patiently("GET", "/_matrix/client/v3/account/whoami", "").await?;
    let who: Who = serde_json::from_slice(&who).map_err(|error| CallError::Unreadable("whoami", error))?;
    Ok(Keyed { person, user: who.user_id, device: who.device_id })
}

async fn with_keys(server: &Server, person: Person) -> Result<Keyed, CallError> {
    let keyed = who(server, person).await?;
    let body = json!({ "device_keys": keyed.device_keys() }).to_string();
    Client::new(server, &keyed.person).call_patiently("POST", UPLOAD, &body).await?;
    Ok(keyed)
}

impl Keyed {
    fn device_keys(&self) -> Value {
        let (user, device) = (self.user.as_str(), self.device.as_str());
        json!({
            "user_id": user, "device_id": device,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": { (format!("curve25519:{device}")): key(user), (format!("ed25519:{device}")): key(device) },
            "signatures": { (user): { (format!("ed25519:{device}")): key(device).repeat(2) } },
        })
    }

    fn signed_key(&self, number: usize, more: &Value) -> Value {
        let signatures = json!({ (self.user.as_str()): { (format!("ed25519:{}", self.device)): key("S").repeat(2) } });
        let mut signed = json!({ "key": key(&format!("K{number}")), "signatures": signatures });
        if let (Some(signed), Some(more)) = (signed.as_object_mut(), more.as_object()) {
            signed.extend(more.clone());
        }
        signed
    }

    fn one_time_keys(&self, numbers: impl Iterator<Item = usize>) -> serde_json::Map<String, Value> {
        let one = |number| (format!("signed_curve25519:AAAA{number}"), self.signed_key(number, &json!({})));
        numbers.map(one).collect()
    }
}

const UPLOAD: &str = "/_matrix/client/v3/keys/upload";

async fn crowd(world: &mut World) -> Result<Vec<Keyed>, CallError> {
    let count = world.sizes.scaled(world.sizes.keyed);
    if world.keyed.len() < count {
        let people = world.people("keyed", count).await?;
        let server = world.server.clone();
        world.keyed = in_parallel(people, move |person: Person| {
            let server = server.clone();
            async move { with_keys(&server, person).await }
        })
        .await?;
    }
    Ok(world.keyed.clone())
}

/// `key-upload`.
pub async fn upload(world: &mut World) -> Result<Line, CallError> {
    let count = world.sizes.scaled(world.sizes.keyed);
    let numbers: Vec<u64> = (0..count).map(|_| world.fresh()).collect();
    let (server, prefix) = (world.server.clone(), world.prefix().to_owned());
    let devices = in_parallel(numbers, move |number| {
        let (server, name) = (server.clone(), format!("{prefix}u{number}"));
        async move { who(&server, register(&server, &name).await?).await }
    })
    .await?;
    let mut shares: Vec<Vec<(Person, String)>> = (0..UPLOADERS).map(|_| Vec::new()).collect();
    for (at, device) in devices.iter().enumerate() {
        let body = json!({
            "device_keys": device.device_keys(),
            "one_time_keys": device.one_time_keys(0..KEYS_OF_A_DEVICE),
            "fallback_keys": { "signed_curve25519:AAAAF": device.signed_key(0, &json!({ "fallback": true })) },
        });
        shares[at % UPLOADERS].push((device.person.clone(), body.to_string()));
    }
    let meter = world.meter("key-upload");
    let until = Instant::now() + world.sizes.duration();
    let mut working = JoinSet::new();
    for share in shares {
        let server = world.server.clone();
        working.spawn(async move {
            let mut tally = Tally::default();
            for (person, body) in share {
                let mut client = Client::new(&server, &person);
                let began = Instant::now();
                let outcome = client.call("POST", UPLOAD, &body).await;
                tally.take(began, &outcome);
                if Instant::now() >= until {
                    break;
                }
            }
            tally
        });
    }
    let mut all = Tally::default();
    while let Some(done) = working.join_next().await {
        all.merge(done.expect("an uploader does not panic and is not cancelled"));
    }
    Ok(meter.finish(all).with("keys_of_a_device", KEYS_OF_A_DEVICE as f64))
}

/// `key-query`.
pub async fn query(world: &mut World) -> Result<Line, CallError> {
    let crowd = crowd(world).await?;
    let users: serde_json::Map<String, Value> = crowd.iter().map(|keyed| (keyed.user.clone(), json!([]))).collect();
    let body = json!({ "device_keys": users }).to_string();
    let asker = world.stranger().await?;
    let mut client = world.client(&asker);
    let mut tally = Tally::default();
    let meter = world.meter("key-query");
    let until = Instant::now() + world.sizes.duration();
    for _ in 0..world.sizes.ops {
        let began = Instant::now();
        match client.call("POST", "/_matrix/client/v3/keys/query", &body).await {
            Ok(answer) => {
                tally.latencies.push(began.elapsed());
                let answer: Value =
                    serde_json::from_slice(answer).map_err(|error| CallError::Unreadable("keys/query", error))?;
                let found = answer["device_keys"].as_object().map_or(0, serde_json::Map::len);
                if found != crowd.len() {
                    return Err(CallError::Incomplete(found, crowd.len(), "users with devices"));
                }
            }
            Err(error) => tally.fail(&error),
        }
        if Instant::now() >= until {
            break;
        }
    }
    Ok(meter.finish(tally).with("users", crowd.len() as f64))
}

/// `key-claim`.
pub async fn claim(world: &mut World) -> Result<Line, CallError> {
    let claimers = world.people("claimer", CLAIMERS).await?;
    let target = world.stranger().await?;
    let target = with_keys(&world.server, target).await?;
    let count = world.sizes.scaled(world.sizes.claims);
    let numbers: Vec<usize> = (0..count).collect();
    let mut client = world.client(&target.person);
    for numbers in numbers.chunks(KEYS_AT_ONCE) {
        let keys = target.one_time_keys(numbers.iter().copied());
        client.call_patiently("POST", UPLOAD, &json!({ "one_time_keys": keys }).to_string()).await?;
    }
    let wanted = json!({ (target.user.as_str()): { (target.device.as_str()): "signed_curve25519" } });
    let body = json!({ "one_time_keys": wanted }).to_string();
    let share = count / CLAIMERS.min(count);
    let meter = world.meter("key-claim");
    let mut working = JoinSet::new();
    for person in claimers.iter().take(count) {
        let (mut client, body) = (world.client(person), body.clone());
        working.spawn(async move {
            let (mut tally, mut ids) = (Tally::default(), Vec::new());
            for _ in 0..share {
                let began = Instant::now();
                let outcome = client.call("POST", "/_matrix/client/v3/keys/claim", &body).await;
                match outcome.map(serde_json::from_slice::<Value>) {
                    Ok(Ok(answer)) => {
                        tally.latencies.push(began.elapsed());
                        let of_users = answer["one_time_keys"].as_object().into_iter().flatten();
                        let of_devices = of_users.flat_map(|(_, devices)| devices.as_object().into_iter().flatten());
                        let keys = of_devices.flat_map(|(_, keys)| keys.as_object().into_iter().flatten());
                        ids.extend(keys.map(|(id, _)| id.clone()));
                    }
                    Ok(Err(error)) => tally.fail(&error),
                    Err(error) => tally.fail(&error),
                }
            }
            (tally, ids)
        });
    }
    let (mut all, mut given) = (Tally::default(), Vec::new());
    while let Some(done) = working.join_next().await {
        let (tally, ids) = done.expect("a claimer does not panic and is not cancelled");
        all.merge(tally);
        given.extend(ids);
    }
    let different: HashSet<&String> = given.iter().collect();
    let twice = given.len() - different.len();
    if twice > 0 {
        all.fail(&format!("{twice} keys were given out more than once"));
    }
    Ok(meter.finish(all).with("keys", given.len() as f64))
}

/// `to-device`.
pub async fn to_device(world: &mut World) -> Result<Line, CallError> {
    let crowd = crowd(world).await?;
    let message = json!({ "algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": "x".repeat(700) });
    let messages: serde_json::Map<String, Value> =
        crowd.iter().map(|keyed| (keyed.user.clone(), json!({ (keyed.device.as_str()): message }))).collect();
    let body = json!({ "messages": messages }).to_string();
    let sender = world.stranger().await?;
    let mut client = world.client(&sender);
    let mut tally = Tally::default();
    let meter = world.meter("to-device");
    let until = Instant::now() + world.sizes.duration();
    for number in 0..world.sizes.ops {
        let path = format!("/_matrix/client/v3/sendToDevice/m.room.encrypted/t{number}");
        let began = Instant::now();
        let outcome = client.call("PUT", &path, &body).await;
        tally.take(began, &outcome);
        if Instant::now() >= until {
            break;
        }
    }
    let line = meter.finish(tally);
    let per_device = line.server_cpu_ms_per_op.unwrap_or_default() / crowd.len() as f64;
    Ok(line.with("devices", crowd.len() as f64).with("server_cpu_ms_per_device", per_device))
}
