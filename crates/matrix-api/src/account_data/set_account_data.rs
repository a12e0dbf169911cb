//! `PUT /user/{userId}/account_data/{type}`, and the same for a room.
//!
//! [CS-API §put_matrixclientv3useruseridaccount_datatype]
//! [CS-API §put_matrixclientv3useruseridroomsroomidaccount_datatype]

use axum::extract::State;
use http::StatusCode;
use ruma_client_api::config::{set_global_account_data, set_room_account_data};
use ruma_common::{RoomId, UserId};
use serde_json::{Map, Value};

use super::is_own;
use crate::{Api, Checked, Empty, Error, Loose, Result, User, body};

/// Types that have endpoints of their own. [CS-API §server-behaviour-3]
pub(super) const OURS: [&str; 2] = ["m.fully_read", "m.push_rules"];

pub async fn set_global(
    State(api): State<Api>,
    call: Loose<set_global_account_data::v3::Request, Checked>,
) -> Result<Empty> {
    match &call.path[..] {
        [user_id, kind] => set(&api, &call.who, user_id, None, kind, &call.body.0).await,
        _ => Err(Error::unrecognized()),
    }
}

pub async fn set_in_room(
    State(api): State<Api>,
    call: Loose<set_room_account_data::v3::Request, Checked>,
) -> Result<Empty> {
    match &call.path[..] {
        [user_id, room_id, kind] => {
            let room_id = RoomId::parse(room_id).map_err(|_| Error::invalid_param("Not a room id"))?;
            set(&api, &call.who, user_id, Some(&room_id), kind, &call.body.0).await
        }
        _ => Err(Error::unrecognized()),
    }
}

async fn set(
    api: &Api,
    who: &User,
    user_id: &str,
    room_id: Option<&RoomId>,
    kind: &str,
    content: &[u8],
) -> Result<Empty> {
    let user_id = UserId::parse(user_id).map_err(|_| Error::invalid_param("Not a user id"))?;
    is_own(who, &user_id)?;
    if OURS.contains(&kind) {
        let message = format!("{kind} is the server's: it has an endpoint of its own");
        return Err(Error::new(StatusCode::METHOD_NOT_ALLOWED, "M_BAD_JSON", message));
    }
    if content.is_empty() {
        return Err(Error::not_json("The body is empty"));
    }
    let object: Map<String, Value> = body::parse(content)?;
    api.accounts.set_account_data(&user_id, room_id, kind, Value::Object(object).to_string()).await?;
    Ok(Empty)
}
