//! `/_synapse/admin/v1/register`: accounts made by programs that know a secret. Not of Matrix's specification, but what
//! tools for operators and test suites use with every server.
//!
//! A program fetches a nonce, and proves with an HMAC over it and the account's data that it knows the secret. A nonce is
//! good once, and for a minute.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    response::{IntoResponse, Response},
    routing::get,
};
use hmac::{Hmac, Mac as _};
use http::StatusCode;
use koine_account::{Accounts, CreateError, NewAccount, NewSession, Secret};
use parking_lot::Mutex;
use rand::{Rng as _, distr::Alphanumeric};
use serde::Deserialize;
use serde_json::{Value, json};
use sha1::Sha1;

const PATH: &str = "/_synapse/admin/v1/register";
const NONCE_LIFE: Duration = Duration::from_secs(60);
const NONCE_LENGTH: usize = 64;
/// Nonces that wait to be used; past it, no new ones are given.
const NONCES_MAX: usize = 1_000;
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The endpoint, for a server with this secret.
pub fn router(accounts: Arc<Accounts>, secret: Secret) -> Router {
    let office = Arc::new(Office { accounts, secret, nonces: Mutex::default() });
    let routes = get(give_nonce).post(register).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    Router::new().route(PATH, routes).with_state(office)
}

struct Office {
    accounts: Arc<Accounts>,
    secret: Secret,
    nonces: Mutex<HashMap<String, Instant>>,
}

#[derive(Deserialize)]
struct Wanted {
    nonce: String,
    username: String,
    password: String,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    user_type: Option<String>,
    mac: String,
}

impl Wanted {
    /// What strangers say of the account.
    fn fields(&self) -> impl Iterator<Item = &str> {
        [&*self.username, &*self.password].into_iter().chain(self.user_type.as_deref())
    }
}

async fn give_nonce(State(office): State<Arc<Office>>) -> Response {
    let nonce: String = rand::rng().sample_iter(Alphanumeric).take(NONCE_LENGTH).map(char::from).collect();
    let now = Instant::now();
    let mut nonces = office.nonces.lock();
    nonces.retain(|_, given| now.duration_since(*given) < NONCE_LIFE);
    if nonces.len() >= NONCES_MAX {
        return refusal(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "Too many nonces wait to be used");
    }
    nonces.insert(nonce.clone(), now);
    Json(json!({ "nonce": nonce })).into_response()
}

async fn register(State(office): State<Arc<Office>>, body: Bytes) -> Response {
    let wanted: Wanted = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) if error.is_data() => return refusal(StatusCode::BAD_REQUEST, "M_BAD_JSON", &error.to_string()),
        Err(error) => return refusal(StatusCode::BAD_REQUEST, "M_NOT_JSON", &error.to_string()),
    };
    let given = office.nonces.lock().remove(&wanted.nonce);
    if given.is_none_or(|given| given.elapsed() >= NONCE_LIFE) {
        return refusal(StatusCode::BAD_REQUEST, "M_UNKNOWN", "The nonce is unknown, used or too old; fetch a new one");
    }
    // The mac is over fields with NULs between them: one within would make two of it.
    if wanted.fields().any(|field| field.contains('\0')) {
        return refusal(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", "There is a NUL in a field");
    }
    if !is_proven(&wanted, &office.secret) {
        return refusal(StatusCode::FORBIDDEN, "M_UNKNOWN", "The mac does not fit the secret");
    }
    let account = NewAccount {
        name: Some(wanted.username),
        password: Some(wanted.password.into()),
        is_admin: wanted.admin,
        session: Some(NewSession::default()),
        ..NewAccount::default()
    };
    match office.accounts.create(account).await {
        Ok((user_id, Some(session))) => Json(json!({
            "user_id": user_id,
            "home_server": office.accounts.server_name(),
            "access_token": session.access_token.expose(),
            "device_id": session.device_id,
        }))
        .into_response(),
        Ok((user_id, None)) => Json(json!({ "user_id": user_id })).into_response(),
        Err(error @ CreateError::NameTaken) => refusal(StatusCode::BAD_REQUEST, "M_USER_IN_USE", &error.to_string()),
        Err(error @ CreateError::Reserved) => refusal(StatusCode::BAD_REQUEST, "M_EXCLUSIVE", &error.to_string()),
        Err(error @ CreateError::Name(_)) => refusal(StatusCode::BAD_REQUEST, "M_INVALID_USERNAME", &error.to_string()),
        Err(error @ CreateError::Password(_)) => {
            refusal(StatusCode::BAD_REQUEST, "M_WEAK_PASSWORD", &error.to_string())
        }
        Err(error) => {
            tracing::warn!(reason = %error, "an account with shared secret was not made");
            refusal(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "The account could not be made")
        }
    }
}

