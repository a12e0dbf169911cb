//! People whose identity is another than it was: somebody made a new one, or somebody pretends to be them. Until someone here has
//! verified them anew, or said that it is believed, that is shown wherever they are.

use std::{collections::BTreeSet, time::Duration};

use futures_util::StreamExt;
use matrix_sdk::{
    Client, Room,
    ruma::{OwnedUserId, UserId},
};
use matrix_sdk_crypto::{IdentityState, IdentityStatusChange};

use crate::failure::Failure;

/// Those of a room, as far as it is known here.
pub async fn changed(room: &Room) -> BTreeSet<OwnedUserId> {
    let mut users = BTreeSet::new();
    // What the stream begins with is there at once, or there is nothing.
    if let Ok(changes) = room.subscribe_to_identity_status_changes().await
        && let Ok(Some(now)) = tokio::time::timeout(Duration::ZERO, std::pin::pin!(changes).next()).await
    {
        note(&mut users, now);
    }
    users
}

/// Takes news in.
pub fn note(users: &mut BTreeSet<OwnedUserId>, changes: Vec<IdentityStatusChange>) {
    for change in changes {
        match change.changed_to {
            IdentityState::PinViolation | IdentityState::VerificationViolation => users.insert(change.user_id),
            IdentityState::Verified | IdentityState::Pinned => users.remove(&change.user_id),
        };
    }
}

/// Believes the identity that somebody has now, without comparing anything. A verification of the one before is taken back.
pub async fn accept(client: &Client, user: &UserId) -> Result<(), Failure> {
    let identity = client.encryption().get_user_identity(user).await.map_err(matrix_sdk::Error::from)?;
    let identity = identity.ok_or_else(|| Failure::NotFound(format!("{user} has not set up verification")))?;
    if identity.has_verification_violation() {
        identity.withdraw_verification().await.map_err(matrix_sdk::Error::from)?;
    }
    Ok(identity.pin().await.map_err(matrix_sdk::Error::from)?)
}

/// What is said about them.
pub fn words(users: &BTreeSet<OwnedUserId>) -> String {
    let who: Vec<&str> = users.iter().map(|user| user.as_str()).collect();
    format!("the identity of {} is another than it was", who.join(" and of "))
}
