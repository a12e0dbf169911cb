//! `GET /rooms/{roomId}/state`: the whole state of a room.
//!
//! [CS-API §get_matrixclientv3roomsroomidstate]

use axum::extract::State;
use koine_graph::ClientForm;
use koine_room::{Root, Viewer};
use ruma_client_api::state::get_state_events::v3;

use super::room;
use crate::{
    Api, Call, Raw, Result,
    event::{Ignored, Shown},
};

pub async fn get_state(State(api): State<Api>, call: Call<v3::Request>) -> Result<Raw> {
    let room = room(&api, &call.request.room_id)?;
    let mut viewer = Viewer::new(&room, &call.who.user_id)?;
    let state = room.state_changes(Root::EMPTY, viewer.state()?, |_, _| true)?;
    let ignored = Ignored::default();
    let shown = Shown { who: &call.who, room: &room, form: ClientForm::Full, bundles: false, ignored: &ignored };
    let mut out = Vec::with_capacity(1024 * state.len().min(64));
    shown.write_list(&state, &mut viewer, &mut out)?;
    Ok(Raw(out.into()))
}
