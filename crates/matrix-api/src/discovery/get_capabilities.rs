//! `GET /capabilities`: what of the optional things can be done here.
//!
//! [CS-API §get_matrixclientv3capabilities]

use axum::extract::State;
use ruma_client_api::discovery::get_capabilities::v3;
use serde_json::{Map, Value, json};

use crate::{Api, Call, Json, Result};

/// Every version is stable: the unstable ones are those nobody implements. [RV §complete-list-of-room-versions]
const ROOM_VERSIONS: [&str; 12] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];

pub async fn get_capabilities(State(api): State<Api>, call: Call<v3::Request>) -> Result<Json<Value>> {
    let versions = ROOM_VERSIONS.iter().map(|version| ((*version).to_owned(), "stable".into()));
    let versions: Map<String, Value> = versions.collect();
    let mut answer = json!({
        "capabilities": {
            "m.change_password": { "enabled": true },
            "m.room_versions": { "default": api.config.default_room_version, "available": versions },
            "m.profile_fields": { "enabled": true },
            "m.set_displayname": { "enabled": true },
            "m.set_avatar_url": { "enabled": true },
            "m.3pid_changes": { "enabled": false },
            "m.get_login_token": { "enabled": true },
            "m.forget_forced_upon_leave": { "enabled": false },
        }
    });
    if call.who.is_admin {
        answer["capabilities"]["m.account_moderation"] = json!({ "lock": true, "suspend": true });
    }
    Ok(Json(answer))
}
