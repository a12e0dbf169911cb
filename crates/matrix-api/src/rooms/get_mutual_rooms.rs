//! `GET /mutual_rooms`: the rooms that one shares with somebody.
//!
//! [CS-API §get_matrixclientv1mutual_rooms]

use axum::extract::State;
use ruma_client_api::membership::get_mutual_rooms::v1;
use ruma_common::UserId;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use super::query;
use crate::{Api, Error, Json, Loose, Result};

/// Rooms on a page.
const PAGE: usize = 100;

#[derive(Debug, Deserialize)]
struct Query {
    user_id: Option<String>,
    from: Option<String>,
}

pub async fn get_mutual_rooms(State(api): State<Api>, call: Loose<v1::Request, IgnoredAny>) -> Result<Json<Value>> {
    let query: Query = query(&call.query)?;
    let user = query.user_id.ok_or_else(|| Error::missing_param("`user_id` is missing"))?;
    let user = UserId::parse(&user).map_err(|_| Error::invalid_param("Not a user id"))?;
    if user == call.who.user_id {
        return Err(Error::invalid_param("These are all your own rooms"));
    }
    let after = match query.from {
        None => 0,
        Some(token) => {
            let number = token.strip_prefix('m').and_then(|number| number.parse().ok());
            number.ok_or_else(|| Error::invalid_param("Not a token that this server gives out"))?
        }
    };
    let found = api.rooms.mutual(&call.who.user_id, &user, after, PAGE)?;
    let mut answer = json!({ "joined": found.rooms, "count": found.count });
    if let Some(next) = found.next {
        answer["next_batch"] = json!(format!("m{next}"));
    }
    Ok(Json(answer))
}
