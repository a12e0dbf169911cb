//! Changing push rules: what a user may do to them, and what not.
//!
//! Specified in [CS-API §push-rules-api].

use serde_json::Value;
use thiserror::Error;

use crate::ruleset::{Kind, MASTER, Rule, Ruleset};

/// How many rules a person may have, server-default ones included.
pub const RULES_MAX: usize = 1_000;

/// Longest rule id, in bytes; room and user ids are at most as long.
pub const RULE_ID_LENGTH_MAX: usize = 255;

/// Longest pattern, in bytes.
pub const PATTERN_LENGTH_MAX: usize = 255;

/// How many conditions or actions one rule may have.
pub const PARTS_MAX: usize = 32;

/// Largest rule, in bytes of JSON.
pub const RULE_BYTES_MAX: usize = 8 * 1024;

/// Largest ruleset, in bytes of JSON: it travels whole to every device on every change.
pub const RULESET_BYTES_MAX: usize = 256 * 1024;

/// A rule that a user wants to have.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRule {
    /// Which kind.
    pub kind: Kind,
    /// Its id.
    pub rule_id: String,
    /// What to do on a match.
    pub actions: Vec<Value>,
    /// Override and underride rules only; none means "always".
    pub conditions: Option<Vec<Value>>,
    /// Content rules only, and required there.
    pub pattern: Option<String>,
}

/// Where a rule is to stand among those of its kind. With both, `before` counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position<'a> {
    /// Just above this rule.
    pub before: Option<&'a str>,
    /// Just below this rule.
    pub after: Option<&'a str>,
}

