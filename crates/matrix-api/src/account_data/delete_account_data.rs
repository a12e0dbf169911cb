//! `DELETE /user/{userId}/account_data/{type}`, and the same for a room. [MSC3391]
//!
//! Setting an empty object does the same.

use axum::extract::State;
use http::StatusCode;
use ruma_common::{RoomId, UserId, api::auth_scheme::AccessToken, metadata};
use serde::de::IgnoredAny;

use super::{is_own, set_account_data::OURS};
use crate::{Api, Empty, Endpoints, Error, Loose, Result, User};

/// `DELETE …/user/{userId}/account_data/{type}`
pub struct DeleteGlobal;
/// `DELETE …/user/{userId}/rooms/{roomId}/account_data/{type}`
pub struct DeleteInRoom;

metadata! {
    @for DeleteGlobal,
    method: DELETE,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc3391") => "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/account_data/{event_type}",
    }
}
metadata! {
    @for DeleteInRoom,
    method: DELETE,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc3391") => "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/rooms/{room_id}/account_data/{event_type}",
    }
}

pub(super) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<DeleteGlobal, _, _>("matrix.account_data.delete", delete_global);
    endpoints.add::<DeleteInRoom, _, _>("matrix.account_data.delete_in_room", delete_in_room);
}

async fn delete_global(State(api): State<Api>, call: Loose<DeleteGlobal, IgnoredAny>) -> Result<Empty> {
    delete(&api, &call.who, &call.path[0], None, &call.path[1]).await
}

async fn delete_in_room(State(api): State<Api>, call: Loose<DeleteInRoom, IgnoredAny>) -> Result<Empty> {
    let room = RoomId::parse(&call.path[1]).map_err(|_| Error::invalid_param("Not a room id"))?;
    delete(&api, &call.who, &call.path[0], Some(&room), &call.path[2]).await
}

async fn delete(api: &Api, who: &User, user: &str, room: Option<&RoomId>, kind: &str) -> Result<Empty> {
    let user = UserId::parse(user).map_err(|_| Error::invalid_param("Not a user id"))?;
    is_own(who, &user)?;
    if OURS.contains(&kind) {
        let message = format!("{kind} is the server's: it cannot be deleted");
        return Err(Error::new(StatusCode::METHOD_NOT_ALLOWED, "M_BAD_JSON", message));
    }
    api.accounts.delete_account_data(&user, room, kind).await?;
    Ok(Empty)
}
