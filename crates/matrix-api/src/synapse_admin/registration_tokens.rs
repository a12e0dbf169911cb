//! `/_synapse/admin/v1/registration_tokens`: who may make an account where not everybody may.

use axum::extract::State;
use http::{Method, StatusCode};
use koine_account::{CreateTokenError, RegistrationToken};
use ruma_common::MilliSecondsSinceUnixEpoch;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use super::{Asked, Told, admin};
use crate::{Api, Empty, Endpoints, Error, Json, Result, rooms::query};

/// How long a token is that is made up, if nothing else is said.
const LENGTH_DEFAULT: usize = 16;

pub(super) fn endpoints(endpoints: &mut Endpoints) {
    let all = "/_synapse/admin/v1/registration_tokens";
    let one = "/_synapse/admin/v1/registration_tokens/{token}";
    endpoints.add_at("admin.tokens.list", Method::GET, all, list);
    endpoints.add_at("admin.tokens.new", Method::POST, &format!("{all}/new"), new);
    endpoints.add_at("admin.tokens.get", Method::GET, one, get);
    endpoints.add_at("admin.tokens.put", Method::PUT, one, put);
    endpoints.add_at("admin.tokens.delete", Method::DELETE, one, delete);
}

fn shown(token: &RegistrationToken) -> Value {
    json!({
        "token": token.token,
        "uses_allowed": token.uses_allowed,
        "pending": token.pending,
        "completed": token.completed,
        "expiry_time": token.expires_ms,
    })
}

fn find(api: &Api, token: &str) -> Result<RegistrationToken> {
    let found = api.accounts.registration_tokens()?.into_iter().find(|known| known.token == token);
    found.ok_or_else(|| Error::not_found(format!("No such registration token: {token}")))
}

#[derive(Debug, Deserialize)]
struct Filter {
    valid: Option<bool>,
}

async fn list(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let filter: Filter = query(&call.query)?;
    let mut found = Vec::new();
    for token in api.accounts.registration_tokens()? {
        if filter.valid.is_none() || filter.valid == Some(api.accounts.is_registration_token_valid(&token.token)?) {
            found.push(shown(&token));
        }
    }
    Ok(Json(json!({ "registration_tokens": found })))
}

async fn get(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    Ok(Json(shown(&find(&api, &call.path[0])?)))
}

#[derive(Debug, Default, Deserialize)]
struct Wanted {
    token: Option<String>,
    length: Option<usize>,
    uses_allowed: Option<u64>,
    expiry_time: Option<u64>,
}

async fn new(State(api): State<Api>, call: Told<Wanted>) -> Result<Json<Value>> {
    admin(&call.who)?;
    let wanted = call.body;
    let length = wanted.length.unwrap_or(LENGTH_DEFAULT);
    if length == 0 || length > koine_account::REGISTRATION_TOKEN_BYTES_MAX {
        return Err(Error::invalid_param("`length` is a number from 1 to 64"));
    }
    check_expiry(wanted.expiry_time)?;
    let token = wanted.token.unwrap_or_else(|| random_token(length));
    let made = api.accounts.create_registration_token(Some(token), wanted.uses_allowed, wanted.expiry_time).await;
    let token = made.map_err(|error| match error {
        CreateTokenError::Store(error) => error.into(),
        other => Error::invalid_param(other.to_string()),
    })?;
    Ok(Json(shown(&find(&api, &token)?)))
}

fn random_token(length: usize) -> String {
    use rand::{Rng as _, distr::Alphanumeric};
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

fn check_expiry(expires_ms: Option<u64>) -> Result<()> {
    let now: u64 = MilliSecondsSinceUnixEpoch::now().get().into();
    match expires_ms.is_some_and(|moment| moment < now) {
        true => Err(Error::invalid_param("`expiry_time` is in the past")),
        false => Ok(()),
    }
}

/// What is said changes, also to "without limit"; the rest stays.
async fn put(State(api): State<Api>, call: Told<Value>) -> Result<Json<Value>> {
    admin(&call.who)?;
    let mut token = find(&api, &call.path[0])?;
    let number = |key: &str| -> Result<Option<Option<u64>>> {
        match call.body.get(key) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(value) => {
                let number = value.as_u64().ok_or_else(|| Error::invalid_param(format!("`{key}` is a number or null")));
                number.map(|number| Some(Some(number)))
            }
        }
    };
    let (uses, expiry) = (number("uses_allowed")?, number("expiry_time")?);
    check_expiry(expiry.flatten())?;
    token.uses_allowed = uses.unwrap_or(token.uses_allowed);
    token.expires_ms = expiry.unwrap_or(token.expires_ms);
    let changed = api.accounts.update_registration_token(&token.token, token.uses_allowed, token.expires_ms).await?;
    match changed {
        true => Ok(Json(shown(&token))),
        false => Err(Error::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", "The registration token was just deleted")),
    }
}

async fn delete(State(api): State<Api>, call: Told<IgnoredAny>) -> Result<Empty> {
    admin(&call.who)?;
    find(&api, &call.path[0])?;
    api.accounts.delete_registration_token(&call.path[0]).await?;
    Ok(Empty)
}
