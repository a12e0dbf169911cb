//! `DELETE /profile/{userId}/{keyName}`: takes back something said about oneself.
//!
//! [CS-API §delete_matrixclientv3profileuseridkeyname]

use axum::extract::State;
use ruma_client_api::profile::delete_profile_field::v3;

use super::{own_profile, set_profile_field::is_in_member_events};
use crate::{Api, Checked, Empty, Loose, Result, follow};

pub async fn delete_profile_field(State(api): State<Api>, call: Loose<v3::Request, Checked>) -> Result<Empty> {
    own_profile(&call.who, &call.path)?;
    let key = call.path.get(1).map_or("", String::as_str);
    api.accounts.delete_profile_field(&call.who.user_id, key).await?;
    if is_in_member_events(key) {
        follow::profile_changed(&api, &call.who.user_id).await?;
    }
    Ok(Empty)
}
