//! `GET /account/3pid`: the e-mail addresses and telephone numbers of the account. There are none yet.
//!
//! [CS-API §get_matrixclientv3account3pid]

use ruma_client_api::account::get_3pids::v3;
use serde_json::{Value, json};

use crate::{Call, Json, Result};

pub async fn get_threepids(_call: Call<v3::Request>) -> Result<Json<Value>> {
    Ok(Json(json!({ "threepids": [] })))
}
