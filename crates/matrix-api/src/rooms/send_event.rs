//! `PUT /rooms/{roomId}/send/{eventType}/{txnId}`: saying something.
//!
//! [CS-API §put_matrixclientv3roomsroomidsendeventtypetxnid] The path that is walked most: the content stays the bytes
//! it came as, looked at once for being a JSON object. [AS-API §timestamp-massaging]

use axum::extract::State;
use ruma_client_api::message::send_message_event::v3;
use ruma_common::RoomId;
use serde_json::{Value, json};

use super::{content, path, permit, sender, sent_at};
use crate::{
    Api, Checked, Json, Loose, Result,
    delayed_events::{delay_of, schedule},
    own_requests::About,
};

pub async fn send_event(State(api): State<Api>, call: Loose<v3::Request, Checked>) -> Result<Json<Value>> {
    let room: &RoomId = path(&call.path, 0)?;
    let (kind, txn) = (call.path[1].as_str(), call.path[2].as_str());
    call.who.not_suspended()?;
    permit(&api, &call.who)?;
    if let Some(delay) = delay_of(&call.query)? {
        return schedule(&api, &call.who, room, (kind, None), (&call.body.0, delay), Some(txn)).await;
    }
    let content = content(&call.body.0)?;
    let _under_way = api.own_requests().begin(&call.who, About::Event);
    let sent_at = sent_at(&call.who, &call.query)?;
    let event_id = api.rooms.send_at(sender(&call.who), room, (kind, content), Some(txn), sent_at).await?;
    api.accounts.presences().act(&call.who.user_id, &call.who.device_id);
    Ok(Json(json!({ "event_id": event_id })))
}
