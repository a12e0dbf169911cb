//! From a draft to an event: hashed, named and signed.
//! [SS-API §adding-hashes-and-signatures-to-outgoing-events]

use std::sync::OnceLock;

use base64::Engine as _;
use ruma_common::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, ServerName,
    room_version_rules::{EventIdFormatVersion, EventsReferenceFormatVersion, RoomVersionRules},
};
use serde_json::value::RawValue;

use crate::{
    event::{AUTH_EVENTS_MAX, EVENT_BYTES_MAX, Event, FIELD_BYTES_MAX, Inner, PREV_EVENTS_MAX, room_of_create},
    hashes,
    json::{self, INTEGER_MAX, Json, JsonError, Object},
    keys::{BASE64, SigningKey},
    signatures::add_signature,
};

/// An event in the making. Who wants to send it says what, the room says where in the graph.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The room; `None` for the create event of a room that is named by it (version 12 and up).
    pub room_id: Option<OwnedRoomId>,
    /// Who sends it.
    pub sender: OwnedUserId,
    /// Its type.
    pub kind: String,
    /// Its state key, for a state event.
    pub state_key: Option<String>,
    /// Its content: a JSON object.
    pub content: Box<RawValue>,
    /// For a redaction: what it redacts. Goes to where the room version wants it.
    pub redacts: Option<OwnedEventId>,
    /// The events it follows.
    pub prev_events: Vec<OwnedEventId>,
    /// The events that allow it.
    pub auth_events: Vec<OwnedEventId>,
    /// One more than the greatest depth among `prev_events`.
    pub depth: u64,
    /// When it was made.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
}

/// What events of room versions 1 and 2 need beside the draft.
pub struct Legacy<'a> {
    /// The first part of the event id: random, unique on this server, letters and digits.
    pub opaque_id: &'a str,
    /// Looks up the [reference hash](Event::reference_hash) of an event that the draft refers to.
    pub reference_hash: &'a dyn Fn(&EventId) -> Option<[u8; 32]>,
}

