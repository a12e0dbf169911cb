//! Events: nodes of the graph, as a room keeps and sends them. [SS-API §pdus]
//!
//! An [`Event`] is immutable and cheap to clone. Its JSON is the form that peers get: canonical, with hashes and
//! signatures, without `unsigned`, which belongs to whoever shows the event. Three doors lead in: [`Event::parse`] for
//! bytes of a stranger, [`Draft::seal`](crate::Draft::seal) for what is made here, and [`Event::from_stored`] for
//! bytes that came through one of the two before and is therefore the cheap one.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use ruma_common::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
    room_version_rules::RoomVersionRules,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    json::JsonError,
    power_levels::{Levels, LevelsError},
};

mod client;
mod format;
mod stored;

pub use client::ClientForm;
pub(crate) use stored::room_of_create;

/// Most bytes of an event in canonical JSON, signatures included. [CS-API §size-limits]
pub const EVENT_BYTES_MAX: usize = 65_536;

/// Most bytes of each of `sender`, `room_id`, `event_id`, `type` and `state_key`. [CS-API §size-limits]
pub const FIELD_BYTES_MAX: usize = 255;

/// Most bytes that are looked at in search of an event: spaces, escapes and `unsigned` come on top of the event.
pub const RAW_BYTES_MAX: usize = 8 * EVENT_BYTES_MAX;

/// Most previous events. [SS-API §pdus]
pub const PREV_EVENTS_MAX: usize = 20;

/// Most auth events. [SS-API §pdus]
pub const AUTH_EVENTS_MAX: usize = 10;

/// Why bytes are not an event of a room of this version: a buggy peer, or an attack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// Not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// JSON, but not an object.
    #[error("an event is a JSON object")]
    NotAnObject,
    /// Numbers that canonical JSON does not have, where the room version insists on it.
    #[error("numbers must be integers within ±(2^53 - 1)")]
    NotCanonical,
    /// Larger than events may be.
    #[error("the event has {bytes} bytes, at most {EVENT_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A field larger than it may be.
    #[error("`{field}` has {bytes} bytes, at most {FIELD_BYTES_MAX} are allowed")]
    FieldTooLarge {
        /// Which.
        field: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// A field that every event has is not there.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field is not what it should be.
    #[error("`{0}` is not valid")]
    Invalid(&'static str),
    /// A field that events like this must not have.
    #[error("`{0}` must not be there")]
    Unwanted(&'static str),
    /// Refers to too many events.
    #[error("`{field}` has {count} entries, at most {max} are allowed")]
    TooMany {
        /// Which list.
        field: &'static str,
        /// Its length.
        count: usize,
        /// What is allowed.
        max: usize,
    },
    /// What was stored does not parse: the store is damaged.
    #[error("stored event does not parse: {0}")]
    Stored(String),
}

/// What a member event says about its target. [CS-API §mroommember]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Membership {
    /// In the room.
    Join,
    /// Asked to come in.
    Invite,
    /// Not in the room, be it of free will or kicked.
    Leave,
    /// Not in the room and not to come back.
    Ban,
    /// Asks to be let in.
    Knock,
}

impl Membership {
    /// From the word that events use.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "join" => Self::Join,
            "invite" => Self::Invite,
            "leave" => Self::Leave,
            "ban" => Self::Ban,
            "knock" => Self::Knock,
            _ => return None,
        })
    }

    /// The word that events use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Invite => "invite",
            Self::Leave => "leave",
            Self::Ban => "ban",
            Self::Knock => "knock",
        }
    }
}

/// An event of a room. Cloning it costs a counter.
#[derive(Clone)]
pub struct Event(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) event_id: OwnedEventId,
    pub(crate) room_id: OwnedRoomId,
    pub(crate) sender: OwnedUserId,
    pub(crate) kind: Box<str>,
    pub(crate) state_key: Option<Box<str>>,
    pub(crate) prev_events: Box<[OwnedEventId]>,
    pub(crate) auth_events: Box<[OwnedEventId]>,
    pub(crate) depth: u64,
    pub(crate) origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// `redacts` at the top level, where versions 1 to 10 have it.
    pub(crate) redacts: Option<OwnedEventId>,
    pub(crate) content: Box<RawValue>,
    pub(crate) json: Bytes,
    /// For a power levels event: its content, parsed when first asked for.
    pub(crate) levels: OnceLock<Result<Arc<Levels>, LevelsError>>,
}

