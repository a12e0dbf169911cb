//! What the rules of [CS-API §predefined-rules], and rules of users, say about events.

use ruma_common::{event_id, room_id, user_id};
use serde_json::json;

use super::*;
use crate::edit::{NewRule, Position};

struct Room {
    members: u64,
    name: Option<&'static str>,
    /// Whether the sender may address everybody.
    may_notify: bool,
}

impl Surroundings for Room {
    fn member_count(&self) -> u64 {
        self.members
    }

    fn display_name(&self) -> Option<&str> {
        self.name
    }

    fn sender_may_notify(&self, key: &str) -> bool {
        key == "room" && self.may_notify
    }
}

const GROUP: Room = Room { members: 10, name: Some("Alice *"), may_notify: false };
const PAIR: Room = Room { members: 2, ..GROUP };
const GROUP_OF_ADMIN: Room = Room { may_notify: true, ..GROUP };

fn alice() -> &'static UserId {
    user_id!("@alice:example.org")
}

fn defaults() -> Ruleset {
    Ruleset::server_default(alice())
}

/// What Alice's rules say about an event of Bob's: `-`, `notify`, or `highlight`, and the sound.
fn said(rules: &Ruleset, room: &Room, event: &Value) -> String {
    let content = serde_json::value::to_raw_value(&event["content"]).expect("JSON");
    let kind = event["type"].as_str().expect("a type");
    let sender = UserId::parse(event["sender"].as_str().unwrap_or("@bob:example.org")).expect("a sender");
    let (id, room_id) = (event_id!("$1:example.org"), room_id!("!room:example.org"));
    let view = EventView::new(id, room_id, &sender, kind, event["state_key"].as_str(), &content);
    let matcher = Matcher::new(rules, alice());
    let decision = matcher.decide(alice(), &view, room);
    let sound = decision.actions.iter().find(|action| action["set_tweak"] == "sound");
    let sound = sound.map(|action| format!(" {}", action["value"].as_str().expect("a sound")));
    let word = match (decision.notify, decision.highlight) {
        (true, true) => "highlight",
        (true, false) => "notify",
        _ => "-",
    };
    format!("{word}{}", sound.unwrap_or_default())
}

fn message(content: &Value) -> Value {
    json!({ "type": "m.room.message", "content": content })
}

fn text(body: &str) -> Value {
    message(&json!({ "msgtype": "m.text", "body": body }))
}

#[test]
fn the_default_rules_say_what_the_specification_says() {
    let state = |kind: &str, state_key: &str, content: Value| json!({ "type": kind, "state_key": state_key, "content": content });
    let mentioning = |mentions: Value| message(&json!({ "msgtype": "m.text", "body": "x", "m.mentions": mentions }));
    let edit = json!({ "rel_type": "m.replace", "event_id": "$0" });
    let invite = json!({ "membership": "invite" });
    let mut own = text("hello");
    own["sender"] = json!("@alice:example.org");
    for (event, room, expected) in [
        (text("hello"), &GROUP, "notify"),
        (text("hello"), &PAIR, "notify default"),
        (own, &GROUP, "-"),
        (message(&json!({ "msgtype": "m.notice", "body": "beep" })), &PAIR, "-"),
        (mentioning(json!({ "user_ids": ["@alice:example.org"] })), &GROUP, "highlight default"),
        (mentioning(json!({ "user_ids": ["@carol:example.org", "@alice:example.org"] })), &GROUP, "highlight default"),
        (mentioning(json!({ "user_ids": ["@carol:example.org"] })), &GROUP, "notify"),
        (mentioning(json!({ "user_ids": "@alice:example.org" })), &GROUP, "notify"),
        (mentioning(json!({ "room": true })), &GROUP_OF_ADMIN, "highlight"),
        (mentioning(json!({ "room": true })), &GROUP, "notify"),
        (mentioning(json!({ "room": "true" })), &GROUP_OF_ADMIN, "notify"),
        (text("hello Alice * and @room"), &GROUP_OF_ADMIN, "notify"),
        (message(&json!({ "msgtype": "m.text", "body": "* x", "m.relates_to": edit })), &PAIR, "-"),
        (json!({ "type": "m.reaction", "content": { "m.relates_to": { "key": "x" } } }), &PAIR, "-"),
        (json!({ "type": "m.room.encrypted", "content": { "ciphertext": "AAAA" } }), &GROUP, "notify"),
        (json!({ "type": "m.room.encrypted", "content": { "ciphertext": "AAAA" } }), &PAIR, "notify default"),
        (json!({ "type": "m.call.invite", "content": {} }), &PAIR, "notify ring"),
        (json!({ "type": "org.example.other", "content": {} }), &PAIR, "-"),
        (state("m.room.member", "@alice:example.org", invite.clone()), &PAIR, "notify default"),
        (state("m.room.member", "@carol:example.org", invite), &PAIR, "-"),
        (state("m.room.member", "@bob:example.org", json!({ "membership": "join" })), &PAIR, "-"),
        (state("m.room.tombstone", "", json!({ "replacement_room": "!n:example.org" })), &GROUP, "highlight"),
        (json!({ "type": "m.room.tombstone", "content": {} }), &GROUP, "-"),
        (state("m.room.server_acl", "", json!({})), &GROUP, "-"),
        (state("m.room.topic", "", json!({ "topic": "x" })), &GROUP, "-"),
    ] {
        assert_eq!(said(&defaults(), room, &event), expected, "{event} among {}", room.members);
    }
}

