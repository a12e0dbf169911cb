//! `POST /knock/{roomIdOrAlias}`: asking to be let into a room.
//!
//! [CS-API §post_matrixclientv3knockroomidoralias]

use axum::extract::State;
use ruma_client_api::knock::knock_room::v3;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{find, permit, profile};
use crate::{Api, Json, Loose, Result, own_requests::About};

#[derive(Debug, Deserialize)]
pub struct Body {
    #[serde(default)]
    reason: Option<String>,
}

pub async fn knock_room(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<Value>> {
    call.who.not_suspended()?;
    permit(&api, &call.who)?;
    let (room, via) = find(&api, call.path.first().map(String::as_str).unwrap_or_default(), &call.query).await?;
    let profile = profile(&api, &call.who.user_id)?;
    let _under_way = api.own_requests().begin(&call.who, About::Room);
    api.rooms.knock_via(&call.who.user_id, &room, &via, &profile, call.body.reason.as_deref()).await?;
    Ok(Json(json!({ "room_id": room })))
}
