//! The cheap door: parsing an event that was checked before.

use std::{fmt, sync::OnceLock};

use bytes::Bytes;
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Event, EventError, Inner};

#[derive(Deserialize)]
struct Head<'a> {
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    #[serde(rename = "type")]
    kind: Box<str>,
    state_key: Option<Box<str>>,
    #[serde(default)]
    prev_events: Vec<Reference>,
    #[serde(default)]
    auth_events: Vec<Reference>,
    #[serde(default)]
    depth: u64,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    // A client of old could send anything here, and the rules do not mind.
    #[serde(borrow)]
    redacts: Option<&'a RawValue>,
    content: Box<RawValue>,
}

/// A reference to an event: its id, or in versions 1 and 2 a pair of id and hashes.
struct Reference(OwnedEventId);

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Reference;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event id, or a pair of an event id and hashes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Reference, E> {
                OwnedEventId::try_from(text).map(Reference).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Reference, A::Error> {
                let id = pair.next_element()?.ok_or_else(|| serde::de::Error::invalid_length(0, &self))?;
                while pair.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Reference(id))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

pub(super) fn parse(json: Bytes, event_id: OwnedEventId) -> Result<Event, EventError> {
    let head: Head<'_> = serde_json::from_slice(&json).map_err(|error| EventError::Stored(error.to_string()))?;
    let room_id = match head.room_id {
        Some(room_id) => room_id,
        None => room_of_create(&event_id).ok_or(EventError::Missing("room_id"))?,
    };
    let ids = |references: Vec<Reference>| references.into_iter().map(|Reference(id)| id).collect();
    let inner = Inner {
        room_id,
        sender: head.sender,
        kind: head.kind,
        state_key: head.state_key,
        prev_events: ids(head.prev_events),
        auth_events: ids(head.auth_events),
        depth: head.depth,
        origin_server_ts: head.origin_server_ts,
        redacts: head.redacts.and_then(|id| serde_json::from_str(id.get()).ok()),
        content: head.content,
        levels: OnceLock::new(),
        event_id,
        json,
    };
    Ok(Event::new(inner))
}

/// The id of the room that this create event makes. [RV12 §event-format]
pub(crate) fn room_of_create(event_id: &OwnedEventId) -> Option<OwnedRoomId> {
    let hash = event_id.as_str().strip_prefix('$')?;
    OwnedRoomId::try_from(format!("!{hash}")).ok()
}
