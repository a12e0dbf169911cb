//! `GET /rooms/{roomId}/event/{eventId}`: one event.
//!
//! [CS-API §get_matrixclientv3roomsroomideventeventid]

use axum::extract::State;
use koine_graph::ClientForm;
use koine_room::{ReadError, Viewer};
use ruma_client_api::room::get_room_event::v3;

use super::known_room;
use crate::{
    Api, Call, Raw, Result,
    event::{Ignored, Shown},
};

pub async fn get_event(State(api): State<Api>, call: Call<v3::Request>) -> Result<Raw> {
    let room = known_room(&api, &call.request.room_id)?;
    let placed = room.event(&call.request.event_id)?.ok_or(ReadError::NoSuchEvent)?;
    let mut viewer = Viewer::new(&room, &call.who.user_id)?;
    if !viewer.may_see(&placed)? {
        return Err(ReadError::NoSuchEvent.into());
    }
    let ignored = Ignored::of(&api, &call.who)?;
    let shown = Shown { who: &call.who, room: &room, form: ClientForm::Full, bundles: true, ignored: &ignored };
    Ok(Raw(shown.to_bytes(&placed, &mut viewer)?.into()))
}
