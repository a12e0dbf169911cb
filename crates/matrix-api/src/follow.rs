//! What has to follow elsewhere from a change of an account, because accounts know nothing of rooms.
//!
//! Both run to their end even if the client hangs up: half of the rooms with an old name, or a closed account that stayed
//! in some, would be for ever.

use koine_room::Profile;
use ruma_common::UserId;

use crate::{Api, Error, Result};

/// The display name or the avatar changed: every room the user is in shows it from now on.
/// [CS-API §events-on-change-of-profile-information]
pub async fn profile_changed(api: &Api, user_id: &UserId) -> Result<()> {
    let (displayname, avatar_url) = api.accounts.display_profile(user_id)?;
    let (api, user_id) = (api.clone(), user_id.to_owned());
    to_the_end(async move {
        let profile = Profile { displayname, avatar_url };
        Ok(api.rooms.profile_changed(&user_id, &profile).await?)
    })
    .await
}

/// The account is closed: it leaves all rooms. [CS-API §account-deactivation]
pub async fn deactivated(api: &Api, user_id: &UserId) -> Result<()> {
    let (api, user_id) = (api.clone(), user_id.to_owned());
    to_the_end(async move { Ok(api.rooms.leave_all(&user_id).await?) }).await
}

async fn to_the_end(work: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(Error::internal(error)))
}
