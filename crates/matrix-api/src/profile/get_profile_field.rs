//! `GET /profile/{userId}/{keyName}`: one thing that a user says about themselves.
//!
//! [CS-API §get_matrixclientv3profileuseridkeyname]

use axum::extract::State;
use ruma_client_api::profile::get_profile_field::v3;
use serde_json::{Map, Value};

use super::user_in;
use crate::{Api, Checked, Error, Json, Loose, Result};

pub async fn get_profile_field(
    State(api): State<Api>,
    call: Loose<v3::Request, Checked>,
) -> Result<Json<Map<String, Value>>> {
    let user_id = user_in(&call.path)?;
    let key = call.path.get(1).cloned().unwrap_or_default();
    let profile = super::get_profile::profile(&api, &user_id).await?;
    let mut profile = profile.ok_or_else(|| Error::not_found("There is no such user"))?;
    match profile.remove(&key) {
        Some(value) => Ok(Json(Map::from_iter([(key, value)]))),
        // COMPAT(Complement, older clients): a name that is not set is answered with an empty object by nobody any
        // more; the specification says 404.
        None => Err(Error::not_found("The user has not set this")),
    }
}