/// Why a draft cannot become an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// The content is not JSON that we take.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The content is JSON, but not an object.
    #[error("the content of an event is a JSON object")]
    ContentNotAnObject,
    /// The content has numbers that events cannot have.
    #[error("numbers must be integers within ±(2^53 - 1)")]
    NotCanonical,
    /// The event would be larger than events may be.
    #[error("the event would have {bytes} bytes, at most {EVENT_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A field is larger than it may be.
    #[error("`{field}` has {bytes} bytes, at most {FIELD_BYTES_MAX} are allowed")]
    FieldTooLarge {
        /// Which.
        field: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// The caller refers to too many events.
    #[error("too many {0}")]
    TooManyReferences(&'static str),
    /// The caller names the room of an event that makes its own, or does not name it for another.
    #[error("the room id is there when it must not, or missing when it must be there")]
    RoomId,
    /// The caller does not give what versions 1 and 2 need.
    #[error("room versions 1 and 2 need an opaque id and reference hashes")]
    LegacyNeeded,
    /// The opaque id makes no valid event id.
    #[error("the opaque id is not usable in an event id")]
    OpaqueId,
    /// The reference hash of an event that is referred to is not known.
    #[error("the hash of {0} is not known")]
    HashUnknown(OwnedEventId),
}

impl Draft {
    /// Hashes and signs the draft as `server`, in a room version from 3 on.
    pub fn seal(self, rules: &RoomVersionRules, server: &ServerName, key: &SigningKey) -> Result<Event, DraftError> {
        self.seal_with(rules, server, key, None)
    }

    /// Hashes and signs the draft as `server`. Versions 1 and 2 need `legacy`, the others ignore it.
    pub fn seal_with(
        self,
        rules: &RoomVersionRules,
        server: &ServerName,
        key: &SigningKey,
        legacy: Option<&Legacy<'_>>,
    ) -> Result<Event, DraftError> {
        self.check(rules)?;
        let Json::Object(mut content) = json::parse(self.content.get().as_bytes())? else {
            return Err(DraftError::ContentNotAnObject);
        };
        if rules.authorization.strict_canonical_json && !content.iter().all(|(_, value)| value.is_canonical()) {
            return Err(DraftError::NotCanonical);
        }
        let own_id = match (rules.event_id_format, legacy) {
            (EventIdFormatVersion::V1, Some(legacy)) => Some(
                OwnedEventId::try_from(format!("${}:{server}", legacy.opaque_id)).map_err(|_| DraftError::OpaqueId)?,
            ),
            (EventIdFormatVersion::V1, None) => return Err(DraftError::LegacyNeeded),
            _ => None,
        };
        let in_content = rules.redaction.content_field_redacts;
        if let Some(redacts) = self.redacts.as_ref().filter(|_| in_content) {
            content.insert("redacts", Json::String(redacts.as_str().into()));
        }

        let mut event = Object::with_capacity(14);
        event.insert("auth_events", references(rules, &self.auth_events, legacy)?);
        event.insert("content", Json::Object(content));
        event.insert("depth", Json::Integer(self.depth_clamped()));
        if let Some(id) = &own_id {
            event.insert("event_id", Json::String(id.as_str().into()));
        }
        let ts = i64::from(self.origin_server_ts.get());
        event.insert("origin_server_ts", Json::Integer(ts));
        event.insert("prev_events", references(rules, &self.prev_events, legacy)?);
        if let Some(redacts) = self.redacts.as_ref().filter(|_| !in_content) {
            event.insert("redacts", Json::String(redacts.as_str().into()));
        }
        if let Some(room_id) = &self.room_id {
            event.insert("room_id", Json::String(room_id.as_str().into()));
        }
        event.insert("sender", Json::String(self.sender.as_str().into()));
        if let Some(state_key) = &self.state_key {
            event.insert("state_key", Json::String(state_key.as_str().into()));
        }
        event.insert("type", Json::String(self.kind.as_str().into()));

        let mut sha256 = Object::with_capacity(1);
        sha256.insert("sha256", Json::String(BASE64.encode(hashes::content_hash(&event)).into()));
        event.insert("hashes", Json::Object(sha256));

        // The bytes that are signed are those whose hash is the event's name.
        let signed = hashes::signed_bytes(rules, &event);
        add_signature(&mut event, server.as_str(), key, &signed);
        let mut json = Vec::with_capacity(self.content.get().len() + 1024);
        let content = event.write_and_find("content", &mut json).and_then(|range| json.get(range));
        let content = content.expect("the content was written just now");
        let content = std::str::from_utf8(content).expect("canonical JSON is UTF-8").to_owned();
        if json.len() > EVENT_BYTES_MAX {
            return Err(DraftError::TooLarge { bytes: json.len() });
        }

        drop(event);
        let event_id = match own_id {
            Some(id) => id,
            None => hashes::event_id(rules, &hashes::sha256(&signed)).ok_or(DraftError::LegacyNeeded)?,
        };
        let content = if content == self.content.get() {
            self.content
        } else {
            RawValue::from_string(content).expect("canonical JSON is JSON")
        };
        let depth = self.depth.min(INTEGER_MAX.unsigned_abs());
        Ok(Event::new(Inner {
            room_id: self.room_id.or_else(|| room_of_create(&event_id)).ok_or(DraftError::RoomId)?,
            event_id,
            sender: self.sender,
            kind: self.kind.into(),
            state_key: self.state_key.map(Into::into),
            prev_events: self.prev_events.into(),
            auth_events: self.auth_events.into(),
            depth,
            origin_server_ts: self.origin_server_ts,
            redacts: self.redacts.filter(|_| !in_content),
            content,
            json: json.into(),
            levels: OnceLock::new(),
        }))
    }

    /// What can be told before anything is hashed. Ids cannot be too long: their types see to it.
    fn check(&self, rules: &RoomVersionRules) -> Result<(), DraftError> {
        let state_key = self.state_key.as_deref().unwrap_or_default();
        for (field, text) in [("type", self.kind.as_str()), ("state_key", state_key)] {
            if text.len() > FIELD_BYTES_MAX {
                return Err(DraftError::FieldTooLarge { field, bytes: text.len() });
            }
        }
        if self.prev_events.len() > PREV_EVENTS_MAX {
            return Err(DraftError::TooManyReferences("prev_events"));
        }
        if self.auth_events.len() > AUTH_EVENTS_MAX {
            return Err(DraftError::TooManyReferences("auth_events"));
        }
        let named_by_itself = self.kind == "m.room.create" && !rules.event_format.require_room_create_room_id;
        if named_by_itself == self.room_id.is_some() {
            return Err(DraftError::RoomId);
        }
        Ok(())
    }

    /// Depth stops growing at what canonical JSON can say; nothing depends on it being exact.
    fn depth_clamped(&self) -> i64 {
        i64::try_from(self.depth).unwrap_or(INTEGER_MAX).min(INTEGER_MAX)
    }
}

fn references<'a>(
    rules: &RoomVersionRules,
    ids: &'a [OwnedEventId],
    legacy: Option<&Legacy<'_>>,
) -> Result<Json<'a>, DraftError> {
    let reference = |id: &'a OwnedEventId| {
        let name = Json::String(id.as_str().into());
        if rules.events_reference_format != EventsReferenceFormatVersion::V1 {
            return Ok(name);
        }
        let legacy = legacy.ok_or(DraftError::LegacyNeeded)?;
        let hash = (legacy.reference_hash)(id).ok_or_else(|| DraftError::HashUnknown(id.clone()))?;
        let mut hashes = Object::with_capacity(1);
        hashes.insert("sha256", Json::String(BASE64.encode(hash).into()));
        Ok(Json::Array(vec![name, Json::Object(hashes)]))
    };
    ids.iter().map(reference).collect::<Result<_, _>>().map(Json::Array)
}
