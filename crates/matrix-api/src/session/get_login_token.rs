//! `POST /login/get_token`: a token by which another device logs in.
//!
//! [CS-API §post_matrixclientv1loginget_token]

use axum::extract::State;
use koine_account::LOGIN_TOKEN_LIFE;
use ruma_client_api::session::get_login_token::v1;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Api, Json, Loose, Result,
    interactive::{self, Auth},
};

#[derive(Debug, Deserialize)]
pub struct Body {
    auth: Option<Auth>,
}

pub async fn get_login_token(State(api): State<Api>, call: Loose<v1::Request, Body>) -> Result<Json<Value>> {
    let passed = interactive::prove_owner(&api, &call.who, "get_login_token", call.body.auth).await?;
    let token = api.accounts.new_login_token(&call.who.user_id);
    api.accounts.interaction_done(&passed);
    let life_ms = u64::try_from(LOGIN_TOKEN_LIFE.as_millis()).unwrap_or(u64::MAX);
    Ok(Json(json!({ "login_token": token.expose(), "expires_in_ms": life_ms })))
}
