//! `POST …/dehydrated_device/{deviceId}/events`: what waits in the postbox of the packed device. [MSC3814]
//!
//! Nothing is thrown away before the device is: whoever unpacks it may fail half way. A page without events is the last.

use axum::extract::State;
use koine_store::Position;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{GetEvents, none};
use crate::{Api, Error, Json, Loose, Result};

/// Messages of one page.
const PAGE: usize = 100;

#[derive(Debug, Default, Deserialize)]
pub struct Body {
    next_batch: Option<String>,
}

pub async fn get_events(State(api): State<Api>, call: Loose<GetEvents, Body>) -> Result<Json<Value>> {
    let user = &call.who.user_id;
    let device = api.accounts.dehydrated_device(user)?.ok_or_else(none)?;
    if device.device_id != *call.path[0] {
        return Err(Error::forbidden("This is not the dehydrated device"));
    }
    let known = match call.body.next_batch.as_deref() {
        Some(token) => token.parse().map(Position).map_err(|_| Error::invalid_param("`next_batch` is none of ours"))?,
        None => Position(0),
    };
    let (messages, next) = api.accounts.dehydrated_postbox(user, &device.device_id, known, PAGE)?;
    let events: Vec<&RawValue> = messages
        .iter()
        .map(|json| serde_json::from_slice(json))
        .collect::<std::result::Result<_, _>>()
        .map_err(Error::internal)?;
    Ok(Json(json!({ "events": events, "next_batch": next.0.to_string() })))
}
