//! `POST /refresh`: a new access token for a refresh token.
//!
//! [CS-API §post_matrixclientv3refresh]

use axum::extract::State;
use koine_account::{Class, LimitKey, Secret};
use ruma_client_api::session::refresh_token::v3;
use serde::Deserialize;
use serde_json::{Value, json};

use super::add_tokens;
use crate::{Api, Json, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Body {
    refresh_token: Secret,
}

pub async fn refresh(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<Value>> {
    api.permit(Class::Login, LimitKey::Address(call.peer.0))?;
    let credentials = api.accounts.refresh(call.body.refresh_token.expose()).await?;
    let mut answer = json!({});
    add_tokens(&mut answer, &credentials);
    Ok(Json(answer))
}
