//! What a client asks for. [MSC4186]
//!
//! What is read here is the form that clients send today; that of the merged proposal is read by `merged.rs` and becomes
//! the same. Kinder than the usual types where clients differ: an absent timeline limit is none, an absent range is
//! everything.

use std::collections::BTreeMap;

use http::StatusCode;
use ruma_common::OwnedRoomId;
use serde::{Deserialize, de::IgnoredAny};

use crate::{Error, Result};

/// Longest name of a connection.
pub(super) const CONN_ID_BYTES_MAX: usize = 64;
/// Most lists of one request; each is a bit in `Place::lists`.
pub(super) const LISTS_MAX: usize = 100;
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

/// In which form a request came, and so how its answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// `unstable/org.matrix.simplified_msc3575/sync`
    #[default]
    Unstable,
    /// `v4/sync`
    Merged,
}

/// The body of a request.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Body {
    #[serde(skip)]
    pub(super) form: Form,
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
    pub(super) required_state: Wish,
    #[serde(default)]
    pub(super) timeline_limit: u64,
    #[serde(default)]
    pub(super) filters: Option<Filters>,
}

/// What is wanted of a room.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Details {
    #[serde(default)]
    pub(super) required_state: Wish,
    #[serde(default)]
    pub(super) timeline_limit: u64,
}

/// Which state of a room is wanted.
#[derive(Debug, Deserialize)]
#[serde(from = "Vec<(String, String)>")]
pub(super) enum Wish {
    /// Types with state keys, `*`, `$ME` and `$LAZY` among them.
    Pairs(Vec<(String, String)>),
    /// What the merged proposal has for it.
    Selection(Selection),
}

/// State that matches an element of `include` and none of `exclude`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Selection {
    #[serde(default)]
    pub(super) include: Vec<Element>,
    #[serde(default)]
    pub(super) exclude: Vec<Element>,
    #[serde(default)]
    pub(super) lazy_members: bool,
}

/// What is absent matches everything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct Element {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) state_key: Option<String>,
}

impl Default for Wish {
    fn default() -> Self {
        Self::Pairs(Vec::new())
    }
}

impl From<Vec<(String, String)>> for Wish {
    fn from(pairs: Vec<(String, String)>) -> Self {
        Self::Pairs(pairs)
    }
}

impl Wish {
    fn len(&self) -> usize {
        match self {
            Self::Pairs(pairs) => pairs.len(),
            Self::Selection(selection) => selection.include.len() + selection.exclude.len(),
        }
    }
}

/// Which rooms are in a list: those for which all of these hold.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Filters {
    pub(super) is_dm: Option<bool>,
    pub(super) is_encrypted: Option<bool>,
    #[serde(alias = "is_invited")]
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
