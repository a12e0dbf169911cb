//! What has to follow elsewhere from a change of an account, because accounts know nothing of rooms.

use koine_room::Profile;
use ruma_common::UserId;

use crate::{Api, Result};

/// The display name or the avatar changed: every room the user is in shows it from now on.
/// [CS-API §events-on-change-of-profile-information]
pub async fn profile_changed(api: &Api, user_id: &UserId) -> Result<()> {
    let (displayname, avatar_url) = api.accounts.display_profile(user_id)?;
    Ok(api.rooms.profile_changed(user_id, &Profile { displayname, avatar_url }).await?)
}

/// The account is closed: it leaves all rooms. [CS-API §account-deactivation]
pub async fn deactivated(api: &Api, user_id: &UserId) -> Result<()> {
    Ok(api.rooms.leave_all(user_id).await?)
}
