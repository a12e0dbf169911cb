//! The request as the merged proposal has it: everything in the body, state wanted as a selection, one range a list.
//!
//! [MSC4186] It becomes the same [`Body`] that the form of today's clients is read into.

use std::collections::BTreeMap;

use ruma_common::OwnedRoomId;
use serde::Deserialize;

use super::request::{Body, Details, Extensions, Filters, Form, List, Selection, Wish};
use crate::{Error, Result};

/// Most rooms subscribed to.
const SUBSCRIPTIONS_MAX: usize = 100;
/// Longest name of a list. [appendices §opaque-identifiers]
const NAME_BYTES_MAX: usize = 255;

/// The body of a request.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Merged {
    conn_id: Option<String>,
    pub(super) pos: Option<String>,
    pub(super) timeout: Option<u64>,
    pub(super) set_presence: Option<String>,
    #[serde(default)]
    lists: BTreeMap<String, MergedList>,
    #[serde(default)]
    room_subscriptions: BTreeMap<OwnedRoomId, MergedDetails>,
    #[serde(default)]
    extensions: Extensions,
}

#[derive(Debug, Deserialize)]
struct MergedList {
    timeline_limit: u64,
    required_state: Selection,
    range: Option<(u64, u64)>,
    filters: Option<Filters>,
}

#[derive(Debug, Deserialize)]
struct MergedDetails {
    timeline_limit: u64,
    required_state: Selection,
}

impl Merged {
    /// The same as the other form would say it.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for names that are none, and for too many subscriptions.
    pub(super) fn into_body(self) -> Result<Body> {
        if let Some(name) = self.lists.keys().find(|name| !is_opaque_identifier(name)) {
            return Err(Error::invalid_param(format!("{name:?} is no name for a list")));
        }
        let count = self.room_subscriptions.len();
        if count > SUBSCRIPTIONS_MAX {
            let message = format!("{count} room subscriptions, at most {SUBSCRIPTIONS_MAX} are allowed");
            return Err(Error::invalid_param(message));
        }
        let lists = self.lists.into_iter().map(|(name, list)| {
            let MergedList { timeline_limit, required_state, range, filters } = list;
            let (ranges, required_state) = (range.map(|range| vec![range]), Wish::Selection(required_state));
            (name, List { ranges, required_state, timeline_limit, filters })
        });
        let subscriptions = self.room_subscriptions.into_iter().map(|(room, details)| {
            let MergedDetails { timeline_limit, required_state } = details;
            (room, Details { required_state: Wish::Selection(required_state), timeline_limit })
        });
        Ok(Body {
            form: Form::Merged,
            conn_id: self.conn_id,
            txn_id: None,
            lists: lists.collect(),
            room_subscriptions: subscriptions.collect(),
            extensions: self.extensions,
        })
    }
}

/// [appendices §opaque-identifiers]
fn is_opaque_identifier(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_lists_are_opaque_identifiers() {
        for (name, good) in [("foo-list", true), ("a.b_c~9", true), ("", false), ("a b", false), ("ä", false)] {
            assert_eq!(is_opaque_identifier(name), good, "{name}");
        }
        assert!(!is_opaque_identifier(&"x".repeat(256)));
    }

    #[test]
    fn what_a_list_must_say_is_missed() {
        for bad in
            [r#"{ "lists": { "a": { "timeline_limit": 1 } } }"#, r#"{ "lists": { "a": { "required_state": {} } } }"#]
        {
            assert!(serde_json::from_str::<Merged>(bad).is_err(), "{bad}");
        }
    }
}