/// Why rules were not changed. All of these are the client's doing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EditError {
    /// There is no such rule.
    #[error("the push rule was not found")]
    NotFound,
    /// Ids that begin with a dot belong to the server.
    #[error("a rule id that begins with a dot belongs to the server; choose another")]
    ReservedId,
    /// Empty, too long, or with a slash or backslash.
    #[error("a rule id has 1 to {RULE_ID_LENGTH_MAX} bytes and no slashes or backslashes")]
    InvalidId,
    /// A server-default rule was to be removed.
    #[error("server-default rules cannot be deleted; disable the rule instead")]
    IsServerDefault,
    /// A rule was to be placed beside a server-default rule.
    #[error("a rule cannot be placed relative to a server-default rule")]
    RelativeToServerDefault,
    /// `before` or `after` names no rule of this kind.
    #[error("before/after rule not found: {0}")]
    RelativeNotFound(String),
    /// The rule is not shaped like a rule.
    #[error("the rule is malformed: {0}")]
    Malformed(&'static str),
    /// One of the limits of this file.
    #[error("too large: {0}")]
    TooLarge(&'static str),
}

impl Ruleset {
    /// Adds a rule, or changes the one with the same id. [CS-API §put_matrixclientv3pushrulesglobalkindruleid]
    pub fn put(&mut self, new: NewRule, position: Position<'_>) -> Result<(), EditError> {
        let NewRule { kind, rule_id, actions, conditions, pattern } = new;
        // The id is reserved, or has a character that may not be in it.
        if rule_id.starts_with('.') {
            return Err(EditError::ReservedId);
        }
        if rule_id.is_empty() || rule_id.len() > RULE_ID_LENGTH_MAX || rule_id.contains(['/', '\\']) {
            return Err(EditError::InvalidId);
        }
        check_actions(&actions)?;
        let (conditions, pattern) = match kind {
            Kind::Override | Kind::Underride => (Some(checked_conditions(conditions)?), None),
            Kind::Content => (None, Some(checked_pattern(pattern)?)),
            Kind::Room | Kind::Sender => (None, None),
        };

        let rules = self.of(kind);
        let standing = rules.iter().position(|rule| rule.rule_id == rule_id);
        if standing.is_none() && self.len() >= RULES_MAX {
            return Err(EditError::TooLarge("delete some rules before adding more"));
        }
        // When creating push rules, they MUST be enabled by default.
        let enabled = standing.is_none_or(|index| rules[index].enabled);
        let rule = Rule { rule_id, default: false, enabled, actions, conditions, pattern };
        check_size(&rule)?;

        let target = relative(rules, &rule.rule_id, position)?;
        let rules = self.of_mut(kind);
        if let Some(index) = standing {
            rules.remove(index);
        }
        let index = match (target, standing) {
            (Some(target), _) => target,
            (None, Some(index)) => index,
            // The most important user-defined rule: only the master switch stands above it.
            (None, None) => usize::from(rules.first().is_some_and(|first| first.rule_id == MASTER)),
        };
        rules.insert(index, rule);
        Ok(())
    }

    /// Removes a rule of the user. [CS-API §delete_matrixclientv3pushrulesglobalkindruleid]
    pub fn remove(&mut self, kind: Kind, rule_id: &str) -> Result<(), EditError> {
        let rules = self.of_mut(kind);
        let index = rules.iter().position(|rule| rule.rule_id == rule_id).ok_or(EditError::NotFound)?;
        if rules[index].default {
            return Err(EditError::IsServerDefault);
        }
        rules.remove(index);
        Ok(())
    }

    /// Switches a rule on or off, server-default ones included.
    pub fn set_enabled(&mut self, kind: Kind, rule_id: &str, enabled: bool) -> Result<(), EditError> {
        self.find_mut(kind, rule_id)?.enabled = enabled;
        Ok(())
    }

    /// Changes what a rule does, server-default ones included.
    pub fn set_actions(&mut self, kind: Kind, rule_id: &str, actions: Vec<Value>) -> Result<(), EditError> {
        let rule = self.find_mut(kind, rule_id)?;
        check_actions(&actions)?;
        let changed = Rule { actions, ..rule.clone() };
        check_size(&changed)?;
        *rule = changed;
        Ok(())
    }

    fn find_mut(&mut self, kind: Kind, rule_id: &str) -> Result<&mut Rule, EditError> {
        self.of_mut(kind).iter_mut().find(|rule| rule.rule_id == rule_id).ok_or(EditError::NotFound)
    }
}

/// The index among the *other* rules that the position names; `None` if it names none.
fn relative(rules: &[Rule], moved: &str, position: Position<'_>) -> Result<Option<usize>, EditError> {
    let find = |rule_id: &str| {
        if rule_id.starts_with('.') {
            return Err(EditError::RelativeToServerDefault);
        }
        let mut others = rules.iter().filter(|rule| rule.rule_id != moved);
        others.position(|rule| rule.rule_id == rule_id).ok_or_else(|| EditError::RelativeNotFound(rule_id.to_owned()))
    };
    let after = position.after.map(find).transpose()?.map(|index| index + 1);
    let before = position.before.map(find).transpose()?;
    Ok(before.or(after))
}

fn check_actions(actions: &[Value]) -> Result<(), EditError> {
    if actions.len() > PARTS_MAX {
        return Err(EditError::TooLarge("a rule has at most 32 actions"));
    }
    let is_action = |action: &Value| match action {
        Value::String(_) => true,
        // The only action with parameters; objects that are something else are kept, as unknown strings are.
        Value::Object(fields) => fields.get("set_tweak").is_none_or(Value::is_string),
        _ => false,
    };
    if actions.iter().all(is_action) { Ok(()) } else { Err(EditError::Malformed("an action is a string or an object")) }
}

/// Conditions of unknown kinds are kept and never match; those of a known kind must have its parameters.
fn checked_conditions(conditions: Option<Vec<Value>>) -> Result<Vec<Value>, EditError> {
    let conditions = conditions.unwrap_or_default();
    if conditions.len() > PARTS_MAX {
        return Err(EditError::TooLarge("a rule has at most 32 conditions"));
    }
    for condition in &conditions {
        let text = |key: &str| condition.get(key).and_then(Value::as_str);
        let missing = match text("kind").ok_or(EditError::Malformed("a condition is an object with a kind"))? {
            "event_match" if text("key").is_none() || text("pattern").is_none() => "event_match needs key and pattern",
            "event_match" if text("pattern").is_some_and(|pattern| pattern.len() > PATTERN_LENGTH_MAX) => {
                return Err(EditError::TooLarge("a pattern has at most 255 bytes"));
            }
            "event_property_is" | "event_property_contains"
                if text("key").is_none() || !condition.get("value").is_some_and(is_scalar) =>
            {
                "event_property_is and event_property_contains need key and a value that is no array or object"
            }
            "room_member_count" if text("is").is_none() => "room_member_count needs is",
            "sender_notification_permission" if text("key").is_none() => "sender_notification_permission needs key",
            _ => continue,
        };
        return Err(EditError::Malformed(missing));
    }
    Ok(conditions)
}

fn is_scalar(value: &Value) -> bool {
    !matches!(value, Value::Array(_) | Value::Object(_))
}

fn checked_pattern(pattern: Option<String>) -> Result<String, EditError> {
    match pattern {
        None => Err(EditError::Malformed("a content rule needs a pattern")),
        Some(pattern) if pattern.len() > PATTERN_LENGTH_MAX => {
            Err(EditError::TooLarge("a pattern has at most 255 bytes"))
        }
        Some(pattern) => Ok(pattern),
    }
}

fn check_size(rule: &Rule) -> Result<(), EditError> {
    let size = serde_json::to_vec(rule).map_or(usize::MAX, |json| json.len());
    if size > RULE_BYTES_MAX { Err(EditError::TooLarge("a rule has at most 8192 bytes of JSON")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use ruma_common::user_id;
    use serde_json::json;

    use super::*;

    fn rules() -> Ruleset {
        Ruleset::server_default(user_id!("@alice:example.org"))
    }

    fn new(kind: Kind, id: &str) -> NewRule {
        let pattern = (kind == Kind::Content).then(|| "cake".to_owned());
        NewRule { kind, rule_id: id.to_owned(), actions: vec![json!("notify")], conditions: None, pattern }
    }

    fn put(rules: &mut Ruleset, kind: Kind, id: &str, before: Option<&str>, after: Option<&str>) {
        rules.put(new(kind, id), Position { before, after }).expect("the rule is accepted");
    }

    fn ids(rules: &Ruleset, kind: Kind) -> Vec<&str> {
        let own = rules.of(kind).iter().filter(|rule| !rule.default);
        own.map(|rule| rule.rule_id.as_str()).collect()
    }

    #[test]
    fn a_new_rule_is_the_most_important_one_of_the_user() {
        let mut rules = rules();
        put(&mut rules, Kind::Override, "a", None, None);
        put(&mut rules, Kind::Override, "b", None, None);
        assert_eq!(ids(&rules, Kind::Override), ["b", "a"]);
        assert_eq!(rules.of(Kind::Override)[0].rule_id, MASTER, "the master switch stays on top");
        put(&mut rules, Kind::Underride, "c", None, None);
        assert_eq!(rules.of(Kind::Underride)[0].rule_id, "c");
    }

    #[test]
    fn rules_are_placed_and_moved_relative_to_others() {
        let mut rules = rules();
        for id in ["a", "b", "c"] {
            put(&mut rules, Kind::Content, id, None, None);
        }
        assert_eq!(ids(&rules, Kind::Content), ["c", "b", "a"]);
        put(&mut rules, Kind::Content, "d", Some("b"), None);
        assert_eq!(ids(&rules, Kind::Content), ["c", "d", "b", "a"]);
        put(&mut rules, Kind::Content, "c", None, Some("a"));
        assert_eq!(ids(&rules, Kind::Content), ["d", "b", "a", "c"], "moved below the last");
        put(&mut rules, Kind::Content, "d", None, Some("b"));
        assert_eq!(ids(&rules, Kind::Content), ["b", "d", "a", "c"], "moved down by one");
        put(&mut rules, Kind::Content, "c", Some("d"), Some("a"));
        assert_eq!(ids(&rules, Kind::Content), ["b", "c", "d", "a"], "with both, before counts");
    }

    #[test]
    fn a_changed_rule_keeps_its_place_and_stays_disabled() {
        let mut rules = rules();
        put(&mut rules, Kind::Room, "!a:example.org", None, None);
        put(&mut rules, Kind::Room, "!b:example.org", None, None);
        rules.set_enabled(Kind::Room, "!a:example.org", false).expect("there");
        let quiet = NewRule { actions: vec![], ..new(Kind::Room, "!a:example.org") };
        rules.put(quiet, Position::default()).expect("changed");
        assert_eq!(ids(&rules, Kind::Room), ["!b:example.org", "!a:example.org"]);
        let rule = rules.get(Kind::Room, "!a:example.org").expect("there");
        assert!(!rule.enabled && rule.actions.is_empty());
    }

    #[test]
    fn what_is_not_allowed_changes_nothing() {
        let mut rules = rules();
        put(&mut rules, Kind::Override, "a", None, None);
        let unchanged = rules.clone();
        let long = "x".repeat(RULE_ID_LENGTH_MAX + 1);
        let cases = [
            (".m.rule.mine", None, EditError::ReservedId),
            ("a/b", None, EditError::InvalidId),
            (r"a\b", None, EditError::InvalidId),
            ("", None, EditError::InvalidId),
            (&long, None, EditError::InvalidId),
            ("b", Some(".m.rule.master"), EditError::RelativeToServerDefault),
            ("b", Some("c"), EditError::RelativeNotFound("c".to_owned())),
            ("a", Some("a"), EditError::RelativeNotFound("a".to_owned())),
        ];
        for (id, before, error) in cases {
            let result = rules.put(new(Kind::Override, id), Position { before, after: None });
            assert_eq!(result, Err(error), "{id} before {before:?}");
            assert_eq!(rules, unchanged);
        }
    }

    #[test]
    fn server_default_rules_can_be_changed_but_not_deleted() {
        let mut rules = rules();
        assert_eq!(rules.remove(Kind::Underride, ".m.rule.message"), Err(EditError::IsServerDefault));
        assert_eq!(rules.remove(Kind::Underride, "nothing"), Err(EditError::NotFound));
        rules.set_enabled(Kind::Underride, ".m.rule.message", false).expect("may be disabled");
        rules.set_actions(Kind::Underride, ".m.rule.message", vec![json!("dont_notify")]).expect("may be changed");
        let rule = rules.get(Kind::Underride, ".m.rule.message").expect("there");
        assert!(!rule.enabled);
        assert_eq!(rule.actions, [json!("dont_notify")], "actions of old are kept as they were written");
        assert_eq!(rules.set_enabled(Kind::Override, "nothing", true), Err(EditError::NotFound));
        assert_eq!(rules.set_actions(Kind::Override, "nothing", vec![]), Err(EditError::NotFound));
    }

    #[test]
    fn a_rule_must_look_like_a_rule() {
        let mut rules = rules();
        let mut refused = |rule: NewRule| rules.put(rule, Position::default()).expect_err("refused");
        let conditions = |value: Value| NewRule { conditions: Some(vec![value]), ..new(Kind::Override, "a") };
        assert!(matches!(refused(NewRule { pattern: None, ..new(Kind::Content, "a") }), EditError::Malformed(_)));
        assert!(matches!(
            refused(NewRule { actions: vec![json!(1)], ..new(Kind::Room, "a") }),
            EditError::Malformed(_)
        ));
        for condition in [
            json!("event_match"),
            json!({ "kind": "event_match", "key": "type" }),
            json!({ "kind": "event_property_is", "key": "type", "value": [] }),
            json!({ "kind": "room_member_count" }),
            json!({ "kind": "sender_notification_permission" }),
        ] {
            assert!(matches!(refused(conditions(condition.clone())), EditError::Malformed(_)), "{condition}");
        }
        let large = NewRule { pattern: Some("x".repeat(PATTERN_LENGTH_MAX + 1)), ..new(Kind::Content, "a") };
        assert!(matches!(refused(large), EditError::TooLarge(_)));
        let unknown = conditions(json!({ "kind": "org.example.moon_phase", "is": "full" }));
        rules.put(unknown, Position::default()).expect("unknown kinds are kept");
    }

    #[test]
    fn the_number_of_rules_is_bounded() {
        let mut rules = rules();
        while rules.len() < RULES_MAX {
            let id = rules.len().to_string();
            put(&mut rules, Kind::Room, &id, None, None);
        }
        let result = rules.put(new(Kind::Room, "one more"), Position::default());
        assert!(matches!(result, Err(EditError::TooLarge(_))));
        put(&mut rules, Kind::Room, "500", None, None);
    }
}
