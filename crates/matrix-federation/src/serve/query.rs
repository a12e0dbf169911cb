//! Questions without a room: aliases, profiles, the directory, the version. [SS-API §querying-for-information]

use axum::extract::{Query, State};
use http::StatusCode;
use koine_account::Secret;
use koine_room::{DirectoryList, DirectoryQuery, Summary};
use ruma_common::RoomAliasId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    Error, Federation, Signed,
    answer::{Raw, Result},
    request::user_id,
};

/// Rooms on a page of the directory when nobody says how many.
const PAGE_DEFAULT: usize = 100;

/// [SS-API §get_matrixfederationv1version]
pub async fn version() -> Raw {
    Raw::of(&json!({ "server": { "name": "Koine", "version": env!("CARGO_PKG_VERSION") } }))
}

/// [SS-API §get_matrixfederationv1querydirectory]
pub async fn directory(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    let alias = signed.query.needed("room_alias")?;
    let alias = <&RoomAliasId>::try_from(alias).map_err(|_| Error::invalid_param(format!("{alias:?} is no alias")))?;
    if alias.server_name() != federation.server_name() {
        return Err(Error::invalid_param(format!("{alias} is of another server")));
    }
    let room_id = federation.rooms().resolve_alias(alias)?;
    let mut servers = federation.rooms().room(&room_id)?.servers()?;
    if servers.is_empty() {
        servers.push(federation.server_name().to_owned());
    }
    Ok(Raw::of(&json!({ "room_id": room_id, "servers": servers })))
}

/// [SS-API §get_matrixfederationv1queryprofile]
pub async fn profile(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    let user = user_id(signed.query.needed("user_id")?)?;
    if user.server_name() != federation.server_name() {
        return Err(Error::invalid_param(format!("{user} is of another server")));
    }
    let profile = federation.accounts().profile(&user)?;
    let mut profile = profile.ok_or_else(|| Error::not_found(format!("There is no user {user} here")))?;
    if let Some(field) = signed.query.get("field") {
        profile.retain(|name, _| name == field);
    }
    Ok(Raw::of(&Value::Object(profile.into_iter().collect())))
}

/// [SS-API §get_matrixfederationv1queryquerytype] Types of questions that have no handler above are those that nobody knows.
pub async fn unknown(signed: Signed) -> Error {
    tracing::debug!(peer = %signed.origin, query_type = signed.path.text(0), "a question that nothing here answers");
    Error::unrecognized()
}

/// [SS-API §get_matrixfederationv1publicrooms]
pub async fn public_rooms(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    let query = DirectoryQuery {
        limit: signed
            .query
            .number("limit")?
            .map_or(PAGE_DEFAULT, |limit| usize::try_from(limit).unwrap_or(PAGE_DEFAULT)),
        list: DirectoryList::named(
            signed.query.get("include_all_networks") == Some("true"),
            signed.query.get("third_party_instance_id").map(ToOwned::to_owned),
        )
        .map_err(Error::invalid_param)?,
        since: signed.query.get("since").map(ToOwned::to_owned),
        ..DirectoryQuery::default()
    };
    federation.public_page(&query)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Search {
    limit: Option<usize>,
    since: Option<String>,
    filter: Filter,
    include_all_networks: bool,
    third_party_instance_id: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Filter {
    generic_search_term: Option<String>,
    room_types: Option<Vec<Option<String>>>,
}

/// [SS-API §post_matrixfederationv1publicrooms]
pub async fn search_public_rooms(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    let search: Search = signed.parse()?;
    federation.public_page(&DirectoryQuery {
        list: DirectoryList::named(search.include_all_networks, search.third_party_instance_id)
            .map_err(Error::invalid_param)?,
        limit: search.limit.unwrap_or(PAGE_DEFAULT),
        since: search.since,
        term: search.filter.generic_search_term,
        room_types: search.filter.room_types,
    })
}

/// A token that one of our people was given to show to somebody else.
#[derive(Deserialize)]
pub struct TokenQuestion {
    access_token: Secret,
}

/// [SS-API §get_matrixfederationv1openiduserinfo] Open to everybody: the token is the proof.
pub async fn openid_userinfo(
    State(federation): State<Federation>,
    Query(question): Query<TokenQuestion>,
) -> Result<Raw> {
    let user = federation.accounts().openid_user(&question.access_token).map_err(Error::internal)?;
    let user = user.ok_or_else(|| {
        Error::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", "The token is not known or has run out")
    })?;
    Ok(Raw::of(&json!({ "sub": user })))
}

impl Federation {
    fn public_page(&self, query: &DirectoryQuery) -> Result<Raw> {
        let page = self.rooms().directory(query)?;
        let mut answer = Map::new();
        answer.insert("chunk".into(), page.rooms.iter().map(chunk).collect());
        answer.insert("total_room_count_estimate".into(), json!(page.total));
        for (name, token) in [("next_batch", page.next), ("prev_batch", page.previous)] {
            if let Some(token) = token {
                answer.insert(name.into(), json!(token));
            }
        }
        Ok(Raw::of(&Value::Object(answer)))
    }
}

/// [CS-API §definition-publishedroomschunk]
pub(super) fn chunk(room: &Summary) -> Value {
    let mut chunk = Map::new();
    chunk.insert("room_id".into(), json!(room.room_id));
    chunk.insert("num_joined_members".into(), json!(room.joined));
    chunk.insert("world_readable".into(), json!(room.world_readable));
    chunk.insert("guest_can_join".into(), json!(room.guest_can_join));
    for (name, text) in [
        ("name", &room.name),
        ("topic", &room.topic),
        ("canonical_alias", &room.canonical_alias),
        ("avatar_url", &room.avatar_url),
        ("join_rule", &room.join_rule),
        ("room_type", &room.room_type),
    ] {
        if let Some(text) = text {
            chunk.insert(name.into(), json!(text));
        }
    }
    Value::Object(chunk)
}
