//! `GET /.well-known/matrix/client`: where the client API of this domain is.
//!
//! [CS-API §getwell-knownmatrixclient]

use axum::extract::State;
use ruma_client_api::discovery::discover_homeserver::Request;
use serde_json::{Value, json};

use crate::{Api, Call, Error, Json, Result};

pub async fn get_well_known(State(api): State<Api>, _call: Call<Request>) -> Result<Json<Value>> {
    let base_url = api.config.public_base_url.as_ref();
    let base_url = base_url.ok_or_else(|| Error::not_found("The address of this server is its name"))?;
    Ok(Json(json!({ "m.homeserver": { "base_url": base_url } })))
}
