//! `GET` and `PUT /admin/suspend/{userId}`: whether an account is suspended. [CS-API §account-suspension]
//!
//! [CS-API §get_matrixclientv1adminsuspenduserid] [CS-API §put_matrixclientv1adminsuspenduserid]

use axum::extract::State;
use koine_account::Flag;
use ruma_client_api::admin::{is_user_suspended, suspend_user};

use super::{account, account_to_moderate, admins_only};
use crate::{Api, Call, Result, Ruma};

pub async fn is_suspended(
    State(api): State<Api>,
    call: Call<is_user_suspended::v1::Request>,
) -> Result<Ruma<is_user_suspended::v1::Response>> {
    admins_only(&call.who)?;
    Ok(Ruma(is_user_suspended::v1::Response::new(account(&api, &call.request.user_id)?.is_suspended)))
}

pub async fn suspend_user(
    State(api): State<Api>,
    call: Call<suspend_user::v1::Request>,
) -> Result<Ruma<suspend_user::v1::Response>> {
    let suspended = call.request.suspended;
    let user = account_to_moderate(&api, &call.who, &call.request.user_id)?;
    if user.is_suspended != suspended {
        api.accounts.set_flag(&user.user_id, Flag::Suspended, suspended).await?;
        tracing::info!(user_id = %user.user_id, admin = %call.who.user_id, suspended, "account suspended or not");
    }
    Ok(Ruma(suspend_user::v1::Response::new(suspended)))
}
