//! What admins do with one account: closing it, its password, its power, logging in as it; and where it is.

use axum::extract::State;
use http::{Method, StatusCode};
use koine_account::{Flag, NewSession, Secret};
use ruma_common::OwnedUserId;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{Asked, Told, admin, known_user, user};
use crate::{Api, Empty, Endpoints, Error, Json, Result, admin::sessions, follow::deactivated, rooms::query};

pub(super) fn endpoints(endpoints: &mut Endpoints) {
    let add = "/_synapse/admin/v1";
    let path = |tail: &str| format!("{add}{tail}");
    endpoints.add_at("admin.users.deactivate", Method::POST, &path("/deactivate/{user_id}"), deactivate);
    endpoints.add_at("admin.users.reset_password", Method::POST, &path("/reset_password/{user_id}"), reset_password);
    endpoints.add_at("admin.users.is_admin", Method::GET, &path("/users/{user_id}/admin"), is_admin);
    endpoints.add_at("admin.users.set_admin", Method::PUT, &path("/users/{user_id}/admin"), set_admin);
    endpoints.add_at("admin.users.suspend", Method::PUT, &path("/suspend/{user_id}"), suspend);
    endpoints.add_at("admin.users.login", Method::POST, &path("/users/{user_id}/login"), login);
    endpoints.add_at("admin.users.joined_rooms", Method::GET, &path("/users/{user_id}/joined_rooms"), joined_rooms);
    endpoints.add_at("admin.users.account_data", Method::GET, &path("/users/{user_id}/accountdata"), account_data);
    endpoints.add_at("admin.users.whois", Method::GET, &path("/whois/{user_id}"), whois);
    endpoints.add_at("admin.users.is_available", Method::GET, &path("/username_available"), username_available);
}

#[derive(Debug, Default, Deserialize)]
struct Deactivation {
    #[serde(default)]
    erase: bool,
}

async fn deactivate(State(api): State<Api>, call: Told<Deactivation>) -> Result<Json<Value>> {
    let who = admin(&call.who)?;
    let user = known_user(&api, &call.path, 0)?.user_id;
    api.accounts.deactivate(&user, call.body.erase).await?;
    deactivated(&api, &user).await?;
    tracing::info!(user_id = %user, admin = %who, "account closed by an admin");
    Ok(Json(json!({ "id_server_unbind_result": "success" })))
}

#[derive(Debug, Deserialize)]
struct NewPassword {
    new_password: Option<Secret>,
    #[serde(default = "yes")]
    logout_devices: bool,
}

fn yes() -> bool {
    true
}

async fn reset_password(State(api): State<Api>, call: Told<NewPassword>) -> Result<Empty> {
    let who = admin(&call.who)?;
    let password = call.body.new_password.ok_or_else(|| Error::missing_param("`new_password` is missing"))?;
    let user = known_user(&api, &call.path, 0)?.user_id;
    api.accounts.set_password(&user, password).await?;
    if call.body.logout_devices {
        api.accounts.delete_devices_except(&user, None).await?;
    }
    tracing::info!(user_id = %user, admin = %who, "password set by an admin");
    Ok(Empty)
}

async fn is_admin(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    Ok(Json(json!({ "admin": known_user(&api, &call.path, 0)?.is_admin })))
}

#[derive(Debug, Deserialize)]
struct Power {
    admin: bool,
}

async fn set_admin(State(api): State<Api>, call: Told<Power>) -> Result<Empty> {
    let who = admin(&call.who)?;
    let user = known_user(&api, &call.path, 0)?.user_id;
    if user == *who && !call.body.admin {
        return Err(Error::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "You may not demote yourself"));
    }
    api.accounts.set_flag(&user, Flag::Admin, call.body.admin).await?;
    tracing::info!(user_id = %user, admin = %who, is_admin = call.body.admin, "an admin was made or unmade");
    Ok(Empty)
}

#[derive(Debug, Deserialize)]
struct Suspension {
    suspend: bool,
}

async fn suspend(State(api): State<Api>, call: Told<Suspension>) -> Result<Json<Value>> {
    admin(&call.who)?;
    let user = known_user(&api, &call.path, 0)?.user_id;
    api.accounts.set_flag(&user, Flag::Suspended, call.body.suspend).await?;
    Ok(Json(json!({ format!("user_{user}_suspended"): call.body.suspend })))
}

#[derive(Debug, Default, Deserialize)]
struct Login {
    valid_until_ms: Option<u64>,
}

/// A session of somebody else, with a device that says whose it is. It lasts until somebody logs it out.
async fn login(State(api): State<Api>, call: Told<Login>) -> Result<Json<Value>> {
    let who = admin(&call.who)?;
    if call.body.valid_until_ms.is_some() {
        return Err(Error::invalid_param("`valid_until_ms` is not known here: log the session out instead"));
    }
    let user = known_user(&api, &call.path, 0)?.user_id;
    if user == *who {
        return Err(Error::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "You are logged in as yourself already"));
    }
    let wanted = NewSession { device_name: Some(format!("Admin {who}")), ..NewSession::default() };
    let session = api.accounts.start_session(&user, wanted).await?;
    tracing::warn!(user_id = %user, admin = %who, "an admin logged in as somebody else");
    Ok(Json(json!({ "access_token": session.access_token.expose() })))
}

async fn joined_rooms(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let user = user(&api, &call.path, 0)?;
    let rooms = api.rooms.joined(&user)?;
    Ok(Json(json!({ "joined_rooms": rooms, "total": rooms.len() })))
}

async fn account_data(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let user = known_user(&api, &call.path, 0)?.user_id;
    let (mut global, mut rooms) = (Map::new(), Map::new());
    for data in api.accounts.global_account_data_after(&user, None)? {
        global.insert(data.kind, content(&data.content)?);
    }
    for data in api.accounts.room_account_data_after(&user, None)? {
        let room = rooms.entry(data.room_id.to_string()).or_insert_with(|| json!({}));
        room[&data.kind] = content(&data.content)?;
    }
    Ok(Json(json!({ "account_data": { "global": global, "rooms": rooms } })))
}

fn content(json: &str) -> Result<Value> {
    let raw: &RawValue = serde_json::from_str(json).map_err(Error::internal)?;
    serde_json::from_str(raw.get()).map_err(Error::internal)
}

async fn whois(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    let user: OwnedUserId = user(&api, &call.path, 0)?;
    if call.who.user_id != user {
        admin(&call.who)?;
    }
    Ok(Json(sessions(&api, &user)?))
}

#[derive(Debug, Deserialize)]
struct Name {
    username: String,
}

async fn username_available(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let name: Name = query(&call.query)?;
    api.accounts.check_name(&name.username)?;
    Ok(Json(json!({ "available": true })))
}
