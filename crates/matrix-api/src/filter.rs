//! What of all events a client wants. [CS-API §filtering]
//!
//! Filters are parsed once for a request and asked for every event, so they say no by cheap questions first.

use koine_room::Placed;
use ruma_client_api::{
    filter::{self as ruma, FilterDefinition, LazyLoadOptions, UrlFilter},
    sync::sync_events::v3,
};
use ruma_common::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::{Deserialize, de::IgnoredAny};

use crate::{Api, Error, Result, User};

/// Events wanted when nothing is said, of lists that have no default of their own.
const LIMIT_DEFAULT: usize = 100;

/// The filter of a `/sync` request.
#[derive(Clone, Debug, Default)]
pub struct SyncFilter {
    /// Of people's presence.
    pub presence: EventFilter,
    /// Of account data that belongs to no room.
    pub account_data: EventFilter,
    /// Of rooms.
    pub room: RoomFilter,
}

/// Which rooms, and what of them.
#[derive(Clone, Debug, Default)]
pub struct RoomFilter {
    rooms: Option<Vec<OwnedRoomId>>,
    not_rooms: Vec<OwnedRoomId>,
    /// Tell of rooms that were left, too.
    pub include_leave: bool,
    /// Of the timeline.
    pub timeline: RoomEventFilter,
    /// Of the state.
    pub state: RoomEventFilter,
    /// Of typing and receipts.
    pub ephemeral: RoomEventFilter,
    /// Of account data in rooms.
    pub account_data: RoomEventFilter,
}

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    types: Option<Vec<String>>,
    not_types: Vec<String>,
    senders: Option<Vec<OwnedUserId>>,
    not_senders: Vec<OwnedUserId>,
    limit: Option<usize>,
}

/// Which events of rooms.
#[derive(Clone, Debug, Default)]
pub struct RoomEventFilter {
    events: EventFilter,
    rooms: Option<Vec<OwnedRoomId>>,
    not_rooms: Vec<OwnedRoomId>,
    url: Option<UrlFilter>,
    lazy_load: LazyLoadOptions,
    relations: Relations,
    /// Count what is unread in each thread by itself.
    pub unread_thread_notifications: bool,
}

/// How events refer to others. [MSC3874]
#[derive(Clone, Debug, Default, Deserialize)]
struct Relations {
    #[serde(default, rename = "org.matrix.msc3874.rel_types", alias = "rel_types")]
    wanted: Option<Vec<String>>,
    #[serde(default, rename = "org.matrix.msc3874.not_rel_types", alias = "not_rel_types")]
    unwanted: Option<Vec<String>>,
}

impl SyncFilter {
    /// The filter that a request names or brings.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for the id of a filter that is not there.
    pub fn load(api: &Api, who: &User, given: Option<&v3::Filter>) -> Result<Self> {
        match given {
            None => Ok(Self::default()),
            Some(v3::Filter::FilterDefinition(definition)) => Ok(definition.clone().into()),
            Some(v3::Filter::FilterId(id)) => {
                let stored = api.accounts.filter(&who.user_id, id)?;
                let stored = stored.ok_or_else(|| Error::invalid_param(format!("There is no filter {id:?}")))?;
                let definition: FilterDefinition = serde_json::from_slice(&stored).map_err(Error::internal)?;
                Ok(definition.into())
            }
            Some(_) => Err(Error::invalid_param("`filter` is neither a filter nor the id of one")),
        }
    }
}

impl RoomFilter {
    /// Whether anything of this room is wanted.
    pub fn allows_room(&self, room: &RoomId) -> bool {
        allows_room(self.rooms.as_deref(), &self.not_rooms, room)
    }
}

impl EventFilter {
    /// Whether events of this type are wanted.
    pub fn allows_type(&self, kind: &str) -> bool {
        !self.not_types.iter().any(|pattern| matches(pattern, kind))
            && self.types.as_ref().is_none_or(|types| types.iter().any(|pattern| matches(pattern, kind)))
    }

    /// Whether events of this sender are wanted.
    pub fn allows_sender(&self, sender: &UserId) -> bool {
        !self.not_senders.iter().any(|other| other == sender)
            && self.senders.as_ref().is_none_or(|senders| senders.iter().any(|other| other == sender))
    }

    /// How many.
    pub fn limit(&self) -> usize {
        self.limit_or(LIMIT_DEFAULT)
    }

    /// How many, or `default` when that is not said.
    pub fn limit_or(&self, default: usize) -> usize {
        self.limit.unwrap_or(default)
    }
}

impl RoomEventFilter {
    /// The filter in a query parameter. [CS-API §get_matrixclientv3roomsroomidmessages]
    pub fn parse(json: &str) -> Result<Self> {
        let refuse = |error| Error::invalid_param(format!("`filter`: {error}"));
        let filter: ruma::RoomEventFilter = serde_json::from_str(json).map_err(refuse)?;
        let relations = serde_json::from_str(json).map_err(refuse)?;
        Ok(Self { relations, ..filter.into() })
    }

    /// Whether the event is wanted.
    pub fn allows(&self, room: &RoomId, placed: &Placed) -> bool {
        let event = &placed.event;
        self.events.allows_type(event.kind())
            && self.events.allows_sender(event.sender())
            && allows_room(self.rooms.as_deref(), &self.not_rooms, room)
            && self.allows_url(placed)
            && self.relations.allow(placed)
    }

    /// Whether events of this type are wanted.
    pub fn allows_type(&self, kind: &str) -> bool {
        self.events.allows_type(kind)
    }

