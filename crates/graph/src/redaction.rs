//! What is left of an event when it is redacted: the keys that the rules of the room need. [RV11 §redactions]
//!
//! Also the form that is signed and that event ids are the hash of, so it works on JSON trees without copying.

use ruma_common::room_version_rules::{RedactionRules, RoomVersionRules};

use crate::{
    event::{Event, EventError},
    json::{self, Json, Object},
};

/// The event as it is once redacted: same id, same place in the graph, emptied content.
pub fn redact(rules: &RoomVersionRules, event: &Event) -> Result<Event, EventError> {
    let Json::Object(object) = json::parse(event.json())? else { return Err(EventError::NotAnObject) };
    let left = redacted(&rules.redaction, &object);
    Event::from_stored(left.to_bytes().into(), event.event_id().to_owned())
}

/// What a redaction leaves of an event's JSON object. Copies no more than that.
pub fn redacted<'a>(rules: &RedactionRules, event: &Object<'a>) -> Object<'a> {
    let kind = event.get("type").and_then(Json::as_str).unwrap_or_default();
    let content = match event.get("content").and_then(Json::as_object) {
        Some(content) if keeps_content(kind) => {
            let mut content = content.clone();
            redact_content(rules, kind, &mut content);
            content
        }
        _ => Object::default(),
    };
    let mut left = event.filtered(|key| key != "content" && keeps_key(rules, key));
    left.insert("content", Json::Object(content));
    left
}

fn keeps_key(rules: &RedactionRules, key: &str) -> bool {
    match key {
        "event_id" | "type" | "room_id" | "sender" | "state_key" | "content" | "hashes" | "signatures" | "depth"
        | "prev_events" | "auth_events" | "origin_server_ts" => true,
        "prev_state" | "origin" | "membership" => rules.keep_origin_membership_prev_state,
        _ => false,
    }
}

/// Whether a redaction may leave something in the content of such an event.
fn keeps_content(kind: &str) -> bool {
    matches!(
        kind,
        "m.room.member"
            | "m.room.create"
            | "m.room.join_rules"
            | "m.room.power_levels"
            | "m.room.aliases"
            | "m.room.history_visibility"
            | "m.room.redaction"
    )
}

/// Redacts the content of an event of type `kind` in place.
pub fn redact_content(rules: &RedactionRules, kind: &str, content: &mut Object<'_>) {
    match kind {
        "m.room.member" => content.retain(|key, value| match key {
            "membership" => true,
            "join_authorised_via_users_server" => rules.keep_room_member_join_authorised_via_users_server,
            // Only `signed` stays of the invite; without it an empty invite stays, as servers agree.
            "third_party_invite" if rules.keep_room_member_third_party_invite_signed => match value {
                Json::Object(invite) => {
                    invite.retain(|key, _| key == "signed");
                    true
                }
                _ => false,
            },
            _ => false,
        }),
        "m.room.create" if rules.keep_room_create_content => {}
        "m.room.create" => content.retain(|key, _| key == "creator"),
        "m.room.join_rules" => {
            content.retain(|key, _| key == "join_rule" || (key == "allow" && rules.keep_room_join_rules_allow));
        }
        "m.room.power_levels" => content.retain(|key, _| match key {
            "ban" | "events" | "events_default" | "kick" | "redact" | "state_default" | "users" | "users_default" => {
                true
            }
            "invite" => rules.keep_room_power_levels_invite,
            _ => false,
        }),
        "m.room.aliases" => content.retain(|key, _| key == "aliases" && rules.keep_room_aliases_aliases),
        "m.room.history_visibility" => content.retain(|key, _| key == "history_visibility"),
        "m.room.redaction" => content.retain(|key, _| key == "redacts" && rules.keep_room_redaction_redacts),
        _ => *content = Object::default(),
    }
}
