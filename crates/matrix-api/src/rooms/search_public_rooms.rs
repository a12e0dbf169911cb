//! `POST /publicRooms`: the list of public rooms, searched.
//!
//! [CS-API §post_matrixclientv3publicrooms]

use axum::extract::State;
use koine_room::{DirectoryPage, DirectoryQuery};
use ruma_client_api::directory::get_public_rooms_filtered::v3;
use serde::Deserialize;

use super::{
    get_public_rooms::{LIMIT_DEFAULT, PublicRooms, only_here},
    query,
};
use crate::{Api, Json, Loose, Result};

/// Most kinds of rooms asked for at once.
const ROOM_TYPES_MAX: usize = 100;

#[derive(Debug, Deserialize)]
struct Query {
    server: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Body {
    limit: Option<usize>,
    since: Option<String>,
    filter: Option<Filter>,
    third_party_instance_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Filter {
    generic_search_term: Option<String>,
    room_types: Option<Vec<Option<String>>>,
}

pub async fn search_public_rooms(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<PublicRooms>> {
    let query: Query = query(&call.query)?;
    only_here(&api, query.server.as_deref())?;
    let body = call.body;
    // No other networks are known here, so none has a room.
    if body.third_party_instance_id.is_some_and(|id| !id.is_empty()) {
        return Ok(Json(DirectoryPage::default().into()));
    }
    let filter = body.filter.unwrap_or_default();
    let page = api.rooms.directory(&DirectoryQuery {
        limit: body.limit.unwrap_or(LIMIT_DEFAULT),
        since: body.since,
        term: filter.generic_search_term,
        room_types: filter.room_types.map(|types| types.into_iter().take(ROOM_TYPES_MAX).collect()),
    })?;
    Ok(Json(page.into()))
}
