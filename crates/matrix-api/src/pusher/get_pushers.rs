//! `GET /pushers`: the pushers of the account.
//!
//! [CS-API §get_matrixclientv3pushers]

use axum::extract::State;
use koine_push::Pusher;
use ruma_client_api::push::get_pushers::v3;
use serde_json::{Value, json};

use crate::{Api, Call, Error, Json, Result};

pub async fn get_pushers(State(api): State<Api>, call: Call<v3::Request>) -> Result<Json<Value>> {
    let pushers = api.pushers.of(&call.who.user_id).map_err(Error::internal)?;
    let pushers: Vec<Value> = pushers.iter().map(|pusher| shown(pusher)).collect();
    Ok(Json(json!({ "pushers": pushers })))
}

fn shown(pusher: &Pusher) -> Value {
    let mut shown = json!({
        "kind": "http",
        "app_id": pusher.app_id,
        "pushkey": pusher.pushkey,
        "app_display_name": pusher.app_display_name,
        "device_display_name": pusher.device_display_name,
        "lang": pusher.lang,
        "data": pusher.data,
    });
    if let Some(tag) = &pusher.profile_tag {
        shown["profile_tag"] = json!(tag);
    }
    shown
}
