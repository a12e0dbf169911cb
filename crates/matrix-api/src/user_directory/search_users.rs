//! `POST /user_directory/search`: people by name, among those who share a room with the asker or stand in one that is
//! open to all; of other servers, among those who share a room with the asker.
//!
//! [CS-API §post_matrixclientv3user_directorysearch] Names of our people are those of profiles, never those that somebody
//! goes by in a room: such a name may be meant for that room alone. Of people elsewhere nothing else is known than
//! what they are called in the rooms that they share with the asker.

use axum::extract::State;
use koine_account::{Class, LimitKey};
use ruma_client_api::user_directory::search_users::v3;
use ruma_common::UserId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Api, Error, Json, Loose, Result};

/// People answered when nothing is said.
const LIMIT_DEFAULT: u64 = 10;
/// Most people answered.
const LIMIT_MAX: u64 = 100;
/// Most people who fit that are looked at, whether the asker may find them or not.
const LOOK_MAX: usize = 2_000;

#[derive(Debug, Deserialize)]
pub struct Body {
    search_term: String,
    limit: Option<u64>,
}

pub async fn search_users(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<Value>> {
    api.permit(Class::Message, LimitKey::User(&call.who.user_id))?;
    let search = move || search(&api, &call.who.user_id, &call.body);
    tokio::task::spawn_blocking(search).await.unwrap_or_else(|error| Err(Error::internal(error)))
}

fn search(api: &Api, asker: &UserId, body: &Body) -> Result<Json<Value>> {
    let limit = usize::try_from(body.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX)).unwrap_or_default();
    let fitting = api.accounts.find_people(&body.search_term, LOOK_MAX)?;
    let mut limited = fitting.len() == LOOK_MAX;
    let mut acquaintances = api.rooms.acquaintances(asker)?;
    let mut results = Vec::new();
    for user in fitting {
        if user == asker || !acquaintances.contains(&user)? {
            continue;
        }
        if results.len() == limit {
            limited = true;
            break;
        }
        let (name, avatar) = api.accounts.display_profile(&user)?;
        results.push(shown(&user, name, avatar));
    }
    let fits = |user: &UserId, name: Option<&str>| koine_account::person_fits(&body.search_term, user, name);
    for (user, profile) in api.rooms.people_elsewhere(asker, fits)? {
        if results.len() == limit {
            limited = true;
            break;
        }
        results.push(shown(&user, profile.displayname, profile.avatar_url));
    }
    Ok(Json(json!({ "results": results, "limited": limited })))
}

fn shown(user: &UserId, name: Option<String>, avatar: Option<String>) -> Value {
    let mut result = json!({ "user_id": user });
    if let Some(name) = name {
        result["display_name"] = name.into();
    }
    if let Some(avatar) = avatar {
        result["avatar_url"] = avatar.into();
    }
    result
}