#[test]
fn the_master_switch_silences_everything_but_the_rules_above_it() {
    let mut rules = defaults();
    rules.set_enabled(Kind::Override, ".m.rule.master", true).expect("there");
    assert_eq!(said(&rules, &PAIR, &text("hello")), "-");
    let mention = message(&json!({ "body": "x", "m.mentions": { "user_ids": ["@alice:example.org"] } }));
    assert_eq!(said(&rules, &PAIR, &mention), "-");
}

#[expect(clippy::needless_pass_by_value, reason = "the cases below read better without references")]
fn add(rules: &mut Ruleset, kind: Kind, id: &str, actions: Value, conditions: Value, pattern: Option<&str>) {
    let rule = NewRule {
        kind,
        rule_id: id.to_owned(),
        actions: actions.as_array().expect("actions").clone(),
        conditions: conditions.as_array().cloned(),
        pattern: pattern.map(str::to_owned),
    };
    rules.put(rule, Position::default()).expect("the rule is accepted");
}

#[test]
fn kinds_are_looked_at_in_their_order() {
    let mut rules = defaults();
    let (cake, highlight) = (text("there is cake"), json!(["notify", { "set_tweak": "highlight" }]));
    add(&mut rules, Kind::Underride, "u", json!([]), json!([]), None);
    assert_eq!(said(&rules, &PAIR, &cake), "-", "underride: above the server's rules of its kind");
    add(&mut rules, Kind::Sender, "@bob:example.org", json!(["notify"]), Value::Null, None);
    assert_eq!(said(&rules, &PAIR, &cake), "notify", "sender");
    add(&mut rules, Kind::Room, "!room:example.org", json!(["dont_notify"]), Value::Null, None);
    assert_eq!(said(&rules, &PAIR, &cake), "-", "room");
    add(&mut rules, Kind::Content, "c", highlight, Value::Null, Some("cake"));
    assert_eq!(said(&rules, &PAIR, &cake), "highlight", "content");
    add(&mut rules, Kind::Override, "o", json!([]), json!([]), None);
    assert_eq!(said(&rules, &PAIR, &cake), "-", "override");
    rules.set_enabled(Kind::Override, "o", false).expect("there");
    assert_eq!(said(&rules, &PAIR, &cake), "highlight", "a disabled rule never matches");
    assert_eq!(said(&rules, &PAIR, &text("no sweets")), "-", "the room rule is next");
}

#[test]
fn the_most_important_of_two_matching_rules_counts() {
    let mut rules = defaults();
    add(&mut rules, Kind::Content, "time", json!([]), Value::Null, Some("time"));
    add(
        &mut rules,
        Kind::Content,
        "tea",
        json!(["notify", { "set_tweak": "sound", "value": "kettle" }]),
        Value::Null,
        Some("tea"),
    );
    assert_eq!(said(&rules, &GROUP, &text("It's time for tea")), "notify kettle");
}

