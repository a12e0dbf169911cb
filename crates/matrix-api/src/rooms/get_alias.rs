//! `GET /directory/room/{roomAlias}`: the room that an alias leads to.
//!
//! [CS-API §get_matrixclientv3directoryroomroomalias]

use axum::extract::State;
use ruma_client_api::alias::get_alias::v3;

use crate::{Api, Call, Result, Ruma};

pub async fn get_alias(State(api): State<Api>, call: Call<v3::Request>) -> Result<Ruma<v3::Response>> {
    let (room, servers) = super::find_alias(&api, &call.request.room_alias).await?;
    Ok(Ruma(v3::Response::new(room, servers)))
}
