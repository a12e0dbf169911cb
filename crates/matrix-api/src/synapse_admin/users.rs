//! `/_synapse/admin/v2/users`: who is here, one of them, making and changing accounts.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{Method, StatusCode};
use koine_account::{CreateError, Flag, NewAccount, Secret, UserInfo};
use ruma_common::UserId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Asked, Page, Told, admin, known_user, user};
use crate::{
    Api, Endpoints, Error, Json, Result,
    follow::{deactivated, profile_changed},
    rooms::query,
};

/// Accounts read at once.
const BATCH: usize = 500;

pub(super) fn endpoints(endpoints: &mut Endpoints) {
    for version in ["v2", "v3"] {
        let path = format!("/_synapse/admin/{version}/users");
        endpoints.add_at("admin.users.list", Method::GET, &path, list);
    }
    let path = "/_synapse/admin/v2/users/{user_id}";
    endpoints.add_at("admin.users.get", Method::GET, path, get);
    endpoints.add_at("admin.users.put", Method::PUT, path, put);
}

#[derive(Debug, Deserialize)]
struct Filter {
    #[serde(default)]
    deactivated: bool,
    admins: Option<bool>,
    locked: Option<bool>,
    name: Option<String>,
    user_id: Option<String>,
    order_by: Option<String>,
    dir: Option<String>,
}

async fn list(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let (page, filter): (Page, Filter) = (query(&call.query)?, query(&call.query)?);
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let batch = api.accounts.users(after.as_deref(), BATCH)?;
        let Some(last) = batch.last() else { break };
        after = Some(last.user_id.localpart().to_owned());
        for info in batch {
            if filter.passes(&api, &info)? {
                found.push(info);
            }
        }
    }
    match filter.order_by.as_deref() {
        None | Some("name") => {}
        Some("admin") => found.sort_by_key(|user| user.is_admin),
        Some("deactivated") => found.sort_by_key(|user| user.is_deactivated),
        Some("creation_ts") => found.sort_by_key(|user| user.created),
        Some(other) => return Err(Error::invalid_param(format!("Users cannot be sorted by {other:?}"))),
    }
    if filter.dir.as_deref() == Some("b") {
        found.reverse();
    }
    let total = found.len();
    let (found, next) = page.of(found);
    let users = found.iter().map(|info| listed(&api, info)).collect::<Result<Vec<_>>>()?;
    let mut answer = json!({ "users": users, "total": total });
    if let Some(next) = next {
        answer["next_token"] = json!(next.to_string());
    }
    Ok(Json(answer))
}

impl Filter {
    fn passes(&self, api: &Api, info: &UserInfo) -> Result<bool> {
        let has = |text: &str, part: &str| text.to_lowercase().contains(&part.to_lowercase());
        let by_flags = (self.deactivated || !info.is_deactivated)
            && self.admins.is_none_or(|wanted| wanted == info.is_admin)
            && self.locked.is_none_or(|wanted| wanted || !info.is_locked)
            && self.user_id.as_ref().is_none_or(|part| has(info.user_id.as_str(), part));
        let Some(name) = self.name.as_ref().filter(|_| by_flags) else { return Ok(by_flags) };
        let (displayname, _) = api.accounts.display_profile(&info.user_id)?;
        Ok(has(info.user_id.localpart(), name) || displayname.is_some_and(|displayname| has(&displayname, name)))
    }
}

/// What a list and a single look have in common.
fn listed(api: &Api, info: &UserInfo) -> Result<Value> {
    let (displayname, avatar_url) = api.accounts.display_profile(&info.user_id)?;
    let seen = api.accounts.devices(&info.user_id)?.iter().map(|device| device.last_seen).max();
    Ok(json!({
        "name": info.user_id,
        "displayname": displayname,
        "avatar_url": avatar_url,
        "admin": info.is_admin,
        "deactivated": info.is_deactivated,
        "erased": info.is_erased,
        "locked": info.is_locked,
        "suspended": info.is_suspended,
        "shadow_banned": false,
        "approved": true,
        "is_guest": false,
        "user_type": null,
        "creation_ts": info.created,
        "last_seen_ts": seen,
    }))
}

/// One account, as a single look tells it.
fn shown(api: &Api, user: &UserId) -> Result<Value> {
    let info = api.accounts.user(user)?.ok_or_else(|| Error::not_found("User not found"))?;
    let mut shown = listed(api, &info)?;
    for (key, value) in [
        ("threepids", json!([])),
        ("external_ids", json!([])),
        ("appservice_id", Value::Null),
        ("consent_server_notice_sent", Value::Null),
        ("consent_version", Value::Null),
        ("consent_ts", Value::Null),
    ] {
        shown[key] = value;
    }
    Ok(shown)
}

async fn get(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let info = known_user(&api, &call.path, 0)?;
    Ok(Json(shown(&api, &info.user_id)?))
}

#[derive(Debug, Deserialize)]
struct Body {
    password: Option<Secret>,
    #[serde(default = "yes")]
    logout_devices: bool,
    #[serde(default, deserialize_with = "present")]
    displayname: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    avatar_url: Option<Option<String>>,
    admin: Option<bool>,
    deactivated: Option<bool>,
    locked: Option<bool>,
}

fn yes() -> bool {
    true
}

/// `null` is something else than nothing.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Option<String>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

async fn put(State(api): State<Api>, call: Told<Body>) -> Result<Response> {
    let who = admin(&call.who)?.to_owned();
    let user = user(&api, &call.path, 0)?;
    let body = call.body;
    let is_new = api.accounts.user(&user)?.is_none();
    if !is_new && user == who && (body.deactivated == Some(true) || body.admin == Some(false)) {
        return Err(Error::forbidden("You may not demote yourself"));
    }
    if is_new {
        let new = NewAccount {
            name: Some(user.localpart().to_owned()),
            password: body.password,
            is_admin: body.admin.unwrap_or(false),
            ..NewAccount::default()
        };
        let (made, _) = api.accounts.create(new).await?;
        if made != user {
            return Err(CreateError::NameTaken.into());
        }
    } else {
        if body.deactivated == Some(false) && api.accounts.user(&user)?.is_some_and(|info| info.is_deactivated) {
            return Err(Error::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "A closed account cannot be opened again"));
        }
        if let Some(password) = body.password {
            api.accounts.set_password(&user, password).await?;
            if body.logout_devices {
                api.accounts.delete_devices_except(&user, None).await?;
            }
        }
        if let Some(is_admin) = body.admin {
            api.accounts.set_flag(&user, Flag::Admin, is_admin).await?;
        }
    }
    for (key, value) in [("displayname", body.displayname), ("avatar_url", body.avatar_url)] {
        match value {
            Some(Some(value)) if !value.is_empty() => {
                api.accounts.set_profile_field(&user, key, value.into()).await?;
            }
            Some(_) => api.accounts.delete_profile_field(&user, key).await?,
            None => continue,
        }
        profile_changed(&api, &user).await?;
    }
    if let Some(locked) = body.locked {
        api.accounts.set_flag(&user, Flag::Locked, locked).await?;
    }
    if body.deactivated == Some(true) {
        api.accounts.deactivate(&user, false).await?;
        deactivated(&api, &user).await?;
    }
    tracing::info!(user_id = %user, admin = %who, is_new, "an account was made or changed by an admin");
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(shown(&api, &user)?).into_response()).into_response())
}
