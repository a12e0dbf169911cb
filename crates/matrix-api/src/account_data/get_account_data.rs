//! `GET /user/{userId}/account_data/{type}`, and the same for a room.
//!
//! [CS-API §get_matrixclientv3useruseridaccount_datatype]
//! [CS-API §get_matrixclientv3useruseridroomsroomidaccount_datatype]

use axum::extract::State;
use ruma_client_api::config::{get_global_account_data, get_room_account_data};
use ruma_common::{RoomId, UserId};

use super::is_own;
use crate::{Api, Call, Error, Raw, Result, User};

pub async fn get_global(State(api): State<Api>, call: Call<get_global_account_data::v3::Request>) -> Result<Raw> {
    get(&api, &call.who, &call.request.user_id, None, &call.request.event_type.to_string())
}

pub async fn get_in_room(State(api): State<Api>, call: Call<get_room_account_data::v3::Request>) -> Result<Raw> {
    let request = &call.request;
    get(&api, &call.who, &request.user_id, Some(&request.room_id), &request.event_type.to_string())
}

fn get(api: &Api, who: &User, user_id: &UserId, room_id: Option<&RoomId>, kind: &str) -> Result<Raw> {
    is_own(who, user_id)?;
    let mut content = api.accounts.account_data(user_id, room_id, kind)?;
    // Everybody has push rules: those that all begin with are stored nowhere.
    if content.is_none() && room_id.is_none() && kind == "m.push_rules" {
        content = Some(api.push.content(user_id)?);
    }
    Ok(Raw(content.ok_or_else(|| Error::not_found("There is no account data of this type"))?.into()))
}
