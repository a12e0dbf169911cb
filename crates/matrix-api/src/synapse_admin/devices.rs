//! `/_synapse/admin/v2/users/{userId}/devices`: on what somebody is logged in.

use axum::extract::State;
use http::Method;
use koine_account::Device;
use ruma_common::{OwnedDeviceId, UserId};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use super::{Asked, Told, admin, known_user};
use crate::{Api, Empty, Endpoints, Error, Json, Result};

/// Most devices deleted by one request.
const DELETED_MAX: usize = 1_000;

pub(super) fn endpoints(endpoints: &mut Endpoints) {
    let all = "/_synapse/admin/v2/users/{user_id}/devices";
    let one = "/_synapse/admin/v2/users/{user_id}/devices/{device_id}";
    endpoints.add_at("admin.devices.list", Method::GET, all, list);
    endpoints.add_at("admin.devices.get", Method::GET, one, get);
    endpoints.add_at("admin.devices.put", Method::PUT, one, put);
    endpoints.add_at("admin.devices.delete", Method::DELETE, one, delete);
    let path = "/_synapse/admin/v2/users/{user_id}/delete_devices";
    endpoints.add_at("admin.devices.delete_many", Method::POST, path, delete_many);
}

fn shown(user: &UserId, device: &Device) -> Value {
    json!({
        "user_id": user,
        "device_id": device.device_id,
        "display_name": device.display_name,
        "last_seen_ip": device.last_seen_ip,
        "last_seen_ts": device.last_seen,
        "last_seen_user_agent": null,
    })
}

async fn list(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let user = known_user(&api, &call.path, 0)?.user_id;
    let devices: Vec<Value> = api.accounts.devices(&user)?.iter().map(|device| shown(&user, device)).collect();
    Ok(Json(json!({ "devices": devices, "total": devices.len() })))
}

async fn get(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let user = known_user(&api, &call.path, 0)?.user_id;
    let device = api.accounts.device(&user, call.path[1].as_str().into())?;
    Ok(Json(shown(&user, &device.ok_or_else(|| Error::not_found("No device found"))?)))
}

#[derive(Debug, Default, Deserialize)]
struct Name {
    display_name: Option<String>,
}

async fn put(State(api): State<Api>, call: Told<Name>) -> Result<Empty> {
    admin(&call.who)?;
    let user = known_user(&api, &call.path, 0)?.user_id;
    if let Some(name) = call.body.display_name {
        api.accounts.rename_device(&user, call.path[1].as_str().into(), name).await?;
    }
    Ok(Empty)
}

async fn delete(State(api): State<Api>, call: Told<IgnoredAny>) -> Result<Empty> {
    admin(&call.who)?;
    let user = known_user(&api, &call.path, 0)?.user_id;
    api.accounts.delete_devices(&user, vec![call.path[1].as_str().into()]).await?;
    Ok(Empty)
}

#[derive(Debug, Deserialize)]
struct Devices {
    devices: Vec<OwnedDeviceId>,
}

async fn delete_many(State(api): State<Api>, call: Told<Devices>) -> Result<Empty> {
    admin(&call.who)?;
    let user = known_user(&api, &call.path, 0)?.user_id;
    if call.body.devices.len() > DELETED_MAX {
        return Err(Error::invalid_param(format!("At most {DELETED_MAX} devices can be deleted at once")));
    }
    api.accounts.delete_devices(&user, call.body.devices).await?;
    Ok(Empty)
}
