//! A person's push rules, as they are stored and as clients see them.
//!
//! Specified in [CS-API §push-rules]. Rules are kept as the client wrote them: actions and conditions that nobody here
//! knows are handed back unchanged, and simply never match.

use std::str::FromStr;

use ruma_common::UserId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The master switch: the one server-default rule that stands above the rules of the user.
pub const MASTER: &str = ".m.rule.master";

/// The kinds of rule, in the order in which they are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Looked at first.
    Override,
    /// Words in the text.
    Content,
    /// All messages of a room.
    Room,
    /// All messages of a person.
    Sender,
    /// Looked at last.
    Underride,
}

impl Kind {
    /// All kinds, most important first. [CS-API §push-rules]
    pub const ALL: [Self; 5] = [Self::Override, Self::Content, Self::Room, Self::Sender, Self::Underride];

    /// The name in paths and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Content => "content",
            Self::Room => "room",
            Self::Sender => "sender",
            Self::Underride => "underride",
        }
    }
}

/// There is no kind of rule with this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the kind of a push rule is one of override, content, room, sender, underride")]
pub struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownKind)
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Unique among the rules of its kind. For room and sender rules, the room or the person.
    pub rule_id: String,
    /// Whether the server made it.
    #[serde(default)]
    pub default: bool,
    /// A disabled rule never matches.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What happens on a match: strings and objects, in the client's words.
    #[serde(default)]
    pub actions: Vec<Value>,
    /// Override and underride rules: what must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Value>>,
    /// Content rules: what the text must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

fn yes() -> bool {
    true
}

/// All rules of a person, by kind; within a kind, most important first. Every kind appears in JSON, also when empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ruleset {
    #[serde(rename = "override")]
    override_: Vec<Rule>,
    content: Vec<Rule>,
    room: Vec<Rule>,
    sender: Vec<Rule>,
    underride: Vec<Rule>,
}

impl Ruleset {
    /// What everybody starts with: what is specified [CS-API §predefined-rules], and after it the rules of polls, which
    /// are a proposal still [MSC3930].
    pub fn server_default(user: &UserId) -> Self {
        let rules = serde_json::to_value(ruma_common::push::Ruleset::server_default(user));
        let mut rules: Self =
            rules.and_then(serde_json::from_value).expect("the predefined rules have the shape of rules");
        rules.override_.push(poll_rule("poll_response", "response", false, &[]));
        let sound = json!({ "set_tweak": "sound", "value": "default" });
        // In conversations of two they ring; so these come first.
        for step in ["start", "end"] {
            let ringing = [json!("notify"), sound.clone()];
            rules.underride.push(poll_rule(&format!("poll_{step}_one_to_one"), step, true, &ringing));
            rules.underride.push(poll_rule(&format!("poll_{step}"), step, false, &[json!("notify")]));
        }
        rules
    }

    /// The rules of one kind, most important first.
    pub fn of(&self, kind: Kind) -> &[Rule] {
        match kind {
            Kind::Override => &self.override_,
            Kind::Content => &self.content,
            Kind::Room => &self.room,
            Kind::Sender => &self.sender,
            Kind::Underride => &self.underride,
        }
    }

    pub(crate) fn of_mut(&mut self, kind: Kind) -> &mut Vec<Rule> {
        match kind {
            Kind::Override => &mut self.override_,
            Kind::Content => &mut self.content,
            Kind::Room => &mut self.room,
            Kind::Sender => &mut self.sender,
            Kind::Underride => &mut self.underride,
        }
    }

    /// One rule.
    pub fn get(&self, kind: Kind, rule_id: &str) -> Option<&Rule> {
        self.of(kind).iter().find(|rule| rule.rule_id == rule_id)
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        Kind::ALL.into_iter().map(|kind| self.of(kind).len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Brings stored rules up to date with the server-default rules of this version: new ones appear, ones that are gone
    /// disappear, and what the user changed about them (enabled, actions) stays.
    pub(crate) fn with_defaults(mut self, user: &UserId) -> Self {
        let mut defaults = Self::server_default(user);
        for kind in Kind::ALL {
            let stored = std::mem::take(self.of_mut(kind));
            let (old, mut rules): (Vec<Rule>, Vec<Rule>) =
                stored.into_iter().partition(|rule| rule.rule_id.starts_with('.'));
            let mut fresh = std::mem::take(defaults.of_mut(kind));
            for rule in &mut fresh {
                if let Some(old) = old.iter().find(|old| old.rule_id == rule.rule_id) {
                    rule.enabled = old.enabled;
                    rule.actions.clone_from(&old.actions);
                }
            }
            // The master switch stands first, the other server-default rules after the user's own.
            let (master, rest): (Vec<Rule>, Vec<Rule>) = fresh.into_iter().partition(|rule| rule.rule_id == MASTER);
            rules.splice(0..0, master);
            rules.extend(rest);
            *self.of_mut(kind) = rules;
        }
        self
    }
}

/// A rule about the events of polls.
fn poll_rule(name: &str, step: &str, is_one_to_one: bool, actions: &[Value]) -> Rule {
    let event_type = format!("org.matrix.msc3381.poll.{step}");
    let pair = is_one_to_one.then(|| json!({ "kind": "room_member_count", "is": "2" }));
    let conditions = pair.into_iter().chain([json!({ "kind": "event_match", "key": "type", "pattern": event_type })]);
    Rule {
        rule_id: format!(".org.matrix.msc3930.rule.{name}"),
        default: true,
        enabled: true,
        actions: actions.to_vec(),
        conditions: Some(conditions.collect()),
        pattern: None,
    }
}

#[cfg(test)]
mod tests {
    use ruma_common::user_id;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "the table below reads better without references")]
    fn rule(id: &str, enabled: bool, conditions: Value, actions: Value) -> Value {
        json!({ "rule_id": id, "default": true, "enabled": enabled, "conditions": conditions, "actions": actions })
    }

