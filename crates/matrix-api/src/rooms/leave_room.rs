//! `POST /rooms/{roomId}/leave`: leaving a room, or refusing an invitation.
//!
//! [CS-API §post_matrixclientv3roomsroomidleave]

use axum::extract::State;
use ruma_client_api::membership::leave_room::v3;
use ruma_common::OwnedRoomId;
use serde::Deserialize;

use super::path;
use crate::{Api, Empty, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Body {
    #[serde(default)]
    reason: Option<String>,
}

pub async fn leave_room(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Empty> {
    let room: OwnedRoomId = path(&call.path, 0)?;
    api.rooms.leave(&call.who.user_id, &room, call.body.reason.as_deref()).await?;
    Ok(Empty)
}
