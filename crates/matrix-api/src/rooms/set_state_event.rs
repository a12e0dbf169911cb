//! `PUT /rooms/{roomId}/state/{eventType}/{stateKey}`: setting a piece of a room's state.
//!
//! [CS-API §put_matrixclientv3roomsroomidstateeventtypestatekey]

use axum::extract::State;
use ruma_client_api::state::send_state_event::v3;
use ruma_common::RoomId;
use serde_json::{Value, json};

use super::{content, path, permit, sender};
use crate::{Api, Checked, Json, Loose, Result};

pub async fn set_state_event(State(api): State<Api>, call: Loose<v3::Request, Checked>) -> Result<Json<Value>> {
    let room: &RoomId = path(&call.path, 0)?;
    let (kind, state_key) = (call.path[1].as_str(), call.path[2].as_str());
    permit(&api, &call.who)?;
    let content = content(&call.body.0)?;
    let event_id = api.rooms.set_state(sender(&call.who), room, kind, state_key, content).await?;
    Ok(Json(json!({ "event_id": event_id })))
}
