//! Who must be told: push rules, and what they say about an event.
//!
//! Specified in [CS-API §push-notifications]. The rules of a person are account data, `m.push_rules`, so that every change
//! reaches their devices as account data do; whoever has never changed a rule has none stored and gets the server's.
//!
//! **Is:** keeping and changing rules ([`PushRules`], [`Ruleset`]), deciding what an event means for a reader
//! ([`Matcher`]; for unread counts, [`koine_room::UnreadRules`] is implemented here).
//! **Is not:** pushers and push gateways; account data as such; counting, which is the room's.
//!
//! Costs: a verdict by the default rules takes some microseconds, nearly all of them for finding the outer properties of
//! the content; people who have the default rules share one compiled set. Limits: 1,000 rules and 256 KiB a person.

mod edit;
mod event;
mod glob;
mod matcher;
mod rules;
mod ruleset;
mod unread;

pub use edit::{
    EditError, NewRule, PARTS_MAX, PATTERN_LENGTH_MAX, Position, RULE_BYTES_MAX, RULE_ID_LENGTH_MAX, RULES_MAX,
    RULESET_BYTES_MAX,
};
pub use event::{CONTENT_FIELDS_MAX, EventView};
pub use glob::STEPS_MAX;
pub use matcher::{Decision, Matcher, Surroundings};
pub use rules::{ChangeError, PUSH_RULES, PushRules, RULES_REMEMBERED_MAX};
pub use ruleset::{Kind, MASTER, Rule, Ruleset, UnknownKind};
