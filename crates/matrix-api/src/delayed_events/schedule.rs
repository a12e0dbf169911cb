//! Scheduling an event. [MSC4140]

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use koine_room::{DELAY_MAX, Delayed, Sender};
use ruma_common::RoomId;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::Send;
use crate::{
    Api, Error, Json, Loose, Result, User,
    rooms::{content, path, permit},
};

/// The parameter by which an ordinary request becomes one for later.
const DELAY: &str = "org.matrix.msc4140.delay";

#[derive(Debug, Deserialize)]
pub struct Body {
    delay: Option<u64>,
    state_key: Option<String>,
    content: Option<Box<RawValue>>,
}

/// How long an ordinary request wants its event to wait.
pub(crate) fn delay_of(query: &str) -> Result<Option<Duration>> {
    let found = query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == DELAY));
    let Some((_, value)) = found else { return Ok(None) };
    let milliseconds = value.parse().map_err(|_| Error::invalid_param(format!("`{DELAY}` is a number of ms")))?;
    Ok(Some(Duration::from_millis(milliseconds)))
}

/// Schedules an event with the content that is the body; the answer. The same transaction once more needs no body.
pub(crate) async fn schedule(
    api: &Api,
    who: &User,
    room: &RoomId,
    (kind, state_key): (&str, Option<&str>),
    (body, delay): (&[u8], Duration),
    txn: Option<&str>,
) -> Result<Json<Value>> {
    let sender = Sender { user: &who.user_id, device: Some(who.device_id.as_str()) };
    if let Some(txn) = txn
        && let Some(delay_id) = api.rooms.scheduled_before(sender, room, kind, txn)?
    {
        return Ok(Json(json!({ "delay_id": delay_id })));
    }
    if delay > DELAY_MAX {
        let max = u64::try_from(DELAY_MAX.as_millis()).unwrap_or(u64::MAX);
        let message = format!("An event can be delayed by at most {max} ms");
        return Err(Error::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", message)
            .with("org.matrix.msc4140.errcode", "M_MAX_DELAY_EXCEEDED")
            .with("org.matrix.msc4140.max_delay", max));
    }
    let wanted = Delayed { kind, state_key, content: content(body)?, delay };
    let delay_id = api.rooms.schedule(sender, room, wanted, txn).await?;
    Ok(Json(json!({ "delay_id": delay_id })))
}

pub async fn send_delayed_event(State(api): State<Api>, call: Loose<Send, Body>) -> Result<Json<Value>> {
    let room: &RoomId = path(&call.path, 0)?;
    let (kind, txn) = (call.path[1].as_str(), call.path[2].as_str());
    call.who.not_suspended()?;
    permit(&api, &call.who)?;
    let delay = call.body.delay.ok_or_else(|| Error::missing_param("`delay` is missing"))?;
    let content = call.body.content.ok_or_else(|| Error::missing_param("`content` is missing"))?;
    let what = (kind, call.body.state_key.as_deref());
    let how = (content.get().as_bytes(), Duration::from_millis(delay));
    schedule(&api, &call.who, room, what, how, Some(txn)).await
}
