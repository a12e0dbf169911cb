//! `POST /account/password`: sets a new password.
//!
//! [CS-API §post_matrixclientv3accountpassword]. Without an access token nobody can be found to change the password of:
//! that takes an e-mail address, which accounts here do not have yet.

use axum::extract::State;
use http::StatusCode;
use koine_account::Secret;
use ruma_client_api::account::change_password::v3;
use serde::Deserialize;

use crate::{
    Api, Empty, Error, Loose, Result, User,
    interactive::{self, Auth},
};

#[derive(Debug, Deserialize)]
pub struct Body {
    new_password: Option<Secret>,
    logout_devices: Option<bool>,
    auth: Option<Auth>,
}

pub async fn change_password(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Empty> {
    let body = call.body;
    let who: User =
        call.who.ok_or_else(|| Error::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "An access token is needed"))?;
    if let Some(password) = &body.new_password {
        koine_account::check_password(password)?;
    }
    let passed = interactive::prove_owner(&api, &who, "change_password", body.auth).await?;
    let Some(password) = body.new_password else { return Err(Error::missing_param("`new_password` is missing")) };
    api.accounts.set_password(&who.user_id, password).await?;
    if body.logout_devices.unwrap_or(true) {
        api.accounts.delete_devices_except(&who.user_id, Some(&who.device_id)).await?;
    }
    api.accounts.interaction_done(&passed);
    Ok(Empty)
}
