//! `POST /logout`: the end of this session, and of its device.
//!
//! [CS-API §post_matrixclientv3logout]

use axum::extract::State;

use crate::{Api, Empty, Result, UserEvenLocked};

pub async fn logout(State(api): State<Api>, UserEvenLocked(who): UserEvenLocked) -> Result<Empty> {
    api.accounts.delete_devices(&who.user_id, vec![who.device_id.clone()]).await?;
    Ok(Empty)
}