    fn poll(step: &str, conditions: Value, actions: Value) -> Value {
        rule(&format!(".org.matrix.msc3930.rule.poll_{step}"), true, conditions, actions)
    }

    fn matches(key: &str, pattern: &str) -> Value {
        json!({ "kind": "event_match", "key": key, "pattern": pattern })
    }

    /// The table of [CS-API §predefined-rules], written down a second time.
    #[test]
    fn the_predefined_rules_are_those_of_the_specification() {
        let alice = "@alice:example.org";
        let sound = json!({ "set_tweak": "sound", "value": "default" });
        let highlight = json!({ "set_tweak": "highlight" });
        let pair = json!({ "kind": "room_member_count", "is": "2" });
        let expected = json!({
            "override": [
                rule(".m.rule.master", false, json!([]), json!([])),
                rule(".m.rule.suppress_notices", true, json!([matches("content.msgtype", "m.notice")]), json!([])),
                rule(".m.rule.invite_for_me", true, json!([
                    matches("type", "m.room.member"), matches("content.membership", "invite"), matches("state_key", alice),
                ]), json!(["notify", sound])),
                rule(".m.rule.member_event", true, json!([matches("type", "m.room.member")]), json!([])),
                rule(".m.rule.is_user_mention", true, json!([
                    { "kind": "event_property_contains", "key": r"content.m\.mentions.user_ids", "value": alice },
                ]), json!(["notify", sound, highlight])),
                rule(".m.rule.is_room_mention", true, json!([
                    { "kind": "event_property_is", "key": r"content.m\.mentions.room", "value": true },
                    { "kind": "sender_notification_permission", "key": "room" },
                ]), json!(["notify", highlight])),
                rule(".m.rule.tombstone", true, json!([
                    matches("type", "m.room.tombstone"), matches("state_key", ""),
                ]), json!(["notify", highlight])),
                rule(".m.rule.reaction", true, json!([matches("type", "m.reaction")]), json!([])),
                rule(".m.rule.room.server_acl", true, json!([
                    matches("type", "m.room.server_acl"), matches("state_key", ""),
                ]), json!([])),
                rule(".m.rule.suppress_edits", true, json!([
                    { "kind": "event_property_is", "key": r"content.m\.relates_to.rel_type", "value": "m.replace" },
                ]), json!([])),
                rule(".org.matrix.msc3930.rule.poll_response", true, json!([
                    matches("type", "org.matrix.msc3381.poll.response"),
                ]), json!([])),
            ],
            "content": [], "room": [], "sender": [],
            "underride": [
                rule(".m.rule.call", true, json!([matches("type", "m.call.invite")]),
                    json!(["notify", { "set_tweak": "sound", "value": "ring" }])),
                rule(".m.rule.encrypted_room_one_to_one", true, json!([pair, matches("type", "m.room.encrypted")]),
                    json!(["notify", sound])),
                rule(".m.rule.room_one_to_one", true, json!([pair, matches("type", "m.room.message")]),
                    json!(["notify", sound])),
                rule(".m.rule.message", true, json!([matches("type", "m.room.message")]), json!(["notify"])),
                rule(".m.rule.encrypted", true, json!([matches("type", "m.room.encrypted")]), json!(["notify"])),
                poll("start_one_to_one", json!([pair, matches("type", "org.matrix.msc3381.poll.start")]),
                    json!(["notify", sound])),
                poll("start", json!([matches("type", "org.matrix.msc3381.poll.start")]), json!(["notify"])),
                poll("end_one_to_one", json!([pair, matches("type", "org.matrix.msc3381.poll.end")]),
                    json!(["notify", sound])),
                poll("end", json!([matches("type", "org.matrix.msc3381.poll.end")]), json!(["notify"])),
            ],
        });
        let rules = Ruleset::server_default(user_id!("@alice:example.org"));
        assert_eq!(serde_json::to_value(rules).expect("rules are JSON"), expected);
    }

    #[test]
    fn stored_rules_follow_the_defaults_of_the_running_version() {
        let stored: Ruleset = serde_json::from_value(json!({
            "override": [
                { "rule_id": "mine", "actions": ["notify"], "conditions": [] },
                { "rule_id": ".m.rule.master", "default": true, "enabled": true, "actions": ["notify"] },
                { "rule_id": ".m.rule.long_gone", "default": true, "actions": [] },
            ],
        }))
        .expect("stored rules");
        let rules = stored.with_defaults(user_id!("@alice:example.org"));
        let ids: Vec<&str> = rules.of(Kind::Override).iter().map(|rule| rule.rule_id.as_str()).collect();
        assert_eq!(&ids[..3], [".m.rule.master", "mine", ".m.rule.suppress_notices"]);
        assert!(rules.of(Kind::Override)[0].enabled, "what the user changed stays");
        assert!(rules.get(Kind::Override, ".m.rule.long_gone").is_none());
        assert!(rules.get(Kind::Underride, ".m.rule.message").is_some());
    }
}
