//! `POST /user/{userId}/openid/request_token`: a token that tells others who one is.
//!
//! [CS-API §post_matrixclientv3useruseridopenidrequest_token]

use axum::extract::State;
use koine_account::{Class, LimitKey, OPENID_TOKEN_LIFE};
use ruma_client_api::account::request_openid_token::v3;
use serde_json::{Value, json};

use crate::{Api, Call, Error, Json, Result};

pub async fn request_openid_token(State(api): State<Api>, call: Call<v3::Request>) -> Result<Json<Value>> {
    if call.request.user_id != call.who.user_id {
        return Err(Error::forbidden("You can only prove who you are yourself"));
    }
    api.permit(Class::Login, LimitKey::User(&call.who.user_id))?;
    let token = api.accounts.new_openid_token(&call.who.user_id).await?;
    Ok(Json(json!({
        "access_token": token.expose(),
        "token_type": "Bearer",
        "matrix_server_name": api.accounts.server_name(),
        "expires_in": OPENID_TOKEN_LIFE.as_secs(),
    })))
}
