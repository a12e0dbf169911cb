//! `PUT /rooms/{roomId}/state/{eventType}/{stateKey}`: setting a piece of a room's state.
//!
//! [CS-API §put_matrixclientv3roomsroomidstateeventtypestatekey]

use axum::extract::State;
use ruma_client_api::state::send_state_event::v3;
use ruma_common::{RoomId, UserId};
use serde_json::{Value, json, value::RawValue};

use super::{content, invite_user::check_invite_rules, path, permit, sender, sent_at, upgrade_room::take_along};
use crate::{
    Api, Checked, Json, Loose, Result, User,
    delayed_events::{delay_of, schedule},
    own_requests::About,
};

pub async fn set_state_event(State(api): State<Api>, call: Loose<v3::Request, Checked>) -> Result<Json<Value>> {
    let room: &RoomId = path(&call.path, 0)?;
    let (kind, state_key) = (call.path[1].as_str(), call.path[2].as_str());
    call.who.not_suspended()?;
    permit(&api, &call.who)?;
    if let Some(delay) = delay_of(&call.query)? {
        return schedule(&api, &call.who, room, (kind, Some(state_key)), (&call.body.0, delay), None).await;
    }
    let content = content(&call.body.0)?;
    if kind == "m.room.member" {
        may_invite(&api, &call.who, state_key, content)?;
    }
    let sent_at = sent_at(&call.who, &call.query)?;
    let _under_way = api.own_requests().begin(&call.who, About::Event);
    let event_id = api.rooms.set_state_at(sender(&call.who), room, (kind, state_key), content, sent_at).await?;
    if kind == "m.room.tombstone" {
        let fields: Value = serde_json::from_str(content.get()).unwrap_or_default();
        if let Some(replacement) = fields["replacement_room"].as_str().and_then(|id| <&RoomId>::try_from(id).ok()) {
            take_along(&api, replacement).await;
        }
    }
    Ok(Json(json!({ "event_id": event_id })))
}

/// An invitation by way of the state is one like others. [CS-API §invite-permission]
fn may_invite(api: &Api, who: &User, target: &str, content: &RawValue) -> Result<()> {
    let fields: Value = serde_json::from_str(content.get()).unwrap_or_default();
    match <&UserId>::try_from(target) {
        Ok(target) if fields["membership"] == "invite" => check_invite_rules(api, &who.user_id, target),
        _ => Ok(()),
    }
}
