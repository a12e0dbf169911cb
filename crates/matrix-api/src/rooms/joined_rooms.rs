//! `GET /joined_rooms`: the rooms somebody is in.
//!
//! [CS-API §get_matrixclientv3joined_rooms]

use axum::extract::State;
use ruma_client_api::membership::joined_rooms::v3;

use crate::{Api, Call, Result, Ruma};

pub async fn joined_rooms(State(api): State<Api>, call: Call<v3::Request>) -> Result<Ruma<v3::Response>> {
    Ok(Ruma(v3::Response::new(api.rooms.joined(&call.who.user_id)?)))
}
