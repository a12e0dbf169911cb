//! `GET` and `PUT /admin/lock/{userId}`: whether an account is locked. [CS-API §account-locking]
//!
//! [CS-API §get_matrixclientv1adminlockuserid] [CS-API §put_matrixclientv1adminlockuserid]

use axum::extract::State;
use koine_account::Flag;
use ruma_client_api::admin::{is_user_locked, lock_user};

use super::{account, account_to_moderate, admins_only};
use crate::{Api, Call, Result, Ruma};

pub async fn is_locked(
    State(api): State<Api>,
    call: Call<is_user_locked::v1::Request>,
) -> Result<Ruma<is_user_locked::v1::Response>> {
    admins_only(&call.who)?;
    Ok(Ruma(is_user_locked::v1::Response::new(account(&api, &call.request.user_id)?.is_locked)))
}

pub async fn lock_user(
    State(api): State<Api>,
    call: Call<lock_user::v1::Request>,
) -> Result<Ruma<lock_user::v1::Response>> {
    let locked = call.request.locked;
    let user = account_to_moderate(&api, &call.who, &call.request.user_id)?;
    if user.is_locked != locked {
        api.accounts.set_flag(&user.user_id, Flag::Locked, locked).await?;
        tracing::info!(user_id = %user.user_id, admin = %call.who.user_id, locked, "account locked or unlocked");
    }
    Ok(Ruma(lock_user::v1::Response::new(locked)))
}
