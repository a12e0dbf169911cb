//! `PUT /rooms/{roomId}/typing/{userId}`: somebody is typing, or stopped.
//!
//! [CS-API §put_matrixclientv3roomsroomidtypinguserid]

use std::time::Duration;

use axum::extract::State;
use ruma_client_api::typing::create_typing_event::v3;
use ruma_common::{RoomId, UserId};
use serde::Deserialize;

use super::path;
use crate::{Api, Empty, Error, Loose, Result};

/// How long one notification lasts when nothing is said.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
pub struct Body {
    typing: bool,
    #[serde(default)]
    timeout: Option<u64>,
}

pub async fn set_typing(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Empty> {
    let room: &RoomId = path(&call.path, 0)?;
    let user: &UserId = path(&call.path, 1)?;
    if user != call.who.user_id {
        return Err(Error::forbidden("Only you yourself can say that you are typing"));
    }
    let time = call.body.timeout.map_or(TIMEOUT_DEFAULT, Duration::from_millis);
    api.rooms.set_typing(user, room, call.body.typing.then_some(time))?;
    api.accounts.presences().act(user, &call.who.device_id);
    Ok(Empty)
}
