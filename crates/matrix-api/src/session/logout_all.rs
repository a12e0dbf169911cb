//! `POST /logout/all`: the end of all sessions, and of their devices.
//!
//! [CS-API §post_matrixclientv3logoutall]

use axum::extract::State;

use crate::{Api, Empty, Result, UserEvenLocked};

pub async fn logout_all(State(api): State<Api>, UserEvenLocked(who): UserEvenLocked) -> Result<Empty> {
    api.accounts.delete_devices_except(&who.user_id, None).await?;
    Ok(Empty)
}
