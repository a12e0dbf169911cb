//! `POST /rooms/{roomId}/unban`: letting somebody in again who was shut out.
//!
//! [CS-API §post_matrixclientv3roomsroomidunban]

use axum::extract::State;
use ruma_client_api::membership::unban_user::v3;
use ruma_common::{OwnedRoomId, OwnedUserId};
use serde::Deserialize;

use super::{path, permit};
use crate::{Api, Empty, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Body {
    user_id: OwnedUserId,
    #[serde(default)]
    reason: Option<String>,
}

pub async fn unban_user(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Empty> {
    let room: OwnedRoomId = path(&call.path, 0)?;
    call.who.not_suspended()?;
    permit(&api, &call.who)?;
    api.rooms.unban(&call.who.user_id, &room, &call.body.user_id, call.body.reason.as_deref()).await?;
    Ok(Empty)
}