    /// How many, or `default` when that is not said.
    pub fn limit_or(&self, default: usize) -> usize {
        self.events.limit_or(default)
    }

    /// [CS-API §lazy-loading-room-members]
    pub fn lazy_load_members(&self) -> bool {
        !matches!(self.lazy_load, LazyLoadOptions::Disabled)
    }

    /// Members that the client was told of before are told again.
    pub fn include_redundant_members(&self) -> bool {
        matches!(self.lazy_load, LazyLoadOptions::Enabled { include_redundant_members: true })
    }

    fn allows_url(&self, placed: &Placed) -> bool {
        let Some(wanted) = self.url else { return true };
        let content = placed.event.content();
        // Looking for the bytes first: most content has no such key.
        let has = content.get().contains("\"url\"") && placed.event.content_field::<IgnoredAny>("url").is_some();
        has == (wanted == UrlFilter::EventsWithUrl)
    }
}

impl Relations {
    fn allow(&self, placed: &Placed) -> bool {
        if self.wanted.is_none() && self.unwanted.is_none() {
            return true;
        }
        #[derive(Deserialize)]
        struct Relation {
            rel_type: Option<String>,
        }
        let relation: Option<Relation> = placed.event.content_field("m.relates_to");
        let rel_type = relation.and_then(|relation| relation.rel_type);
        let is_in = |types: &Vec<String>| rel_type.as_ref().is_some_and(|rel_type| types.contains(rel_type));
        self.wanted.as_ref().is_none_or(is_in) && !self.unwanted.as_ref().is_some_and(is_in)
    }
}

fn allows_room(rooms: Option<&[OwnedRoomId]>, not_rooms: &[OwnedRoomId], room: &RoomId) -> bool {
    !not_rooms.iter().any(|other| other == room) && rooms.is_none_or(|rooms| rooms.iter().any(|other| other == room))
}

/// Whether `text` is `pattern`, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    // Each piece between asterisks at its first place leaves most for those behind it.
    for piece in middle.split('*') {
        match text.find(piece) {
            Some(at) => text = &text[at + piece.len()..],
            None => return false,
        }
    }
    text.ends_with(tail)
}

fn limit(limit: Option<impl Into<u64>>) -> Option<usize> {
    limit.map(|limit| usize::try_from(limit.into()).unwrap_or(usize::MAX))
}

impl From<FilterDefinition> for SyncFilter {
    fn from(filter: FilterDefinition) -> Self {
        let room = filter.room;
        Self {
            presence: filter.presence.into(),
            account_data: filter.account_data.into(),
            room: RoomFilter {
                rooms: room.rooms,
                not_rooms: room.not_rooms,
                include_leave: room.include_leave,
                timeline: room.timeline.into(),
                state: room.state.into(),
                ephemeral: room.ephemeral.into(),
                account_data: room.account_data.into(),
            },
        }
    }
}

impl From<ruma::Filter> for EventFilter {
    fn from(filter: ruma::Filter) -> Self {
        Self {
            types: filter.types,
            not_types: filter.not_types,
            senders: filter.senders,
            not_senders: filter.not_senders,
            limit: limit(filter.limit),
        }
    }
}

impl From<ruma::RoomEventFilter> for RoomEventFilter {
    fn from(filter: ruma::RoomEventFilter) -> Self {
        Self {
            events: EventFilter {
                types: filter.types,
                not_types: filter.not_types,
                senders: filter.senders,
                not_senders: filter.not_senders,
                limit: limit(filter.limit),
            },
            rooms: filter.rooms,
            not_rooms: filter.not_rooms,
            url: filter.url_filter,
            lazy_load: filter.lazy_load_options,
            relations: Relations::default(),
            unread_thread_notifications: filter.unread_thread_notifications,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asterisk_stands_for_anything() {
        for (pattern, text, expected) in [
            ("m.room.message", "m.room.message", true),
            ("m.room.message", "m.room.messages", false),
            ("*", "", true),
            ("m.room.*", "m.room.member", true),
            ("m.room.*", "m.reaction", false),
            ("*.member", "m.room.member", true),
            ("m.*.member", "m.room.member", true),
            ("m.*m*member", "m.room.member", true),
            ("a*b*a", "aba", true),
            ("a*ba", "aba", true),
            ("ab*ba", "aba", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_excluded_stays_out_even_if_it_is_included_too() {
        let filter = RoomEventFilter::parse(
            r#"{"types":["m.*"],"not_types":["m.room.*"],"senders":["@a:b.c"],"not_senders":["@d:e.f"],"limit":3}"#,
        )
        .expect("filter");
        assert!(filter.allows_type("m.reaction"));
        assert!(!filter.allows_type("m.room.name"));
        assert!(!filter.allows_type("x"));
        assert!(filter.events.allows_sender(ruma_common::user_id!("@a:b.c")));
        assert!(!filter.events.allows_sender(ruma_common::user_id!("@d:e.f")));
        assert!(!filter.events.allows_sender(ruma_common::user_id!("@g:e.f")));
        assert_eq!(filter.limit_or(10), 3);
    }

    #[test]
    fn a_broken_filter_is_the_clients_fault() {
        assert_eq!(RoomEventFilter::parse("{").expect_err("refused").errcode(), "M_INVALID_PARAM");
        assert_eq!(RoomEventFilter::parse(r#"{"types":1}"#).expect_err("refused").errcode(), "M_INVALID_PARAM");
    }
}
