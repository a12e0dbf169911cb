//! `PUT /rooms/{roomId}/redact/{eventId}/{txnId}`: emptying an event.
//!
//! [CS-API §put_matrixclientv3roomsroomidredacteventidtxnid]

use axum::extract::State;
use ruma_client_api::redact::redact_event::v3;
use ruma_common::{EventId, RoomId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{path, permit, sender};
use crate::{Api, Json, Loose, Result, own_requests::About};

#[derive(Debug, Deserialize)]
pub struct Body {
    #[serde(default)]
    reason: Option<String>,
}

pub async fn redact_event(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<Value>> {
    let room: &RoomId = path(&call.path, 0)?;
    let event: &EventId = path(&call.path, 1)?;
    let txn = call.path[2].as_str();
    permit(&api, &call.who)?;
    // [CS-API §account-suspension] What the suspended said themselves they may take back.
    let target = api.rooms.room(room).and_then(|room| room.event(event));
    if !matches!(target, Ok(Some(target)) if target.event.sender() == call.who.user_id) {
        call.who.not_suspended()?;
    }
    let _under_way = api.own_requests().begin(&call.who, About::Event);
    let reason = call.body.reason.as_deref();
    let event_id = api.rooms.redact(sender(&call.who), room, event, reason, Some(txn)).await?;
    Ok(Json(json!({ "event_id": event_id })))
}
