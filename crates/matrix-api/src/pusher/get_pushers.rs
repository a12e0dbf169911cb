//! `GET /pushers`: the pushers of the account.
//!
//! [CS-API §get_matrixclientv3pushers] None can be set here, so there are none.

use ruma_client_api::push::get_pushers::v3;
use serde_json::{Value, json};

use crate::{Call, Json};

pub async fn get_pushers(_call: Call<v3::Request>) -> Json<Value> {
    Json(json!({ "pushers": [] }))
}
