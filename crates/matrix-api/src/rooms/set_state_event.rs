//! `PUT /rooms/{roomId}/state/{eventType}/{stateKey}`: setting a piece of a room's state.
//!
//! [CS-API §put_matrixclientv3roomsroomidstateeventtypestatekey]

use axum::extract::State;
use ruma_client_api::state::send_state_event::v3;
use ruma_common::RoomId;
use serde_json::{Value, json};

use super::{content, path, permit, sender, upgrade_room::take_along};
use crate::{Api, Checked, Json, Loose, Result};

pub async fn set_state_event(State(api): State<Api>, call: Loose<v3::Request, Checked>) -> Result<Json<Value>> {
    let room: &RoomId = path(&call.path, 0)?;
    let (kind, state_key) = (call.path[1].as_str(), call.path[2].as_str());
    call.who.not_suspended()?;
    permit(&api, &call.who)?;
    let content = content(&call.body.0)?;
    let event_id = api.rooms.set_state(sender(&call.who), room, kind, state_key, content).await?;
    if kind == "m.room.tombstone" {
        let fields: Value = serde_json::from_str(content.get()).unwrap_or_default();
        if let Some(replacement) = fields["replacement_room"].as_str().and_then(|id| <&RoomId>::try_from(id).ok()) {
            take_along(&api, replacement).await;
        }
    }
    Ok(Json(json!({ "event_id": event_id })))
}
