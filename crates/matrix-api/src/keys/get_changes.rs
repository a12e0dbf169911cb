//! `GET /keys/changes`: whose keys changed between two answers of `/sync`.
//!
//! [CS-API §get_matrixclientv3keyschanges]

use axum::extract::State;
use ruma_client_api::keys::get_key_changes::v3;

use super::DeviceLists;
use crate::{Api, Call, Json, Result};

pub async fn get_changes(State(api): State<Api>, call: Call<v3::Request>) -> Result<Json<DeviceLists>> {
    let from = api.tokens().parse_sync(&call.request.from)?;
    // Nothing newer than now can be told of, and the change that comes behind `to` hides the one before it: both are
    // in what changed until now, which is at most too much.
    api.tokens().parse_sync(&call.request.to)?;
    let position = api.rooms.shard().position();
    api.rooms.hub().reached(position).await;
    let now = api.tokens().now(position, api.rooms.hub().fleeting());
    let rooms = api.rooms.memberships(&call.who.user_id)?;
    Ok(Json(DeviceLists::between(&api, &call.who.user_id, (from, now), &rooms, true)?))
}
