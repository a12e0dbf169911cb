//! `POST /rooms/{roomId}/forget`: a room that was left is not to be shown any more.
//!
//! [CS-API §post_matrixclientv3roomsroomidforget]

use axum::extract::State;
use http::StatusCode;
use koine_room::CommandError;
use ruma_client_api::membership::forget_room::v3;
use ruma_common::OwnedRoomId;
use serde::de::IgnoredAny;

use super::path;
use crate::{Api, Empty, Error, Loose, Result};

pub async fn forget_room(State(api): State<Api>, call: Loose<v3::Request, IgnoredAny>) -> Result<Empty> {
    let room: OwnedRoomId = path(&call.path, 0)?;
    match api.rooms.forget(&call.who.user_id, &room).await {
        Ok(()) => Ok(Empty),
        // The one place where being in the room is the mistake.
        Err(error @ CommandError::Forbidden(_)) => {
            Err(Error::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}
