//! `GET /events/{eventId}`: one event, in whatever room.
//!
//! [CS-API §get_matrixclientv3eventseventid]

use axum::extract::State;
use koine_graph::ClientForm;
use koine_room::{ReadError, Viewer};
use ruma_common::EventId;
use serde::de::IgnoredAny;

use super::GetEvent;
use crate::{
    Api, Loose, Raw, Result,
    event::{Ignored, Shown},
    rooms::path,
};

pub async fn get_event(State(api): State<Api>, call: Loose<GetEvent, IgnoredAny>) -> Result<Raw> {
    let id: &EventId = path(&call.path, 0)?;
    let (room, placed) = api.rooms.find_event(id)?.ok_or(ReadError::NoSuchEvent)?;
    let mut viewer = Viewer::new(&room, &call.who.user_id)?;
    if !viewer.may_see(&placed)? {
        return Err(ReadError::NoSuchEvent.into());
    }
    let ignored = Ignored::of(&api, &call.who)?;
    let shown = Shown { who: &call.who, room: &room, form: ClientForm::Full, bundles: false, ignored: &ignored };
    Ok(Raw(shown.to_bytes(&placed, &mut viewer)?.into()))
}
