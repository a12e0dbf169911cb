//! `POST /account/deactivate`: closes the account for ever.
//!
//! [CS-API §post_matrixclientv3accountdeactivate]

use axum::extract::State;
use http::StatusCode;
use ruma_client_api::account::deactivate::v3;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Api, Error, Json, Loose, Result, User, follow,
    interactive::{self, Auth},
};

#[derive(Debug, Deserialize)]
pub struct Body {
    auth: Option<Auth>,
    erase: Option<bool>,
}

pub async fn deactivate(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<Value>> {
    let who: User =
        call.who.ok_or_else(|| Error::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "An access token is needed"))?;
    let passed = interactive::prove_owner(&api, &who, "deactivate", call.body.auth).await?;
    api.accounts.deactivate(&who.user_id, call.body.erase.unwrap_or(false)).await?;
    api.accounts.interaction_done(&passed);
    follow::deactivated(&api, &who.user_id).await?;
    // There are no third-party identifiers, so all of them are unbound.
    Ok(Json(json!({ "id_server_unbind_result": "success" })))
}
