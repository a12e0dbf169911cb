//! `POST /rooms/{roomId}/join` and `POST /join/{roomIdOrAlias}`: entering a room.
//!
//! [CS-API §post_matrixclientv3roomsroomidjoin] [CS-API §post_matrixclientv3joinroomidoralias]

use axum::extract::State;
use ruma_client_api::membership::{join_room_by_id, join_room_by_id_or_alias};
use ruma_common::{OwnedRoomId, OwnedServerName, RoomAliasId, RoomId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{find, path, permit, profile, upgrade_room::bring_along};
use crate::{Api, Json, Loose, Result, User, own_requests::About};

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
    let named = call.path.first().map(String::as_str).unwrap_or_default();
    if let Ok(alias) = <&RoomAliasId>::try_from(named)
        && alias.server_name() == api.rooms.server_name()
        // No account's alias begins so.
        && alias.alias().starts_with('_')
    {
        call.who.not_suspended()?;
        permit(&api, &call.who)?;
        // A room of another network answers for itself who may come in.
        if let Some(room) = api.rooms.open_portal(&call.who.user_id, alias).await? {
            return enter(&api, &call.who, (&room, &[]), call.body).await;
        }
    }
    let (room, via) = find(&api, named, &call.query).await?;
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
    let _under_way = api.own_requests().begin(who, About::Room);
    api.rooms.join_via(&who.user_id, room, via, &profile, body.reason.as_deref(), extra).await?;
    bring_along(api, &who.user_id, room).await;
    Ok(Json(json!({ "room_id": room })))
}
