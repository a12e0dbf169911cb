//! `GET /room_summary/{roomIdOrAlias}`: what a room is, for who is not in it.
//!
//! [CS-API §get_matrixclientv1room_summaryroomidoralias] A room that the asker may not know of looks like none. Of rooms
//! that nobody of this server is in, other servers are asked, if the asker has an account.

use axum::extract::State;
use koine_room::{Membership, Preview};
use ruma_client_api::room::get_summary::v1;
use serde::{Serialize, de::IgnoredAny};

use super::{find, get_public_rooms::Chunk, resolve};
use crate::{Api, Error, Json, Loose, Result};

/// [CS-API §get_matrixclientv1room_summaryroomidoralias]
#[derive(Debug, Serialize)]
pub struct RoomSummary {
    #[serde(flatten)]
    chunk: Chunk,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_room_ids: Option<Vec<ruma_common::OwnedRoomId>>,
}

/// A summary, with who asks.
#[derive(Debug, Serialize)]
pub struct Answer {
    #[serde(flatten)]
    summary: RoomSummary,
    #[serde(skip_serializing_if = "Option::is_none")]
    membership: Option<&'static str>,
}

impl From<Preview> for RoomSummary {
    fn from(preview: Preview) -> Self {
        Self {
            chunk: preview.summary.into(),
            room_version: preview.version,
            encryption: preview.encryption,
            allowed_room_ids: preview.allowed_rooms,
        }
    }
}

pub async fn get_summary(State(api): State<Api>, call: Loose<v1::Request, IgnoredAny>) -> Result<Json<Answer>> {
    let asked = call.path.first().map(String::as_str).unwrap_or_default();
    let user = call.who.as_ref().map(|who| &*who.user_id);
    let (id, via) = match user {
        Some(_) => find(&api, asked, &call.query).await?,
        None => (resolve(&api, asked)?, Vec::new()),
    };
    let preview = api.rooms.find_preview(user, &id, &via).await?;
    let preview = preview.ok_or_else(|| Error::not_found("There is no such room"))?;
    let membership = user.and_then(|user| api.rooms.room(&id).ok()?.local_membership(user)).map(Membership::as_str);
    Ok(Json(Answer { summary: preview.into(), membership }))
}
