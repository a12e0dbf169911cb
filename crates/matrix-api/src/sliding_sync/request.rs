//! What a client asks for. [MSC4186]
//!
//! Kinder than the usual types where clients differ: an absent timeline limit is none, an absent range is everything.

use std::collections::BTreeMap;

use http::StatusCode;
use ruma_common::OwnedRoomId;
use serde::{Deserialize, de::IgnoredAny};

use crate::{Error, Result};

/// Longest name of a connection.
pub(super) const CONN_ID_BYTES_MAX: usize = 64;
/// Most lists of one request; each is a bit in `Place::lists`.
pub(super) const LISTS_MAX: usize = 32;
/// Most ranges of one list.
pub(super) const RANGES_MAX: usize = 32;
/// Most rooms subscribed to.
pub(super) const SUBSCRIPTIONS_MAX: usize = 500;
/// Most entries of one `required_state`.
pub(super) const REQUIRED_STATE_MAX: usize = 200;
/// Most spaces, or tags, of one filter.
pub(super) const FILTER_ENTRIES_MAX: usize = 100;
/// Most events of a timeline; who asks for more gets these.
pub(super) const TIMELINE_LIMIT_MAX: u64 = 100;

/// The body of a request.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Body {
    pub(super) conn_id: Option<String>,
    pub(super) txn_id: Option<String>,
    #[serde(default)]
    pub(super) lists: BTreeMap<String, List>,
    #[serde(default)]
    pub(super) room_subscriptions: BTreeMap<OwnedRoomId, Details>,
    #[serde(default)]
    pub(super) extensions: Extensions,
}

/// A list of rooms, and which part of it is shown.
#[derive(Debug, Default, Deserialize)]
pub(super) struct List {
    /// First and last place, both included; without any the whole list.
    pub(super) ranges: Option<Vec<(u64, u64)>>,
    #[serde(default)]
    pub(super) required_state: Vec<(String, String)>,
    #[serde(default)]
    pub(super) timeline_limit: u64,
    #[serde(default)]
    pub(super) filters: Option<Filters>,
}

/// What is wanted of a room.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Details {
    #[serde(default)]
    pub(super) required_state: Vec<(String, String)>,
    #[serde(default)]
    pub(super) timeline_limit: u64,
}

/// Which rooms are in a list: those for which all of these hold.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Filters {
    pub(super) is_dm: Option<bool>,
    pub(super) is_encrypted: Option<bool>,
    pub(super) is_invite: Option<bool>,
    /// `null` stands for rooms without a type.
    pub(super) room_types: Option<Vec<Option<String>>>,
    pub(super) not_room_types: Option<Vec<Option<String>>>,
    /// Rooms that are children of one of these spaces, which the account is in.
    pub(super) spaces: Option<Vec<OwnedRoomId>>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) not_tags: Option<Vec<String>>,
    room_name_like: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Extensions {
    #[serde(default)]
    pub(super) to_device: ToDevice,
    #[serde(default)]
    pub(super) e2ee: Switch,
    #[serde(default)]
    pub(super) account_data: Scope,
    #[serde(default)]
    pub(super) receipts: Scope,
    #[serde(default)]
    pub(super) typing: Scope,
    #[serde(default, rename = "io.element.msc4308.thread_subscriptions", alias = "thread_subscriptions")]
    pub(super) thread_subscriptions: ThreadSubscriptions,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct ThreadSubscriptions {
    #[serde(default)]
    pub(super) enabled: Option<bool>,
    /// Most threads of one answer.
    pub(super) limit: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct ToDevice {
    #[serde(default)]
    pub(super) enabled: Option<bool>,
    pub(super) limit: Option<u64>,
    pub(super) since: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Switch {
    #[serde(default)]
    pub(super) enabled: Option<bool>,
}

/// An extension that is about rooms, and about which of those in the answer's reach.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Scope {
    #[serde(default)]
    pub(super) enabled: Option<bool>,
    /// Names of lists; absent: all of them.
    pub(super) lists: Option<Vec<String>>,
    /// Ids of rooms subscribed to, or `*` for all of them, as when absent.
    pub(super) rooms: Option<Vec<String>>,
}

impl Body {
    /// Refuses what is too much, and what is not built.
    pub(super) fn check(&self) -> Result<()> {
        let conn_id = self.conn_id.as_deref().unwrap_or_default();
        most("bytes of conn_id", conn_id.len(), CONN_ID_BYTES_MAX)?;
        most("bytes of txn_id", self.txn_id.as_deref().unwrap_or_default().len(), 255)?;
        most("lists", self.lists.len(), LISTS_MAX)?;
        most("room subscriptions", self.room_subscriptions.len(), SUBSCRIPTIONS_MAX)?;
        for list in self.lists.values() {
            most("entries of required_state", list.required_state.len(), REQUIRED_STATE_MAX)?;
            let ranges = list.ranges.as_deref().unwrap_or_default();
            most("ranges", ranges.len(), RANGES_MAX)?;
            if ranges.iter().any(|(first, last)| first > last) {
                return Err(Error::invalid_param("A range ends before it begins"));
            }
            if let Some(filters) = &list.filters {
                filters.check()?;
            }
        }
        for details in self.room_subscriptions.values() {
            most("entries of required_state", details.required_state.len(), REQUIRED_STATE_MAX)?;
        }
        Ok(())
    }
}

impl Filters {
    fn check(&self) -> Result<()> {
        let lengths = [
            self.spaces.as_ref().map(Vec::len),
            self.tags.as_ref().map(Vec::len),
            self.not_tags.as_ref().map(Vec::len),
        ];
        most("entries of a filter", lengths.into_iter().flatten().max().unwrap_or(0), FILTER_ENTRIES_MAX)?;
        match self.room_name_like {
            Some(_) => {
                let message = "This server has no filter `room_name_like`";
                Err(Error::new(StatusCode::BAD_REQUEST, "M_UNRECOGNIZED", message))
            }
            None => Ok(()),
        }
    }
}

fn most(what: &str, count: usize, max: usize) -> Result<()> {
    match count > max {
        true => Err(Error::invalid_param(format!("{count} {what}, at most {max} are allowed"))),
        false => Ok(()),
    }
}
