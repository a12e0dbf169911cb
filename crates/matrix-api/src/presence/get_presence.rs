//! `GET /presence/{userId}/status`: whether somebody is there.
//!
//! [CS-API §get_matrixclientv3presenceuseridstatus]

use axum::extract::State;
use ruma_client_api::presence::get_presence::v3;
use serde_json::Value;

use super::content;
use crate::{Api, Call, Error, Json, Result};

pub async fn get_presence(State(api): State<Api>, call: Call<v3::Request>) -> Result<Json<Value>> {
    let user = &call.request.user_id;
    // The same answer for people who do not exist: whether they do is not for strangers to know.
    if !api.rooms.contacts(&call.who.user_id)?.contains(user)? {
        return Err(Error::forbidden("You share no room with this user"));
    }
    Ok(Json(content(&api.accounts.presences().get(user).unwrap_or_default())))
}
