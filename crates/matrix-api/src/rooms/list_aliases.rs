//! `GET /rooms/{roomId}/aliases`: the aliases of this server that lead to a room.
//!
//! [CS-API §get_matrixclientv3roomsroomidaliases]

use axum::extract::State;
use koine_room::{ReadError, Viewer};
use ruma_client_api::room::aliases::v3;

use super::room;
use crate::{Api, Call, Result, Ruma};

pub async fn list_aliases(State(api): State<Api>, call: Call<v3::Request>) -> Result<Ruma<v3::Response>> {
    let room = room(&api, &call.request.room_id)?;
    let mut viewer = Viewer::new(&room, &call.who.user_id)?;
    if !viewer.is_joined() && !viewer.is_world_readable()? {
        return Err(ReadError::NotJoined.into());
    }
    Ok(Ruma(v3::Response::new(api.rooms.aliases(room.id())?)))
}
