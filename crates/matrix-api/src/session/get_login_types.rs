//! `GET /login`: the ways to log in.
//!
//! [CS-API §get_matrixclientv3login]

use ruma_client_api::session::get_login_types::v3;
use serde_json::{Value, json};

use crate::{Call, Json, Result};

pub async fn get_login_types(_call: Call<v3::Request>) -> Result<Json<Value>> {
    Ok(Json(json!({
        "flows": [{ "type": "m.login.password" }, { "type": "m.login.token", "get_login_token": true }]
    })))
}
