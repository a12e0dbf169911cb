//! `POST /rooms/{roomId}/join` and `POST /join/{roomIdOrAlias}`: entering a room.
//!
//! [CS-API §post_matrixclientv3roomsroomidjoin] [CS-API §post_matrixclientv3joinroomidoralias]

use axum::extract::State;
use ruma_client_api::membership::{join_room_by_id, join_room_by_id_or_alias};
use ruma_common::{OwnedRoomId, OwnedServerName, RoomId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{find, path, permit, profile, upgrade_room::bring_along};
use crate::{Api, Json, Loose, Result, User};

/// Keys of a membership event that are not the client's to set.
const NOT_EXTRA: [&str; 4] = ["membership", "join_authorised_via_users_server", "third_party_signed", "is_direct"];

#[derive(Debug, Deserialize)]
pub struct Body {
    #[serde(default)]
    reason: Option<String>,
    /// Whatever else is given goes into the membership event.
    #[serde(flatten)]
    extra: Map<String, Value>,
}

pub async fn join_room(State(api): State<Api>, call: Loose<join_room_by_id::v3::Request, Body>) -> Result<Json<Value>> {
    let room: OwnedRoomId = path(&call.path, 0)?;
    enter(&api, &call.who, (&room, &[]), call.body).await
}

pub async fn join(
    State(api): State<Api>,
    call: Loose<join_room_by_id_or_alias::v3::Request, Body>,
) -> Result<Json<Value>> {
    let (room, via) = find(&api, call.path.first().map(String::as_str).unwrap_or_default(), &call.query).await?;
    enter(&api, &call.who, (&room, &via), call.body).await
}

async fn enter(api: &Api, who: &User, (room, via): (&RoomId, &[OwnedServerName]), body: Body) -> Result<Json<Value>> {
    who.not_suspended()?;
    permit(api, who)?;
    let mut extra = body.extra;
    for key in NOT_EXTRA {
        extra.remove(key);
    }
    let profile = profile(api, &who.user_id)?;
    api.rooms.join_via(&who.user_id, room, via, &profile, body.reason.as_deref(), extra).await?;
    bring_along(api, &who.user_id, room).await;
    Ok(Json(json!({ "room_id": room })))
}
