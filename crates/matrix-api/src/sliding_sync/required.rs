//! Which state of a room is wanted: `required_state`, with its wildcards. [MSC4186]

use std::{collections::BTreeSet, sync::Arc};

use koine_room::{Placed, Room, Root};
use ruma_common::UserId;

use super::request::TIMELINE_LIMIT_MAX;
use crate::Result;

const MEMBER: &str = "m.room.member";

/// What is wanted of a room, of all lists and subscriptions that it is in together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) timeline_limit: usize,
    pub(super) required: Required,
}

/// Types and state keys wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Required {
    exact: BTreeSet<(String, String)>,
    /// Types wanted with whatever state key.
    kinds: BTreeSet<String>,
    /// State keys wanted of whatever type.
    keys: BTreeSet<String>,
    everything: bool,
    /// Members who speak in the timeline.
    pub(super) lazy: bool,
}

impl Config {
    pub(super) fn new(timeline_limit: u64, required_state: &[(String, String)], reader: &UserId) -> Self {
        let mut required = Required::default();
        for (kind, key) in required_state {
            let key = if key == "$ME" { reader.as_str() } else { key.as_str() };
            match (kind.as_str(), key) {
                ("*", "*") => required.everything = true,
                (MEMBER, "$LAZY") => required.lazy = true,
                ("*", key) => drop(required.keys.insert(key.to_owned())),
                (kind, "*") => drop(required.kinds.insert(kind.to_owned())),
                (kind, key) => drop(required.exact.insert((kind.to_owned(), key.to_owned()))),
            }
        }
        let timeline_limit = usize::try_from(timeline_limit.min(TIMELINE_LIMIT_MAX)).unwrap_or_default();
        Self { timeline_limit, required }
    }

    /// What either wants.
    pub(super) fn join(&self, other: &Self) -> Self {
        let (mut required, more) = (self.required.clone(), &other.required);
        required.exact.extend(more.exact.iter().cloned());
        required.kinds.extend(more.kinds.iter().cloned());
        required.keys.extend(more.keys.iter().cloned());
        required.everything |= more.everything;
        required.lazy |= more.lazy;
        Self { timeline_limit: self.timeline_limit.max(other.timeline_limit), required }
    }
}

impl Required {
    /// Whether this state is wanted whoever speaks.
    pub(super) fn holds(&self, kind: &str, key: &str) -> bool {
        // Lazy members are an exception from everything, but not from what is named.
        (self.everything && !(self.lazy && kind == MEMBER))
            || self.kinds.contains(kind)
            || self.keys.contains(key)
            || self.exact.contains(&(kind.to_owned(), key.to_owned()))
    }

    /// All that is wanted of a state.
    pub(super) fn of(&self, room: &Room, state: Root) -> Result<Vec<Arc<Placed>>> {
        if self.everything || !self.keys.is_empty() {
            let mut all = room.state_events(state, None)?;
            all.retain(|placed| self.holds(placed.event.kind(), placed.event.state_key().unwrap_or_default()));
            return Ok(all);
        }
        let mut found = Vec::new();
        for kind in &self.kinds {
            found.extend(room.state_events(state, Some(kind))?);
        }
        for (kind, key) in self.exact.iter().filter(|(kind, _)| !self.kinds.contains(kind)) {
            found.extend(room.state_event(state, kind, key)?);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use ruma_common::user_id;

    use super::*;

    fn config(required_state: &[(&str, &str)]) -> Config {
        let pairs: Vec<_> = required_state.iter().map(|(kind, key)| ((*kind).into(), (*key).into())).collect();
        Config::new(1_000, &pairs, user_id!("@me:b.c"))
    }

    #[test]
    fn wildcards_stand_for_types_and_for_keys() {
        let of_kind = config(&[("m.space.child", "*"), ("*", "x")]).required;
        assert!(of_kind.holds("m.space.child", "!a:b.c") && of_kind.holds("m.whatever", "x"));
        assert!(!of_kind.holds("m.whatever", ""));
        let me = config(&[(MEMBER, "$ME")]).required;
        assert!(me.holds(MEMBER, "@me:b.c") && !me.holds(MEMBER, "@you:b.c"));
    }

    #[test]
    fn lazy_members_are_not_part_of_everything() {
        let required = config(&[("*", "*"), (MEMBER, "$LAZY"), (MEMBER, "@named:b.c")]).required;
        assert!(required.holds("m.room.topic", "") && required.holds(MEMBER, "@named:b.c"));
        assert!(!required.holds(MEMBER, "@other:b.c"));
    }

    #[test]
    fn who_asks_twice_gets_what_either_wants() {
        let both = config(&[("a", "")]).join(&config(&[("b", "*")]));
        assert!(both.required.holds("a", "") && both.required.holds("b", "x"));
        assert_eq!(both.timeline_limit, 100);
    }
}
