//! `GET /profile/{userId}`: all that a user says about themselves.
//!
//! [CS-API §get_matrixclientv3profileuserid]

use axum::extract::State;
use koine_account::Profile;
use ruma_client_api::profile::get_profile::v3;

use crate::{Api, Call, Error, Json, Result};

pub async fn get_profile(State(api): State<Api>, call: Call<v3::Request>) -> Result<Json<Profile>> {
    let profile = api.accounts.profile(&call.request.user_id)?;
    Ok(Json(profile.ok_or_else(|| Error::not_found("There is no such user"))?))
}
