//! `GET` and `DELETE …/dehydrated_device`: the packed device, to be unpacked or thrown away. [MSC3814]

use axum::extract::State;
use serde::de::IgnoredAny;
use serde_json::{Value, json, value::RawValue};

use super::{Delete, Get, none};
use crate::{Api, Error, Json, Loose, Result};

pub async fn get_dehydrated_device(State(api): State<Api>, call: Loose<Get, IgnoredAny>) -> Result<Json<Value>> {
    let device = api.accounts.dehydrated_device(&call.who.user_id)?.ok_or_else(none)?;
    let data: &RawValue = serde_json::from_str(&device.device_data).map_err(Error::internal)?;
    Ok(Json(json!({ "device_id": device.device_id, "device_data": data })))
}

pub async fn delete_dehydrated_device(State(api): State<Api>, call: Loose<Delete, IgnoredAny>) -> Result<Json<Value>> {
    let deleted = api.accounts.delete_dehydrated_device(&call.who.user_id).await?;
    Ok(Json(json!({ "device_id": deleted.ok_or_else(none)? })))
}
