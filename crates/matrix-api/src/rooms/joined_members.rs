//! `GET /rooms/{roomId}/joined_members`: who is in a room, with their profiles.
//!
//! [CS-API §get_matrixclientv3roomsroomidjoined_members]

use axum::extract::State;
use koine_room::{Membership, ReadError};
use ruma_client_api::membership::joined_members::v3;
use serde_json::{Map, Value, json};

use super::{room, until_whole};
use crate::{Api, Call, Json, Result};

pub async fn joined_members(State(api): State<Api>, call: Call<v3::Request>) -> Result<Json<Value>> {
    let room = room(&api, &call.request.room_id)?;
    if room.local_membership(&call.who.user_id) != Some(Membership::Join) {
        return Err(ReadError::NotJoined.into());
    }
    until_whole(&room).await?;
    // Both keys always: clients and test suites look for them also where a member has neither name nor picture.
    let joined = room.joined_members()?.into_iter().map(|(user, profile)| {
        (user.to_string(), json!({ "display_name": profile.displayname, "avatar_url": profile.avatar_url }))
    });
    Ok(Json(json!({ "joined": joined.collect::<Map<String, Value>>() })))
}
