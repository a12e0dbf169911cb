//! `POST /rooms/{roomId}/receipt/{receiptType}/{eventId}`: read up to here.
//!
//! [CS-API §post_matrixclientv3roomsroomidreceiptreceipttypeeventid]

use axum::extract::State;
use koine_room::ReceiptType;
use ruma_client_api::receipt::create_receipt::v3;
use ruma_common::{EventId, RoomId};
use serde::Deserialize;
use serde_json::Value;

use super::{path, set_read_markers::set_fully_read};
use crate::{Api, Empty, Error, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Body {
    #[serde(default)]
    thread_id: Option<Value>,
}

pub async fn set_receipt(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Empty> {
    let room: &RoomId = path(&call.path, 0)?;
    let kind = call.path[1].as_str();
    let event: &EventId = path(&call.path, 2)?;
    let thread = match &call.body.thread_id {
        None => None,
        Some(Value::String(thread)) if !thread.is_empty() => Some(thread.as_str()),
        Some(_) => return Err(Error::invalid_param("`thread_id` must be a string that is not empty")),
    };
    if kind == "m.fully_read" {
        if thread.is_some() {
            return Err(Error::invalid_param("`m.fully_read` knows no threads"));
        }
        set_fully_read(&api, &call.who, room, event).await?;
        return Ok(Empty);
    }
    let kind = ReceiptType::parse(kind)
        .ok_or_else(|| Error::invalid_param("Receipts are of type m.read, m.read.private or m.fully_read"))?;
    api.rooms.set_receipt(&call.who.user_id, room, kind, event, thread).await?;
    Ok(Empty)
}
