//! `POST /publicRooms`: the list of public rooms, searched.
//!
//! [CS-API §post_matrixclientv3publicrooms]

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use koine_room::{DirectoryList, DirectoryQuery};
use ruma_client_api::directory::get_public_rooms_filtered::v3;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    get_public_rooms::{LIMIT_DEFAULT, PublicRooms, other_server},
    query,
};
use crate::{Api, Error, Json, Loose, Result};

/// Most kinds of rooms asked for at once.
const ROOM_TYPES_MAX: usize = 100;

#[derive(Debug, Deserialize)]
struct Query {
    server: Option<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Body {
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<Filter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    third_party_instance_id: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    include_all_networks: bool,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Filter {
    #[serde(skip_serializing_if = "Option::is_none")]
    generic_search_term: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_types: Option<Vec<Option<String>>>,
}

pub async fn search_public_rooms(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Response> {
    let query: Query = query(&call.query)?;
    let body = call.body;
    if let Some(server) = other_server(&api, query.server.as_deref())? {
        let question = json!(body);
        return Ok(Json(api.rooms.directory_elsewhere(&server, &question).await?).into_response());
    }
    let list = DirectoryList::named(body.include_all_networks, body.third_party_instance_id);
    let filter = body.filter.unwrap_or_default();
    let page = api.rooms.directory(&DirectoryQuery {
        list: list.map_err(Error::invalid_param)?,
        limit: body.limit.unwrap_or(LIMIT_DEFAULT),
        since: body.since,
        term: filter.generic_search_term,
        room_types: filter.room_types.map(|types| types.into_iter().take(ROOM_TYPES_MAX).collect()),
    })?;
    Ok(Json(PublicRooms::from(page)).into_response())
}
