//! `PUT /directory/list/room/{roomId}`: putting a room into the public list, or taking it out.
//!
//! [CS-API §put_matrixclientv3directorylistroomroomid]

use axum::extract::State;
use ruma_client_api::directory::set_room_visibility::v3;
use ruma_common::OwnedRoomId;
use serde::Deserialize;

use super::path;
use crate::{Api, Empty, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Body {
    #[serde(default)]
    visibility: Visibility,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Visibility {
    #[default]
    Public,
    Private,
}

pub async fn set_visibility(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Empty> {
    let room: OwnedRoomId = path(&call.path, 0)?;
    api.rooms.set_listed(&call.who.user_id, &room, call.body.visibility == Visibility::Public).await?;
    Ok(Empty)
}
