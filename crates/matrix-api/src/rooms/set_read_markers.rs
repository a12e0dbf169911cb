//! `POST /rooms/{roomId}/read_markers`: the fully-read marker and receipts in one request.
//!
//! [CS-API §post_matrixclientv3roomsroomidread_markers]

use axum::extract::State;
use koine_room::{CommandError, Membership, Order, ReceiptType};
use ruma_client_api::read_marker::set_read_marker::v3;
use ruma_common::{EventId, OwnedEventId, RoomId};
use serde::Deserialize;
use serde_json::json;

use super::path;
use crate::{Api, Empty, Loose, Result, User};

#[derive(Debug, Deserialize)]
pub struct Body {
    #[serde(rename = "m.fully_read", default)]
    fully_read: Option<OwnedEventId>,
    #[serde(rename = "m.read", default)]
    read: Option<OwnedEventId>,
    #[serde(rename = "m.read.private", default)]
    read_private: Option<OwnedEventId>,
}

pub async fn set_read_markers(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Empty> {
    let room: &RoomId = path(&call.path, 0)?;
    let (who, body) = (&call.who, &call.body);
    for (kind, event) in [(ReceiptType::Read, &body.read), (ReceiptType::ReadPrivate, &body.read_private)] {
        if let Some(event) = event {
            api.rooms.set_receipt(&who.user_id, room, kind, event, None).await?;
        }
    }
    if let Some(event) = &body.fully_read {
        set_fully_read(&api, who, room, event).await?;
    }
    Ok(Empty)
}

/// The marker is account data that clients cannot set in another way. It never moves back. [CS-API §fully-read-markers]
pub(super) async fn set_fully_read(api: &Api, who: &User, id: &RoomId, event: &EventId) -> Result<()> {
    #[derive(Deserialize)]
    struct Content {
        event_id: OwnedEventId,
    }
    let room = api.rooms.room(id)?;
    if room.local_membership(&who.user_id) != Some(Membership::Join) {
        return Err(CommandError::NotJoined.into());
    }
    let order = room.event(event)?.ok_or(CommandError::NoSuchEvent)?.order;
    let before = api.accounts.account_data(&who.user_id, Some(id), "m.fully_read")?;
    let before = before.and_then(|content| serde_json::from_str::<Content>(&content).ok());
    let before = before.map(|content| room.event(&content.event_id)).transpose()?.flatten();
    if before.map_or(Order::MIN, |placed| placed.order) >= order {
        return Ok(());
    }
    let content = json!({ "event_id": event }).to_string();
    api.accounts.set_account_data(&who.user_id, Some(id), "m.fully_read", content).await?;
    Ok(())
}
