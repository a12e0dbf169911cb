//! Rules made ready for use, and asked about an event.
//!
//! Specified in [CS-API §conditions-1] and [CS-API §actions]. A ruleset is compiled once: disabled rules fall away, paths
//! and patterns are taken apart, and the user's own id becomes a placeholder, so that everybody whose rules are the
//! server's shares one compiled set.

use ruma_common::UserId;
use serde_json::Value;

use crate::{
    event::{EventView, Path},
    glob::{Fuel, Glob},
    ruleset::{Kind, Rule, Ruleset},
};

/// What conditions may ask about the room and the reader.
pub trait Surroundings {
    /// How many members have joined.
    fn member_count(&self) -> u64;
    /// The display name of the reader in this room.
    fn display_name(&self) -> Option<&str>;
    /// Whether the sender of the event has the power level for notifications of this kind, such as `room`.
    fn sender_may_notify(&self, key: &str) -> bool;
}

/// What the first matching rule wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision<'a> {
    /// A notification.
    pub notify: bool,
    /// A highlighted notification.
    pub highlight: bool,
    /// All actions of the rule, in the client's words. Empty if no rule matched.
    pub actions: &'a [Value],
}

const NOTHING: Decision<'static> = Decision { notify: false, highlight: false, actions: &[] };

/// A compiled ruleset.
#[derive(Debug)]
pub struct Matcher {
    rules: Vec<Ready>,
}

#[derive(Debug, PartialEq)]
struct Ready {
    tests: Vec<Test>,
    notify: bool,
    highlight: bool,
    actions: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Match(Path, Glob),
    Words(Glob),
    MatchOwnId(Path),
    Is(Path, Value),
    Contains(Path, Value),
    ContainsOwnId(Path),
    Room(Box<str>),
    Sender(Box<str>),
    DisplayName,
    MemberCount(Comparison, u64),
    MayNotify(Box<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Less,
    Greater,
    LessOrEqual,
    GreaterOrEqual,
}

impl Matcher {
    /// Compiles the rules of this user.
    pub fn new(rules: &Ruleset, user: &UserId) -> Self {
        let all = Kind::ALL.into_iter().flat_map(|kind| rules.of(kind).iter().map(move |rule| (kind, rule)));
        Self {
            rules: all.filter(|(_, rule)| rule.enabled).filter_map(|(kind, rule)| ready(kind, rule, user)).collect(),
        }
    }

