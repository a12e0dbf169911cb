//! `GET /admin/whois/{userId}`: from where an account is used. For admins, and for its owner.
//!
//! [CS-API §get_matrixclientv3adminwhoisuserid] Programs of users are not noted, so `user_agent` is not told.

use axum::extract::State;
use ruma_client_api::admin::get_user_info::v3;
use ruma_common::UserId;
use serde_json::{Map, Value, json};

use super::{account, admins_only};
use crate::{Api, Call, Json, Result};

pub async fn whois(State(api): State<Api>, call: Call<v3::Request>) -> Result<Json<Value>> {
    let user = &call.request.user_id;
    if call.who.user_id != *user {
        admins_only(&call.who)?;
    }
    let user = account(&api, user)?.user_id;
    Ok(Json(sessions(&api, &user)?))
}

/// The devices of an account, with where and when each was last seen.
pub(crate) fn sessions(api: &Api, user: &UserId) -> Result<Value> {
    let mut devices = Map::new();
    for device in api.accounts.devices(user)? {
        let mut connection = json!({ "last_seen": device.last_seen });
        if let Some(address) = device.last_seen_ip {
            connection["ip"] = address.into();
        }
        devices.insert(device.device_id.into(), json!({ "sessions": [{ "connections": [connection] }] }));
    }
    Ok(json!({ "user_id": user, "devices": devices }))
}
