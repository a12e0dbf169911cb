//! The strict door: the event format of each room version, checked on the bytes of a stranger.
//! [SS-API §checks-performed-on-receipt-of-a-pdu] step 1, [RV1 §event-format] [RV3 §event-format] [RV12 §event-format]

use ruma_common::{
    OwnedEventId, OwnedRoomId, OwnedUserId,
    room_version_rules::{EventsReferenceFormatVersion, RoomVersionRules},
};

use super::{
    AUTH_EVENTS_MAX, EVENT_BYTES_MAX, Event, EventError, FIELD_BYTES_MAX, PREV_EVENTS_MAX, RAW_BYTES_MAX, stored,
};
use crate::{
    hashes,
    json::{self, INTEGER_MAX, Json, Object},
};

pub(super) fn parse(rules: &RoomVersionRules, bytes: &[u8]) -> Result<Event, EventError> {
    if bytes.len() > RAW_BYTES_MAX {
        return Err(EventError::TooLarge { bytes: bytes.len() });
    }
    let Json::Object(mut event) = json::parse(bytes)? else { return Err(EventError::NotAnObject) };
    // No part of the event: peers put here what they think of it.
    event.remove("unsigned");
    if rules.authorization.strict_canonical_json && !event.iter().all(|(_, value)| value.is_canonical()) {
        return Err(EventError::NotCanonical);
    }
    let canonical = event.to_bytes();
    if canonical.len() > EVENT_BYTES_MAX {
        return Err(EventError::TooLarge { bytes: canonical.len() });
    }
    check_fields(rules, &event)?;
    let event_id = match hashes::event_id(rules, &hashes::reference_hash(rules, &event)) {
        Some(event_id) => event_id,
        None => event_id_in(&event)?,
    };
    stored::parse(canonical.into(), event_id)
}

fn check_fields(rules: &RoomVersionRules, event: &Object<'_>) -> Result<(), EventError> {
    // COMPAT(Synapse): in versions before 11 servers have counted letters instead of bytes, and rooms have such events.
    let counts_bytes = rules.authorization.use_room_create_sender;
    let kind = text_field(event, "type", counts_bytes)?.ok_or(EventError::Missing("type"))?;
    let sender = string(event, "sender")?.ok_or(EventError::Missing("sender"))?;
    if OwnedUserId::try_from(sender).is_err() {
        return Err(EventError::Invalid("sender"));
    }
    text_field(event, "state_key", counts_bytes)?;
    let named_by_itself = kind == "m.room.create" && !rules.event_format.require_room_create_room_id;
    match string(event, "room_id")? {
        Some(_) if named_by_itself => return Err(EventError::Unwanted("room_id")),
        None if named_by_itself => {}
        None => return Err(EventError::Missing("room_id")),
        Some(room_id) if OwnedRoomId::try_from(room_id).is_err() => return Err(EventError::Invalid("room_id")),
        Some(_) => {}
    }
    object(event, "content")?;
    object(event, "hashes")?;
    object(event, "signatures")?;
    whole_number(event, "depth", i64::MAX)?;
    whole_number(event, "origin_server_ts", INTEGER_MAX)?;
    references(rules, event, "prev_events", PREV_EVENTS_MAX)?;
    references(rules, event, "auth_events", AUTH_EVENTS_MAX)
}

/// A field that is a string of at most 255 bytes, if it is there.
fn string<'o>(event: &'o Object<'_>, field: &'static str) -> Result<Option<&'o str>, EventError> {
    text_field(event, field, true)
}

/// The same, of at most 255 bytes or else characters. [CS-API §size-limits]
fn text_field<'o>(
    event: &'o Object<'_>,
    field: &'static str,
    counts_bytes: bool,
) -> Result<Option<&'o str>, EventError> {
    let Some(value) = event.get(field) else { return Ok(None) };
    let text = value.as_str().ok_or(EventError::Invalid(field))?;
    if text.len() > FIELD_BYTES_MAX && (counts_bytes || text.chars().count() > FIELD_BYTES_MAX) {
        return Err(EventError::FieldTooLarge { field, bytes: text.len() });
    }
    Ok(Some(text))
}

fn object(event: &Object<'_>, field: &'static str) -> Result<(), EventError> {
    let value = event.get(field).ok_or(EventError::Missing(field))?;
    value.as_object().map(|_| ()).ok_or(EventError::Invalid(field))
}

/// Versions 1 to 5 have depths up to 2^63 - 1, beyond what canonical JSON can say.
fn whole_number(event: &Object<'_>, field: &'static str, max: i64) -> Result<(), EventError> {
    let number = match event.get(field).ok_or(EventError::Missing(field))? {
        Json::Integer(number) => Some(*number),
        Json::OtherNumber(text) => text.parse().ok(),
        _ => None,
    };
    match number {
        Some(number) if (0..=max).contains(&number) => Ok(()),
        _ => Err(EventError::Invalid(field)),
    }
}

fn references(rules: &RoomVersionRules, event: &Object<'_>, field: &'static str, max: usize) -> Result<(), EventError> {
    let list = event.get(field).ok_or(EventError::Missing(field))?.as_array().ok_or(EventError::Invalid(field))?;
    if list.len() > max {
        return Err(EventError::TooMany { field, count: list.len(), max });
    }
    for reference in list {
        let id = match rules.events_reference_format {
            EventsReferenceFormatVersion::V1 => match reference.as_array() {
                Some([id, Json::Object(_)]) => id.as_str(),
                _ => None,
            },
            _ => reference.as_str(),
        };
        if id.is_none_or(|id| OwnedEventId::try_from(id).is_err()) {
            return Err(EventError::Invalid(field));
        }
    }
    Ok(())
}

/// The id that events of versions 1 and 2 carry: `$opaque:server`.
fn event_id_in(event: &Object<'_>) -> Result<OwnedEventId, EventError> {
    let id = string(event, "event_id")?.ok_or(EventError::Missing("event_id"))?;
    let id = OwnedEventId::try_from(id).map_err(|_| EventError::Invalid("event_id"))?;
    if id.server_name().is_none() {
        return Err(EventError::Invalid("event_id"));
    }
    Ok(id)
}