#[test]
fn conditions_mean_what_the_specification_says() {
    let event = message(&json!({
        "msgtype": "m.text", "body": "Lunch plans for Alice *", "n": 7, "nothing": null, "flag": true, "list": ["a", 1, null, [2]],
    }));
    for (condition, expected) in [
        (json!({ "kind": "event_match", "key": "type", "pattern": "m.room.*" }), true),
        (json!({ "kind": "event_match", "key": "content.body", "pattern": "plans" }), true),
        (json!({ "kind": "event_match", "key": "content.body", "pattern": "plan" }), false),
        (json!({ "kind": "event_match", "key": "content.n", "pattern": "*" }), false),
        (json!({ "kind": "event_match", "key": "content.absent", "pattern": "*" }), false),
        (json!({ "kind": "event_match", "key": "state_key", "pattern": "*" }), false),
        (json!({ "kind": "event_match", "key": "room_id", "pattern": "!room:example.org" }), true),
        (json!({ "kind": "event_property_is", "key": "content.n", "value": 7 }), true),
        (json!({ "kind": "event_property_is", "key": "content.n", "value": "7" }), false),
        (json!({ "kind": "event_property_is", "key": "content.flag", "value": true }), true),
        (json!({ "kind": "event_property_is", "key": "content.flag", "value": 1 }), false),
        (json!({ "kind": "event_property_is", "key": "content.nothing", "value": null }), true),
        (json!({ "kind": "event_property_is", "key": "content.absent", "value": null }), false),
        (json!({ "kind": "event_property_is", "key": "content.msgtype", "value": "m.TEXT" }), false),
        (json!({ "kind": "event_property_contains", "key": "content.list", "value": "a" }), true),
        (json!({ "kind": "event_property_contains", "key": "content.list", "value": 1 }), true),
        (json!({ "kind": "event_property_contains", "key": "content.list", "value": null }), true),
        (json!({ "kind": "event_property_contains", "key": "content.list", "value": 2 }), false),
        (json!({ "kind": "event_property_contains", "key": "content.body", "value": "a" }), false),
        (json!({ "kind": "contains_display_name" }), true),
        (json!({ "kind": "room_member_count", "is": "10" }), true),
        (json!({ "kind": "room_member_count", "is": "==10" }), true),
        (json!({ "kind": "room_member_count", "is": "<10" }), false),
        (json!({ "kind": "room_member_count", "is": "<=10" }), true),
        (json!({ "kind": "room_member_count", "is": ">9" }), true),
        (json!({ "kind": "room_member_count", "is": ">=11" }), false),
        (json!({ "kind": "room_member_count", "is": "+10" }), false),
        (json!({ "kind": "room_member_count", "is": "many" }), false),
        (json!({ "kind": "sender_notification_permission", "key": "room" }), false),
        (json!({ "kind": "org.example.moon_phase", "is": "full" }), false),
    ] {
        let mut rules = Ruleset::default();
        add(&mut rules, Kind::Override, "rule", json!(["notify"]), json!([condition.clone()]), None);
        let wanted = if expected { "notify" } else { "-" };
        assert_eq!(said(&rules, &GROUP, &event), wanted, "{condition}");
    }
}

#[test]
fn all_conditions_of_a_rule_must_hold() {
    let mut rules = Ruleset::default();
    let both = json!([
        { "kind": "event_match", "key": "content.body", "pattern": "beer" },
        { "kind": "room_member_count", "is": "<=5" },
    ]);
    add(&mut rules, Kind::Override, "beer", json!(["notify"]), both, None);
    assert_eq!(said(&rules, &PAIR, &text("beer?")), "notify");
    assert_eq!(said(&rules, &GROUP, &text("beer?")), "-");
    assert_eq!(said(&rules, &PAIR, &text("wine?")), "-");
}

#[test]
fn a_highlight_may_be_taken_back_and_needs_a_notification() {
    for (actions, expected) in [
        (json!(["notify", { "set_tweak": "highlight" }]), "highlight"),
        (json!(["notify", { "set_tweak": "highlight", "value": true }]), "highlight"),
        (json!(["notify", { "set_tweak": "highlight", "value": false }]), "notify"),
        (json!([{ "set_tweak": "highlight" }]), "-"),
        (json!(["coalesce"]), "-"),
        (json!([]), "-"),
    ] {
        let mut rules = Ruleset::default();
        add(&mut rules, Kind::Override, "rule", actions.clone(), json!([]), None);
        assert_eq!(said(&rules, &GROUP, &text("x")), expected, "{actions}");
    }
}

#[test]
fn everybody_with_the_default_rules_has_the_same_matcher() {
    let bob = user_id!("@bob:example.org");
    let of_alice = Matcher::new(&defaults(), alice());
    let of_bob = Matcher::new(&Ruleset::server_default(bob), bob);
    assert_eq!(of_alice.rules, of_bob.rules);
}
