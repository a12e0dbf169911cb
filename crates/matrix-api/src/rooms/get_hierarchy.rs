//! `GET /rooms/{roomId}/hierarchy`: the rooms of a space, and those of the spaces in it.
//!
//! [CS-API §get_matrixclientv1roomsroomidhierarchy] Other servers are asked for rooms that this one does not know.
//!
//! A token says how many rooms were told and what was asked for, so that nothing is kept between two pages.

use axum::extract::State;
use koine_room::{HIERARCHY_DEPTH_MAX, HierarchyQuery, SpaceChild, SpaceRoom};
use ruma_client_api::space::get_hierarchy::v1;
use ruma_common::{OwnedRoomId, RoomId};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{get_summary::RoomSummary, path, query};
use crate::{Api, Error, Json, Loose, Result};

/// Rooms on a page when nothing is said.
const LIMIT_DEFAULT: usize = 50;
/// Most rooms on a page.
const LIMIT_MAX: usize = 100;

#[derive(Debug, Deserialize)]
struct Query {
    from: Option<String>,
    limit: Option<usize>,
    max_depth: Option<usize>,
    #[serde(default)]
    suggested_only: bool,
}

/// A page of the tree.
#[derive(Debug, Serialize)]
pub struct Page {
    rooms: Vec<Room>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
}

#[derive(Debug, Serialize)]
struct Room {
    #[serde(flatten)]
    summary: RoomSummary,
    children_state: Vec<Child>,
}

/// A stripped `m.space.child` event, with its time. [CS-API §stripped-state]
#[derive(Debug, Serialize)]
struct Child {
    #[serde(rename = "type")]
    kind: &'static str,
    state_key: OwnedRoomId,
    sender: String,
    origin_server_ts: u64,
    content: Box<RawValue>,
}

impl From<SpaceChild> for Child {
    fn from(child: SpaceChild) -> Self {
        Self {
            kind: "m.space.child",
            state_key: child.room_id,
            sender: child.sender,
            origin_server_ts: child.origin_server_ts,
            content: child.content,
        }
    }
}

impl From<SpaceRoom> for Room {
    fn from(room: SpaceRoom) -> Self {
        let children_state = room.children.into_iter().map(Child::from).collect();
        Self { summary: room.preview.into(), children_state }
    }
}

pub async fn get_hierarchy(State(api): State<Api>, call: Loose<v1::Request, IgnoredAny>) -> Result<Json<Page>> {
    let id: &RoomId = path(&call.path, 0)?;
    let query: Query = query(&call.query)?;
    let max_depth = query.max_depth.unwrap_or(HIERARCHY_DEPTH_MAX).min(HIERARCHY_DEPTH_MAX);
    let asked = (max_depth, query.suggested_only);
    let skip = query.from.as_deref().map(|token| parse_token(token, asked)).transpose()?.unwrap_or(0);
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let wanted = HierarchyQuery { max_depth, suggested_only: query.suggested_only, skip, limit };
    let page = api.rooms.hierarchy(&call.who.user_id, id, wanted).await?;
    let next_batch = page.more.then(|| print_token(skip + page.rooms.len(), asked));
    Ok(Json(Page { rooms: page.rooms.into_iter().map(Room::from).collect(), next_batch }))
}
fn print_token(told: usize, (max_depth, suggested_only): (usize, bool)) -> String {
    format!("h{told}_{max_depth}_{}", u8::from(suggested_only))
}

fn parse_token(text: &str, asked: (usize, bool)) -> Result<usize> {
    let invalid = || Error::invalid_param("Not a token that this server gives out");
    let told = text.strip_prefix('h').and_then(|rest| rest.split('_').next()).ok_or_else(invalid)?;
    let told = told.parse().map_err(|_| invalid())?;
    match text.matches('_').count() == 2 {
        true if print_token(told, asked) == text => Ok(told),
        true => Err(Error::invalid_param("`max_depth` and `suggested_only` cannot change between pages")),
        false => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_the_same_question_only() {
        let token = print_token(7, (3, true));
        assert_eq!(parse_token(&token, (3, true)).expect("the same question"), 7);
        for (text, asked) in [
            (&*token, (3, false)),
            (&token, (4, true)),
            ("h", (0, false)),
            ("", (0, false)),
            ("h1_2", (2, false)),
            ("h-1_2_0", (2, false)),
        ] {
            assert_eq!(parse_token(text, asked).expect_err("refused").errcode(), "M_INVALID_PARAM", "{text}");
        }
    }
}
