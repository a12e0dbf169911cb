//! `GET /publicRooms`: the list of public rooms.
//!
//! [CS-API §get_matrixclientv3publicrooms]

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use koine_room::{DirectoryPage, DirectoryQuery, Summary};
use ruma_client_api::directory::get_public_rooms::v3;
use ruma_common::OwnedServerName;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::json;

use super::query;
use crate::{Api, Error, Json, Loose, Result};

/// Rooms on a page when nothing is said.
pub(super) const LIMIT_DEFAULT: usize = 100;

#[derive(Debug, Deserialize)]
struct Query {
    limit: Option<usize>,
    since: Option<String>,
    server: Option<String>,
}

pub async fn get_public_rooms(State(api): State<Api>, call: Loose<v3::Request, IgnoredAny>) -> Result<Response> {
    let query: Query = query(&call.query)?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if let Some(server) = other_server(&api, query.server.as_deref())? {
        let mut question = json!({ "limit": limit });
        if let Some(since) = query.since {
            question["since"] = json!(since);
        }
        return Ok(Json(api.rooms.directory_elsewhere(&server, &question).await?).into_response());
    }
    let page = api.rooms.directory(&DirectoryQuery { limit, since: query.since, ..DirectoryQuery::default() })?;
    Ok(Json(PublicRooms::from(page)).into_response())
}

/// The server whose list is asked for, if it is not this one.
pub(super) fn other_server(api: &Api, server: Option<&str>) -> Result<Option<OwnedServerName>> {
    let Some(server) = server.filter(|server| !server.is_empty() && *server != api.rooms.server_name().as_str()) else {
        return Ok(None);
    };
    let name = OwnedServerName::try_from(server);
    name.map(Some).map_err(|_| Error::invalid_param(format!("{server:?} is no server name")))
}

/// [CS-API §get_matrixclientv3publicrooms]
#[derive(Debug, Serialize)]
pub struct PublicRooms {
    chunk: Vec<Chunk>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_batch: Option<String>,
    total_room_count_estimate: usize,
}

/// What the list tells of a room.
#[derive(Debug, Serialize)]
pub struct Chunk {
    room_id: String,
    num_joined_members: u64,
    world_readable: bool,
    guest_can_join: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    canonical_alias: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    join_rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_type: Option<String>,
}

impl From<DirectoryPage> for PublicRooms {
    fn from(page: DirectoryPage) -> Self {
        Self {
            chunk: page.rooms.into_iter().map(Chunk::from).collect(),
            next_batch: page.next,
            prev_batch: page.previous,
            total_room_count_estimate: page.total,
        }
    }
}

impl From<Summary> for Chunk {
    fn from(room: Summary) -> Self {
        Self {
            room_id: room.room_id.to_string(),
            num_joined_members: room.joined,
            world_readable: room.world_readable,
            guest_can_join: room.guest_can_join,
            name: room.name,
            topic: room.topic,
            canonical_alias: room.canonical_alias,
            avatar_url: room.avatar_url,
            join_rule: room.join_rule,
            room_type: room.room_type,
        }
    }
}
