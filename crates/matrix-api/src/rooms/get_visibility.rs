//! `GET /directory/list/room/{roomId}`: whether a room is in the public list.
//!
//! [CS-API §get_matrixclientv3directorylistroomroomid]

use axum::extract::State;
use ruma_client_api::directory::get_room_visibility::v3;
use serde_json::{Value, json};

use super::known_room;
use crate::{Api, Call, Json, Result};

pub async fn get_visibility(State(api): State<Api>, call: Call<v3::Request>) -> Result<Json<Value>> {
    let room = known_room(&api, &call.request.room_id)?;
    let visibility = if api.rooms.is_listed(room.id())? { "public" } else { "private" };
    Ok(Json(json!({ "visibility": visibility })))
}
