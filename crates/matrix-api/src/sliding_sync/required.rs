//! Which state of a room is wanted: `required_state`, with its wildcards, in both forms. [MSC4186]

use std::{collections::BTreeSet, sync::Arc};

use koine_room::{Placed, Room, Root};
use ruma_common::UserId;

use super::request::{Element, Selection, TIMELINE_LIMIT_MAX, Wish};
use crate::Result;

const MEMBER: &str = "m.room.member";

/// What is wanted of a room, of all lists and subscriptions that it is in together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) timeline_limit: usize,
    pub(super) required: Required,
}

/// Types and state keys wanted: what any of the rules holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Required {
    rules: BTreeSet<Rule>,
}

/// What one list or subscription wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    exact: BTreeSet<(String, String)>,
    /// Types wanted with whatever state key.
    kinds: BTreeSet<String>,
    /// State keys wanted of whatever type.
    keys: BTreeSet<String>,
    everything: bool,
    /// What is not wanted all the same.
    but: Vec<Element>,
    /// Members who speak in the timeline.
    lazy: bool,
}

impl Config {
    pub(super) fn new(timeline_limit: u64, wish: &Wish, reader: &UserId) -> Self {
        let rule = match wish {
            Wish::Pairs(pairs) => Rule::of_pairs(pairs, reader),
            Wish::Selection(selection) => Rule::of_selection(selection),
        };
        let timeline_limit = usize::try_from(timeline_limit.min(TIMELINE_LIMIT_MAX)).unwrap_or_default();
        let rules = if rule == Rule::default() { BTreeSet::new() } else { BTreeSet::from([rule]) };
        Self { timeline_limit, required: Required { rules } }
    }

    /// What either wants.
    pub(super) fn join(&self, other: &Self) -> Self {
        let rules = self.required.rules.union(&other.required.rules).cloned().collect();
        Self { timeline_limit: self.timeline_limit.max(other.timeline_limit), required: Required { rules } }
    }
}

impl Rule {
    fn of_pairs(pairs: &[(String, String)], reader: &UserId) -> Self {
        let mut rule = Self::default();
        for (kind, key) in pairs {
            let key = if key == "$ME" { reader.as_str() } else { key.as_str() };
            match (kind.as_str(), key) {
                (MEMBER, "$LAZY") => rule.lazy = true,
                (kind, key) => rule.add((kind != "*").then_some(kind), (key != "*").then_some(key)),
            }
        }
        rule
    }

    fn of_selection(selection: &Selection) -> Self {
        let mut rule = Self { but: selection.exclude.clone(), lazy: selection.lazy_members, ..Self::default() };
        for Element { kind, state_key } in &selection.include {
            rule.add(kind.as_deref(), state_key.as_deref());
        }
        rule
    }

    fn add(&mut self, kind: Option<&str>, key: Option<&str>) {
        match (kind, key) {
            (None, None) => self.everything = true,
            (None, Some(key)) => drop(self.keys.insert(key.to_owned())),
            (Some(kind), None) => drop(self.kinds.insert(kind.to_owned())),
            (Some(kind), Some(key)) => drop(self.exact.insert((kind.to_owned(), key.to_owned()))),
        }
    }

    fn holds(&self, kind: &str, key: &str) -> bool {
        let is_named = |element: &Element| {
            element.kind.as_deref().is_none_or(|wanted| wanted == kind)
                && element.state_key.as_deref().is_none_or(|wanted| wanted == key)
        };
        // Lazy members are an exception from everything, but not from what is named.
        let is_in = (self.everything && !(self.lazy && kind == MEMBER))
            || self.kinds.contains(kind)
            || self.keys.contains(key)
            || self.exact.contains(&(kind.to_owned(), key.to_owned()));
        is_in && !self.but.iter().any(is_named)
    }

    /// Whether all members are wanted, whoever speaks.
    fn holds_all_members(&self) -> bool {
        let takes_away = |element: &Element| element.kind.as_deref().is_none_or(|kind| kind == MEMBER);
        ((self.everything && !self.lazy) || self.kinds.contains(MEMBER)) && !self.but.iter().any(takes_away)
    }
}

impl Required {
    /// Whether this state is wanted whoever speaks.
    pub(super) fn holds(&self, kind: &str, key: &str) -> bool {
        self.rules.iter().any(|rule| rule.holds(kind, key))
    }

    /// Whether members are wanted because they speak.
    pub(super) fn lazy(&self) -> bool {
        self.rules.iter().any(|rule| rule.lazy) && !self.rules.iter().any(Rule::holds_all_members)
    }

    /// All that is wanted of a state.
    pub(super) fn of(&self, room: &Room, state: Root) -> Result<Vec<Arc<Placed>>> {
        if self.rules.iter().any(|rule| rule.everything || !rule.keys.is_empty()) {
            let mut all = room.state_events(state, None)?;
            all.retain(|placed| self.holds(placed.event.kind(), placed.event.state_key().unwrap_or_default()));
            return Ok(all);
        }
        let mut found = Vec::new();
        let kinds: BTreeSet<&String> = self.rules.iter().flat_map(|rule| &rule.kinds).collect();
        for kind in &kinds {
            found.extend(room.state_events(state, Some(kind))?);
        }
        let exact: BTreeSet<_> = self.rules.iter().flat_map(|rule| &rule.exact).collect();
        for (kind, key) in exact.into_iter().filter(|(kind, _)| !kinds.contains(kind)) {
            found.extend(room.state_event(state, kind, key)?);
        }
        if self.rules.iter().any(|rule| !rule.but.is_empty()) {
            found.retain(|placed| self.holds(placed.event.kind(), placed.event.state_key().unwrap_or_default()));
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
        Config::new(1_000, &Wish::Pairs(pairs), user_id!("@me:b.c"))
    }

    fn selection(json: &str) -> Config {
        let selection = serde_json::from_str(json).expect("a selection");
        Config::new(1, &Wish::Selection(selection), user_id!("@me:b.c"))
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

    #[test]
    fn a_selection_takes_out_what_it_excludes() {
        let all =
            selection(r#"{ "include": [{}], "exclude": [{ "type": "m.room.create", "state_key": "" }] }"#).required;
        assert!(all.holds("m.room.topic", "") && all.holds(MEMBER, "@a:b.c") && !all.holds("m.room.create", ""));
        let keyed = selection(r#"{ "include": [{ "state_key": "x" }] }"#).required;
        assert!(keyed.holds("whatever", "x") && !keyed.holds("whatever", ""));
        // What one leaves out and the other names is wanted.
        let both = Config { timeline_limit: 1, required: all }.join(&config(&[("m.room.create", "")]));
        assert!(both.required.holds("m.room.create", ""));
    }

    #[test]
    fn members_are_lazy_unless_somebody_wants_them_all() {
        let lazy = selection(r#"{ "include": [{}], "lazy_members": true }"#);
        assert!(lazy.required.lazy() && !lazy.required.holds(MEMBER, "@a:b.c"));
        let all = lazy.join(&selection(r#"{ "include": [{}] }"#)).required;
        assert!(!all.lazy() && all.holds(MEMBER, "@a:b.c"));
    }
}
