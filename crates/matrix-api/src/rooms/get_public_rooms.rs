//! `GET /publicRooms`: the list of public rooms.
//!
//! [CS-API §get_matrixclientv3publicrooms]

use axum::extract::State;
use http::StatusCode;
use koine_room::{DirectoryPage, DirectoryQuery, Summary};
use ruma_client_api::directory::get_public_rooms::v3;
use serde::{Deserialize, Serialize, de::IgnoredAny};

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

pub async fn get_public_rooms(
    State(api): State<Api>,
    call: Loose<v3::Request, IgnoredAny>,
) -> Result<Json<PublicRooms>> {
    let query: Query = query(&call.query)?;
    only_here(&api, query.server.as_deref())?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    let page = api.rooms.directory(&DirectoryQuery { limit, since: query.since, ..DirectoryQuery::default() })?;
    Ok(Json(page.into()))
}

/// Lists of other servers are not fetched.
pub(super) fn only_here(api: &Api, server: Option<&str>) -> Result<()> {
    match server.filter(|server| !server.is_empty() && *server != api.rooms.server_name().as_str()) {
        None => Ok(()),
        Some(server) => Err(Error::new(
            StatusCode::NOT_FOUND,
            "M_NOT_FOUND",
            format!("This server does not fetch the list of {server:?}"),
        )),
    }
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
