//! Which events can allow an event, and whether those it names are the right ones.
//! [SS-API §auth-events-selection] [RV1 §authorization-rules] 2, [RV12 §authorization-rules] 3

use std::collections::HashSet;

use ruma_common::{EventId, UserId, room_version_rules::RoomVersionRules};
use serde_json::value::RawValue;

use super::Refusal;
use crate::{
    content::{field, raw_field},
    event::{Event, Membership},
};

/// Type and state key of the events of the room's state that a new event must name as its `auth_events`, as far as the
/// state has them.
pub fn needed(
    rules: &RoomVersionRules,
    kind: &str,
    sender: &UserId,
    state_key: Option<&str>,
    content: &RawValue,
) -> Vec<(&'static str, String)> {
    // The auth_events for the m.room.create event in a room is empty; for other events, it should be the following subset
    // of the room state:
    if kind == "m.room.create" {
        return Vec::new();
    }
    let mut needed = Vec::with_capacity(5);
    // - Depending on the room version, the m.room.create event.
    if rules.event_format.allow_room_create_in_auth_events {
        needed.push(("m.room.create", String::new()));
    }
    // - The current m.room.power_levels event, if any.
    needed.push(("m.room.power_levels", String::new()));
    // - The sender's current m.room.member event, if any.
    needed.push(("m.room.member", sender.to_string()));
    // - If type is m.room.member:
    if kind == "m.room.member"
        && let Some(target) = state_key
    {
        needed_for_member(rules, sender, target, content, &mut needed);
    }
    needed
}

fn needed_for_member(
    rules: &RoomVersionRules,
    sender: &UserId,
    target: &str,
    content: &RawValue,
    needed: &mut Vec<(&'static str, String)>,
) {
    let membership = field::<String>(content, "membership").as_deref().and_then(Membership::from_name);
    // - The target's current m.room.member event, if any.
    if target != sender.as_str() {
        needed.push(("m.room.member", target.to_owned()));
    }
    // - If membership is join, invite or knock, the current m.room.join_rules event, if any.
    let by_join_rules = match membership {
        Some(Membership::Join | Membership::Invite) => true,
        Some(Membership::Knock) => rules.authorization.knocking,
        _ => false,
    };
    if by_join_rules {
        needed.push(("m.room.join_rules", String::new()));
    }
    // - If membership is invite and content contains a third_party_invite property, the current
    //   m.room.third_party_invite event with state_key matching content.third_party_invite.signed.token, if any.
    if membership == Some(Membership::Invite)
        && let Some(token) = raw_field(content, "third_party_invite")
            .and_then(|invite| raw_field(invite, "signed"))
            .and_then(|signed| field::<String>(signed, "token"))
    {
        needed.push(("m.room.third_party_invite", token));
    }
    // - If membership is join, content.join_authorised_via_users_server is present, and the room version supports
    //   restricted rooms, then the m.room.member event with state_key matching it.
    if membership == Some(Membership::Join)
        && rules.authorization.restricted_join_rule
        && let Some(voucher) = field::<String>(content, "join_authorised_via_users_server")
        && voucher != sender.as_str()
        && voucher != target
    {
        needed.push(("m.room.member", voucher));
    }
}

/// Checks the events that `event` names as its `auth_events`, all of which must be given.
pub fn check_auth_events(
    rules: &RoomVersionRules,
    event: &Event,
    auth_events: &[Event],
    is_rejected: impl Fn(&EventId) -> bool,
) -> Result<(), Refusal> {
    let expected = needed(rules, event.kind(), event.sender(), event.state_key(), event.content());
    let mut seen = HashSet::with_capacity(auth_events.len());
    for auth_event in auth_events {
        let key = (auth_event.kind(), auth_event.state_key());
        let named = || (key.0.to_owned(), key.1.unwrap_or_default().to_owned());
        // 1. If there are duplicate entries for a given type and state_key pair, reject.
        if !seen.insert(key) {
            let (kind, state_key) = named();
            return Err(Refusal::AuthEventTwice { kind, state_key });
        }
        // 2. If there are entries whose type and state_key don't match those specified by the auth events selection
        //    algorithm described in the server specification, reject.
        if !expected.iter().any(|(kind, state_key)| key == (*kind, Some(state_key.as_str()))) {
            let (kind, state_key) = named();
            return Err(Refusal::AuthEventUnwanted { kind, state_key });
        }
        // 3. If there are entries which were themselves rejected under the checks performed on receipt of a PDU, reject.
        if is_rejected(auth_event.event_id()) {
            return Err(Refusal::AuthEventRejected(auth_event.event_id().to_owned()));
        }
    }
    // [RV1..11] 4. If there is no m.room.create event among the entries, reject.
    let must_name_create = rules.event_format.allow_room_create_in_auth_events && event.kind() != "m.room.create";
    if must_name_create && !auth_events.iter().any(|event| event.is("m.room.create", "")) {
        return Err(Refusal::AuthEventsWithoutCreate);
    }
    // 5. If any event in auth_events has a room_id which does not match that of the event being authorised, reject.
    match auth_events.iter().find(|auth_event| auth_event.room_id() != event.room_id()) {
        Some(other) => Err(Refusal::AuthEventOfOtherRoom(other.event_id().to_owned())),
        None => Ok(()),
    }
}
