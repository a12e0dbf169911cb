//! `PUT /presence/{userId}/status`: says how one wishes to be shown.
//!
//! [CS-API §put_matrixclientv3presenceuseridstatus]

use axum::extract::State;
use koine_account::{Class, LimitKey, STATUS_CHARS_MAX};
use ruma_client_api::presence::set_presence::v3;
use ruma_common::UserId;
use serde::Deserialize;

use super::parse_state;
use crate::{Api, Empty, Error, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Body {
    presence: String,
    status_msg: Option<String>,
}

pub async fn set_presence(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Empty> {
    let user = UserId::parse(&call.path[0]).map_err(|_| Error::invalid_param("Not a user id"))?;
    if user != call.who.user_id {
        return Err(Error::forbidden("Only you yourself can say whether you are there"));
    }
    let state = parse_state(&call.body.presence)?;
    let message = call.body.status_msg.filter(|message| !message.is_empty());
    if message.as_ref().is_some_and(|message| message.chars().count() > STATUS_CHARS_MAX) {
        return Err(Error::invalid_param(format!("A status message has at most {STATUS_CHARS_MAX} characters")));
    }
    // Every change goes to everybody who shares a room.
    api.permit(Class::Message, LimitKey::User(&user))?;
    api.accounts.presences().set(&user, &call.who.device_id, state, message);
    Ok(Empty)
}