fn is_proven(wanted: &Wanted, secret: &Secret) -> bool {
    let Ok(mac) = unhex(&wanted.mac) else { return false };
    let role = if wanted.admin { "admin" } else { "notadmin" };
    let mut parts = vec![wanted.nonce.as_str(), &wanted.username, &wanted.password, role];
    parts.extend(wanted.user_type.as_deref());
    let mut hmac = Hmac::<Sha1>::new_from_slice(secret.expose().as_bytes()).expect("a key may have any length");
    hmac.update(parts.join("\0").as_bytes());
    hmac.verify_slice(&mac).is_ok()
}

fn unhex(text: &str) -> Result<Vec<u8>, ()> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(());
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| ())).collect()
}

fn refusal(status: StatusCode, errcode: &str, error: &str) -> Response {
    let body: Value = json!({ "errcode": errcode, "error": error });
    (status, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(mac: &str) -> Wanted {
        let (nonce, username, password) = ("thisisanonce".into(), "pepper_roni".into(), "pizza".into());
        Wanted { nonce, username, password, admin: true, user_type: None, mac: mac.into() }
    }

    #[test]
    fn the_mac_proves_secret_nonce_and_account() {
        let mut hmac = Hmac::<Sha1>::new_from_slice(b"shared").expect("a key may have any length");
        hmac.update(b"thisisanonce\0pepper_roni\0pizza\0admin");
        let mac: String = hmac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(is_proven(&wanted(&mac), &"shared".into()));
        assert!(!is_proven(&wanted(&mac), &"other".into()));
        assert!(!is_proven(&Wanted { admin: false, ..wanted(&mac) }, &"shared".into()));
    }

    /// What is answered to an account that is asked for with a good mac.
    async fn asked(office: &Arc<Office>, name: &str, password: &str) -> (StatusCode, Value) {
        let bytes = async |response: Response| {
            let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
            serde_json::from_slice::<Value>(&bytes).expect("JSON")
        };
        let nonce = bytes(give_nonce(State(office.clone())).await).await["nonce"].clone();
        let nonce = nonce.as_str().expect("a nonce");
        let mut hmac = Hmac::<Sha1>::new_from_slice(b"shared").expect("a key may have any length");
        hmac.update(format!("{nonce}\0{name}\0{password}\0notadmin").as_bytes());
        let mac: String = hmac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let body = json!({ "nonce": nonce, "username": name, "password": password, "admin": false, "mac": mac });
        let answer = register(State(office.clone()), body.to_string().into()).await;
        (answer.status(), bytes(answer).await)
    }

    #[tokio::test]
    async fn neither_names_that_are_kept_nor_two_fields_in_one_make_an_account() {
        use koine_account::{AccountConfig, PasswordConfig};
        use ruma_common::{MilliSecondsSinceUnixEpoch, owned_server_name};

        let shard =
            koine_store::Shard::open(Arc::new(koine_store::MemoryEngine::new())).expect("an empty engine opens");
        let passwords = PasswordConfig { argon2_memory_kib: 8, argon2_passes: 1, scram_iterations: 4096 };
        let config = AccountConfig { passwords, ..AccountConfig::default() };
        let (clock, name) = (Arc::new(MilliSecondsSinceUnixEpoch::now), owned_server_name!("example.org"));
        let accounts = Accounts::new(shard, koine_store::DomainId(1), name, config, clock);
        accounts.reserve_names(|user| user.localpart().starts_with("irc_"));
        let office = Arc::new(Office { accounts, secret: "shared".into(), nonces: Mutex::default() });
        let (status, told) = asked(&office, "irc_bob", "pizza").await;
        assert_eq!((status, &told["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_EXCLUSIVE")));
        for (name, password) in [("pepper\0roni", "pizza"), ("pepper", "pizza\0admin")] {
            let (status, told) = asked(&office, name, password).await;
            assert_eq!((status, &told["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_INVALID_PARAM")));
        }
        let (status, told) = asked(&office, "pepper", "pizza").await;
        assert_eq!((status, &told["user_id"]), (StatusCode::OK, &json!("@pepper:example.org")));
    }

    #[test]
    fn odd_macs_prove_nothing() {
        for mac in ["", "0", "zz", "éé", "00"] {
            assert!(!is_proven(&wanted(mac), &"shared".into()), "{mac}");
        }
    }
}
