//! Who must be told: push rules, and what they say about an event.
//!
//! Specified in [CS-API §push-notifications]. The rules of a person are account data, `m.push_rules`, so that every change
//! reaches their devices as account data do; whoever has never changed a rule has none stored and gets the server's.
//!
//! **Is:** keeping and changing rules ([`PushRules`], [`Ruleset`]), deciding what an event means for a reader
//! ([`Matcher`]; for unread counts, [`koine_room::UnreadRules`] is implemented here), pushers and telling push gateways
//! ([`Pushers`], a durable reader of the log).
//! **Is not:** account data as such; counting, which is the room's; e-mail.
//!
//! Costs: a verdict by the default rules takes some microseconds, nearly all of them for finding the outer properties of
//! the content; people who have the default rules share one compiled set. Limits: 1,000 rules and 256 KiB a person.

mod badge;
mod edit;
mod event;
mod follow;
mod gateway;
mod glob;
mod line;
mod matcher;
mod pusher;
mod pushers;
mod recent;
mod rules;
mod ruleset;
mod tables;
mod unread;
mod verdict;

pub use edit::{
    EditError, NewRule, PARTS_MAX, PATTERN_LENGTH_MAX, Position, RULE_BYTES_MAX, RULE_ID_LENGTH_MAX, RULES_MAX,
    RULESET_BYTES_MAX,
};
pub use event::{CONTENT_FIELDS_MAX, EventView};
pub use glob::STEPS_MAX;
pub use matcher::{Decision, Matcher, Surroundings};
pub use pusher::{APP_ID_CHARS_MAX, PUSHERS_MAX, PUSHKEY_BYTES_MAX, Pusher, SetPusherError};
pub use pushers::{PusherCores, Pushers};
pub use recent::{LOOK_MAX, Notification, Notifications};
pub use rules::{ChangeError, PUSH_RULES, PushRules, RULES_REMEMBERED_MAX};
pub use ruleset::{Kind, MASTER, Rule, Ruleset, UnknownKind};
pub use tables::ALL as TABLES;
pub use verdict::Wanted;
