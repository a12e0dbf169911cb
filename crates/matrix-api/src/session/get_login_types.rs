//! `GET /login`: the ways to log in.
//!
//! [CS-API §get_matrixclientv3login]

use axum::extract::State;
use ruma_client_api::session::get_login_types::v3;
use serde_json::{Value, json};

use crate::{Api, Call, Json, Result};

pub async fn get_login_types(State(api): State<Api>, _call: Call<v3::Request>) -> Result<Json<Value>> {
    let mut flows =
        vec![json!({ "type": "m.login.password" }), json!({ "type": "m.login.token", "get_login_token": true })];
    if !api.services.all().is_empty() {
        flows.push(json!({ "type": "m.login.application_service" }));
    }
    Ok(Json(json!({ "flows": flows })))
}
