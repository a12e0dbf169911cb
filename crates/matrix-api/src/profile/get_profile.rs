//! `GET /profile/{userId}`: all that a user says about themselves.
//!
//! [CS-API §get_matrixclientv3profileuserid]

use axum::extract::State;
use koine_account::Profile;
use ruma_client_api::profile::get_profile::v3;
use ruma_common::UserId;

use crate::{Api, Call, Error, Json, Result, appservice::ask};

/// The profile of anybody, asked of their server where that is another one.
pub(super) async fn profile(api: &Api, user: &UserId) -> Result<Option<Profile>> {
    if user.server_name() == api.rooms.server_name() {
        let profile = api.accounts.profile(user)?;
        // [AS-API §querying] A user that a service has not made yet.
        if profile.is_none() && ask::makes_user(api, user).await {
            return Ok(api.accounts.profile(user)?);
        }
        return Ok(profile);
    }
    let told = api.rooms.profile_elsewhere(user).await?;
    Ok(told.map(|profile| profile.into_iter().collect()))
}

pub async fn get_profile(State(api): State<Api>, call: Call<v3::Request>) -> Result<Json<Profile>> {
    let profile = profile(&api, &call.request.user_id).await?;
    Ok(Json(profile.ok_or_else(|| Error::not_found("There is no such user"))?))
}
