//! `GET …/delayed_events`: what is scheduled; and one of them, also after it was sent or taken back. [MSC4140]

use axum::extract::State;
use koine_room::{DelayedEvent, Done};
use serde::de::IgnoredAny;
use serde_json::{Value, json, value::RawValue};

use super::{GetAll, GetOne, unknown};
use crate::{Api, Json, Loose, Result};

pub async fn get_all(State(api): State<Api>, call: Loose<GetAll, IgnoredAny>) -> Result<Json<Value>> {
    let scheduled = api.rooms.scheduled(&call.who.user_id)?;
    let scheduled: Vec<Value> = scheduled.iter().map(shown).collect();
    Ok(Json(json!({ "delayed_events": scheduled })))
}

pub async fn get_one(State(api): State<Api>, call: Loose<GetOne, IgnoredAny>) -> Result<Json<Value>> {
    let found = api.rooms.delayed(&call.path[0])?.filter(|event| event.sender == call.who.user_id);
    Ok(Json(shown(&found.ok_or_else(unknown)?)))
}

fn shown(event: &DelayedEvent) -> Value {
    let content: &RawValue = serde_json::from_str(&event.content).unwrap_or(RawValue::NULL);
    let mut shown = json!({
        "delay_id": event.delay_id,
        "room_id": event.room_id,
        "type": event.kind,
        "delay": event.delay_ms,
        "running_since": event.running_since,
        "content": content,
    });
    if let Some(state_key) = &event.state_key {
        shown["state_key"] = json!(state_key);
    }
    let Some((done, at)) = &event.done else { return shown };
    shown["finalised_ts"] = json!(at);
    match done {
        Done::Sent(event_id) => shown["event_id"] = json!(event_id),
        Done::Failed(reason) => shown["error"] = json!({ "errcode": "M_FORBIDDEN", "error": reason }),
        Done::Cancelled => {}
    }
    shown
}
