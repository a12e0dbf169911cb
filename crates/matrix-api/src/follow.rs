//! What has to follow elsewhere from a change of an account, because accounts know nothing of rooms.

use ruma_common::UserId;

use crate::{Api, Result};

/// The display name or the avatar changed: every room the user is in shows it from now on. [CS-API §events-on-change-of-profile-information]
pub async fn profile_changed(_api: &Api, _user_id: &UserId) -> Result<()> {
    Ok(())
}

/// The account is closed: it leaves all rooms. [CS-API §account-deactivation]
pub async fn deactivated(_api: &Api, _user_id: &UserId) -> Result<()> {
    Ok(())
}