    /// What these rules say about an event. Nobody is told of their own events.
    ///
    /// Cost: nearly all rules fall at a comparison of short strings; the content is read when the first rule asks for it.
    pub fn decide(&self, user: &UserId, event: &EventView<'_>, room: &dyn Surroundings) -> Decision<'_> {
        if event.sender() == user {
            return NOTHING;
        }
        let fuel = Fuel::new();
        let matching =
            self.rules.iter().find(|rule| rule.tests.iter().all(|test| test.holds(user, event, room, &fuel)));
        matching.map_or(NOTHING, |rule| Decision {
            notify: rule.notify,
            highlight: rule.highlight,
            actions: &rule.actions,
        })
    }
}

/// `None` if the rule can never match.
fn ready(kind: Kind, rule: &Rule, user: &UserId) -> Option<Ready> {
    let tests = match kind {
        Kind::Override | Kind::Underride => {
            let conditions = rule.conditions.as_deref().unwrap_or_default();
            // Unrecognised conditions MUST NOT match any events. [CS-API §conditions-1]
            conditions.iter().map(|condition| test(condition, user)).collect::<Option<Vec<Test>>>()?
        }
        Kind::Content => vec![Test::Words(Glob::new(rule.pattern.as_deref()?))],
        Kind::Room => vec![Test::Room(rule.rule_id.as_str().into())],
        Kind::Sender => vec![Test::Sender(rule.rule_id.as_str().into())],
    };
    // Actions nobody knows, and `dont_notify` and `coalesce` of old, do nothing. [CS-API §historical-actions]
    let notify = rule.actions.iter().any(|action| action == "notify");
    let highlight = notify && rule.actions.iter().any(is_highlight);
    Some(Ready { tests, notify, highlight, actions: rule.actions.clone() })
}

/// A highlight without a value is one. [CS-API §actions]
fn is_highlight(action: &Value) -> bool {
    action.get("set_tweak").is_some_and(|tweak| tweak == "highlight")
        && action.get("value").is_none_or(|value| value != &Value::Bool(false))
}

fn test(condition: &Value, user: &UserId) -> Option<Test> {
    let text = |key: &str| condition.get(key).and_then(Value::as_str);
    let path = || text("key").map(Path::parse);
    let test = match text("kind")? {
        "event_match" => match (path()?, text("pattern")?) {
            (path, pattern) if path.is_body() => Test::Words(Glob::new(pattern)),
            (path, pattern) if pattern == user.as_str() => Test::MatchOwnId(path),
            (path, pattern) => Test::Match(path, Glob::new(pattern)),
        },
        "event_property_is" => Test::Is(path()?, scalar(condition.get("value")?)?),
        "event_property_contains" => match (path()?, scalar(condition.get("value")?)?) {
            (path, Value::String(value)) if value == user.as_str() => Test::ContainsOwnId(path),
            (path, value) => Test::Contains(path, value),
        },
        "contains_display_name" => Test::DisplayName,
        "room_member_count" => {
            let (comparison, number) = comparison(text("is")?)?;
            Test::MemberCount(comparison, number)
        }
        "sender_notification_permission" => Test::MayNotify(text("key")?.into()),
        _ => return None,
    };
    Some(test)
}

/// The values that can be compared: no arrays, no objects, no fractions.
fn scalar(value: &Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => Some(value.clone()),
        Value::Number(number) => number.as_i64().map(Value::from),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// A decimal integer, optionally after one of `==`, `<`, `>`, `>=`, `<=`.
fn comparison(text: &str) -> Option<(Comparison, u64)> {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    let operators =
        [("==", Equal), ("<=", LessOrEqual), (">=", GreaterOrEqual), ("<", Less), (">", Greater), ("", Equal)];
    let (digits, comparison) = operators
        .into_iter()
        .find_map(|(sign, comparison)| text.strip_prefix(sign).map(|digits| (digits, comparison)))?;
    let is_decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal.then(|| digits.parse().ok()).flatten().map(|number| (comparison, number))
}

impl Test {
    fn holds(&self, user: &UserId, event: &EventView<'_>, room: &dyn Surroundings, fuel: &Fuel) -> bool {
        match self {
            Self::Match(path, glob) => event.text(path, |text| glob.matches(text, fuel)).unwrap_or(false),
            Self::Words(glob) => event.body().is_some_and(|body| glob.matches_words(body, fuel)),
            Self::MatchOwnId(path) => {
                event.text(path, |text| text.eq_ignore_ascii_case(user.as_str())).unwrap_or(false)
            }
            Self::Is(path, wanted) => match wanted {
                Value::String(wanted) => event.text(path, |text| text == wanted).unwrap_or(false),
                _ => event.value(path).is_some_and(|value| value == *wanted),
            },
            Self::Contains(path, wanted) => {
                event.value(path).is_some_and(|value| value.as_array().is_some_and(|values| values.contains(wanted)))
            }
            Self::ContainsOwnId(path) => event.value(path).is_some_and(|value| {
                value.as_array().is_some_and(|values| values.iter().any(|value| value == user.as_str()))
            }),
            Self::Room(room_id) => event.room_id() == &**room_id,
            Self::Sender(sender) => event.sender() == &**sender,
            Self::DisplayName => room.display_name().is_some_and(|name| {
                let name = Glob::exact(name);
                event.body().is_some_and(|body| name.matches_words(body, fuel))
            }),
            Self::MemberCount(comparison, number) => comparison.holds(room.member_count(), *number),
            Self::MayNotify(key) => room.sender_may_notify(key),
        }
    }
}

impl Comparison {
    fn holds(self, count: u64, number: u64) -> bool {
        match self {
            Self::Equal => count == number,
            Self::Less => count < number,
            Self::Greater => count > number,
            Self::LessOrEqual => count <= number,
            Self::GreaterOrEqual => count >= number,
        }
    }
}

#[cfg(test)]
mod tests;