impl Event {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Takes bytes of a stranger for an event of a room with these rules, if that is what they are.
    ///
    /// Computes the event's id. Does *not* look at signatures ([`crate::signatures`]) nor compare the content hash
    /// ([`Event::content_hash_matches`]), and does not ask whether the room allows it ([`crate::auth`]).
    pub fn parse(rules: &RoomVersionRules, json: &[u8]) -> Result<Self, EventError> {
        format::parse(rules, json)
    }

    /// An event that was checked before it was stored: no hashing and no checks but for what parsing needs.
    pub fn from_stored(json: Bytes, event_id: OwnedEventId) -> Result<Self, EventError> {
        stored::parse(json, event_id)
    }

    /// Its name.
    pub fn event_id(&self) -> &EventId {
        &self.0.event_id
    }

    /// Its room. The create event of a room from version 12 on does not say it in its JSON, for it is named by it.
    pub fn room_id(&self) -> &RoomId {
        &self.0.room_id
    }

    /// Who sent it.
    pub fn sender(&self) -> &UserId {
        &self.0.sender
    }

    /// Its type, like `m.room.message`.
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// Its state key; `None` for a message event.
    pub fn state_key(&self) -> Option<&str> {
        self.0.state_key.as_deref()
    }

    /// Whether it is a state event.
    pub fn is_state(&self) -> bool {
        self.0.state_key.is_some()
    }

    /// Whether it is the state event of this type and state key.
    pub fn is(&self, kind: &str, state_key: &str) -> bool {
        &*self.0.kind == kind && self.state_key() == Some(state_key)
    }

    /// The events it follows.
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.0.prev_events
    }

    /// The events that allow it.
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.0.auth_events
    }

    /// Its depth, as its sender claims.
    pub fn depth(&self) -> u64 {
        self.0.depth
    }

    /// When it was made, as its sender claims.
    pub fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.0.origin_server_ts
    }

    /// Its content: a JSON object.
    pub fn content(&self) -> &RawValue {
        &self.0.content
    }

    /// One field of its content; `None` when it is missing or of another type.
    pub fn content_field<T: for<'de> Deserialize<'de>>(&self, field: &str) -> Option<T> {
        crate::content::field(self.content(), field)
    }

    /// The event that it asks to redact, if it is a redaction. [RV11 §moving-the-redacts-property-of-mroomredaction-events-to-a-content-property]
    pub fn redacts(&self, rules: &RoomVersionRules) -> Option<OwnedEventId> {
        if self.kind() != "m.room.redaction" {
            return None;
        }
        if rules.redaction.content_field_redacts { self.content_field("redacts") } else { self.0.redacts.clone() }
    }

    /// The membership that it gives its target, if it is a member event with a membership there is.
    pub fn membership(&self) -> Option<Membership> {
        if self.kind() != "m.room.member" || !self.is_state() {
            return None;
        }
        self.content_field::<String>("membership").as_deref().and_then(Membership::from_name)
    }

    /// The whole event as peers get it and as it is stored.
    pub fn json(&self) -> &Bytes {
        &self.0.json
    }

    /// Whether the content is the one that the sender hashed. If not, go on with [`crate::redact`]ed form.
    pub fn content_hash_matches(&self) -> bool {
        crate::json::parse(self.json())
            .is_ok_and(|json| json.as_object().is_some_and(crate::hashes::content_hash_matches))
    }

    /// The hash over what a redaction leaves, which events of versions 1 and 2 name beside the id.
    pub fn reference_hash(&self, rules: &RoomVersionRules) -> [u8; 32] {
        let json = crate::json::parse(self.json()).expect("an event was parsed before");
        crate::hashes::reference_hash(rules, json.as_object().expect("an event is an object"))
    }

    /// What its content says about power levels, if it is a power levels event.
    pub(crate) fn levels(&self, integers_only: bool) -> Result<Arc<Levels>, LevelsError> {
        self.0.levels.get_or_init(|| Levels::parse(self.content(), integers_only).map(Arc::new)).clone()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Event");
        out.field("event_id", &self.0.event_id).field("kind", &self.0.kind);
        out.field("state_key", &self.0.state_key).field("sender", &self.0.sender).finish_non_exhaustive()
    }
}

/// Events are the same when their bytes are: a redacted event is not the same as the full one, though the id is.
impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.event_id == other.0.event_id && self.0.json == other.0.json)
    }
}

impl Eq for Event {}
