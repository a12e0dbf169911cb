//! `PUT /profile/{userId}/{keyName}`: says something about oneself.
//!
//! [CS-API §put_matrixclientv3profileuseridkeyname]

use axum::extract::State;
use ruma_client_api::profile::set_profile_field::v3;
use serde_json::{Map, Value};

use super::own_profile;
use crate::{Api, Empty, Error, Loose, Result, follow};

/// Enough for the largest profile with every character escaped.
const BODY_BYTES_MAX: usize = 512 * 1024;

pub async fn set_profile_field(
    State(api): State<Api>,
    call: Loose<v3::Request, Map<String, Value>, BODY_BYTES_MAX>,
) -> Result<Empty> {
    own_profile(&call.who, &call.path)?;
    let key = call.path.get(1).map_or("", String::as_str);
    let mut body = call.body;
    let value = match body.remove(key) {
        Some(value) => value,
        None => return Err(Error::missing_param(format!("The body lacks the key `{key}`"))),
    };
    api.accounts.set_profile_field(&call.who.user_id, key, value).await?;
    if is_in_member_events(key) {
        follow::profile_changed(&api, &call.who.user_id).await?;
    }
    Ok(Empty)
}

/// Whether rooms show this field.
pub(super) fn is_in_member_events(key: &str) -> bool {
    matches!(key, "displayname" | "avatar_url")
}
