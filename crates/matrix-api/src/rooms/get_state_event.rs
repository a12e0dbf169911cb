//! `GET /rooms/{roomId}/state/{eventType}/{stateKey}`: one piece of a room's state.
//!
//! [CS-API §get_matrixclientv3roomsroomidstateeventtypestatekey]

use axum::extract::State;
use bytes::Bytes;
use koine_graph::ClientForm;
use koine_room::Viewer;
use ruma_client_api::state::get_state_event_for_key::v3;
use ruma_common::RoomId;
use serde::{Deserialize, de::IgnoredAny};

use super::{path, query, room};
use crate::{
    Api, Error, Loose, Raw, Result,
    event::{Ignored, Shown},
};

#[derive(Debug, Deserialize)]
struct Query {
    #[serde(default)]
    format: Format,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Content,
    Event,
}

pub async fn get_state_event(State(api): State<Api>, call: Loose<v3::Request, IgnoredAny>) -> Result<Raw> {
    let id: &RoomId = path(&call.path, 0)?;
    let (kind, state_key) = (call.path[1].as_str(), call.path[2].as_str());
    let query: Query = query(&call.query)?;
    let room = room(&api, id)?;
    let mut viewer = Viewer::new(&room, &call.who.user_id)?;
    let state = viewer.state()?;
    let Some(placed) = room.state_event(state, kind, state_key)? else {
        return Err(Error::not_found(format!("The room has no state of type {kind:?} with the key {state_key:?}")));
    };
    if query.format == Format::Content {
        return Ok(Raw(Bytes::copy_from_slice(placed.event.content().get().as_bytes())));
    }
    let ignored = Ignored::default();
    let shown = Shown { who: &call.who, room: &room, form: ClientForm::Full, bundles: false, ignored: &ignored };
    Ok(Raw(shown.to_bytes(&placed, &mut viewer)?.into()))
}
