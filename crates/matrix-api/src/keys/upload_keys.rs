//! `POST /keys/upload`: a device publishes its keys.
//!
//! [CS-API §post_matrixclientv3keysupload]

use std::collections::BTreeMap;

use axum::extract::State;
use koine_account::KeyUpload;
use ruma_client_api::keys::upload_keys::v3;
use ruma_common::{CanonicalJsonObject, CanonicalJsonValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::one_time_key_counts;
use crate::{Api, Json, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Body {
    device_keys: Option<CanonicalJsonObject>,
    one_time_keys: Option<BTreeMap<String, CanonicalJsonValue>>,
    /// COMPAT(clients from before v1.2): the name it had as a proposal.
    #[serde(alias = "org.matrix.msc2732.fallback_keys")]
    fallback_keys: Option<BTreeMap<String, CanonicalJsonValue>>,
}

pub async fn upload_keys(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<Value>> {
    let upload = KeyUpload {
        device_keys: call.body.device_keys,
        one_time_keys: call.body.one_time_keys.unwrap_or_default(),
        fallback_keys: call.body.fallback_keys.unwrap_or_default(),
    };
    let state = api.accounts.upload_keys(&call.who.user_id, &call.who.device_id, upload).await?;
    Ok(Json(json!({ "one_time_key_counts": one_time_key_counts(&state.one_time_keys) })))
}
