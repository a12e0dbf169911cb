//! `GET /pushrules/` and `GET /pushrules/global/`: all rules of the account.
//!
//! [CS-API §get_matrixclientv3pushrules] [CS-API §get_matrixclientv3pushrulesglobal]

use axum::extract::State;
use koine_push::Ruleset;
use ruma_client_api::push::{get_pushrules_all, get_pushrules_global_scope};
use serde::Serialize;

use crate::{Api, Call, Json, Result};

/// `global` is the only scope there is.
#[derive(Serialize)]
pub struct Scopes {
    global: Ruleset,
}

pub async fn get_all(State(api): State<Api>, call: Call<get_pushrules_all::v3::Request>) -> Result<Json<Scopes>> {
    Ok(Json(Scopes { global: api.push.ruleset(&call.who.user_id)? }))
}

pub async fn get_global(
    State(api): State<Api>,
    call: Call<get_pushrules_global_scope::v3::Request>,
) -> Result<Json<Ruleset>> {
    Ok(Json(api.push.ruleset(&call.who.user_id)?))
}
