//! `PUT …/dehydrated_device`: packing a device, in place of the one before. [MSC3814]

use std::collections::BTreeMap;

use axum::extract::State;
use koine_account::{DehydratedDevice, KeyUpload};
use ruma_common::{CanonicalJsonObject, CanonicalJsonValue, OwnedDeviceId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Put;
use crate::{Api, Json, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Body {
    device_id: OwnedDeviceId,
    device_data: Map<String, Value>,
    initial_device_display_name: Option<String>,
    device_keys: Option<CanonicalJsonObject>,
    #[serde(default)]
    one_time_keys: BTreeMap<String, CanonicalJsonValue>,
    #[serde(default)]
    fallback_keys: BTreeMap<String, CanonicalJsonValue>,
}

pub async fn put_dehydrated_device(State(api): State<Api>, call: Loose<Put, Body>) -> Result<Json<Value>> {
    let body = call.body;
    let device_data = Value::Object(body.device_data).to_string();
    let device = DehydratedDevice { device_id: body.device_id.clone(), device_data };
    let keys = KeyUpload {
        device_keys: body.device_keys,
        one_time_keys: body.one_time_keys,
        fallback_keys: body.fallback_keys,
    };
    api.accounts.dehydrate_device(&call.who.user_id, device, body.initial_device_display_name, keys).await?;
    Ok(Json(json!({ "device_id": body.device_id })))
}
