//! `POST /rooms/{roomId}/leave`: leaving a room, or refusing an invitation.
//!
//! [CS-API §post_matrixclientv3roomsroomidleave]

use axum::extract::State;
use http::StatusCode;
use koine_room::Membership;
use ruma_client_api::membership::leave_room::v3;
use ruma_common::{OwnedRoomId, RoomId};
use serde::Deserialize;

use super::path;
use crate::{Api, Empty, Error, Loose, Result, User, own_requests::About, synapse_admin::notices_user};

#[derive(Debug, Deserialize)]
pub struct Body {
    #[serde(default)]
    reason: Option<String>,
}

pub async fn leave_room(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Empty> {
    let room: OwnedRoomId = path(&call.path, 0)?;
    if is_invited_by_the_server(&api, &call.who, &room)? {
        let message = "An invitation to the room of server notices cannot be refused";
        return Err(Error::new(StatusCode::FORBIDDEN, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM", message));
    }
    let _under_way = api.own_requests().begin(&call.who, About::Room);
    api.rooms.leave(&call.who.user_id, &room, call.body.reason.as_deref()).await?;
    Ok(Empty)
}

/// [CS-API §server-notices]
fn is_invited_by_the_server(api: &Api, who: &User, room: &RoomId) -> Result<bool> {
    let Ok(room) = api.rooms.room(room) else { return Ok(false) };
    let invited = room.local_record(&who.user_id).filter(|record| record.membership == Membership::Invite);
    let Some(record) = invited else { return Ok(false) };
    let invitation = room.event_at(record.order)?;
    Ok(invitation.is_some_and(|invitation| invitation.event.sender() == notices_user(api)))
}
