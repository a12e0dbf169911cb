//! Who may do what: the power levels of a room. [CS-API §mroompower_levels]
//!
//! Two levels of strictness: the auth rules look at what stands in an event and what does not ([`Levels`], within this
//! crate), everybody else asks what it amounts to ([`PowerLevels`]).

use std::{collections::BTreeMap, fmt, sync::Arc};

use ruma_common::{OwnedUserId, UserId, room_version_rules::AuthorizationRules};
use serde_json::value::RawValue;

use crate::{
    event::Event,
    json::{self, Json, Object},
};

/// Level of the creator while there is no power levels event, in versions that give creators a number.
const CREATOR_DEFAULT: i64 = 100;
const USERS_DEFAULT: i64 = 0;
const EVENTS_DEFAULT: i64 = 0;
const STATE_DEFAULT: i64 = 50;
const BAN_DEFAULT: i64 = 50;
const KICK_DEFAULT: i64 = 50;
const REDACT_DEFAULT: i64 = 50;
const INVITE_DEFAULT: i64 = 0;
const NOTIFICATIONS_DEFAULT: i64 = 50;

/// What somebody may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// A number.
    Number(i64),
    /// More than any number: the creators of rooms from version 12 on. [RV12 §authorization-rules]
    Creator,
}

impl Level {
    /// Whether it suffices where `needed` is needed.
    pub fn reaches(self, needed: i64) -> bool {
        self >= Self::Number(needed)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Creator => f.write_str("creator"),
        }
    }
}

/// The power levels of a room at some point. Cheap to make: the event remembers its parsed content.
#[derive(Clone, Debug)]
pub struct PowerLevels {
    levels: Option<Arc<Levels>>,
    creators: Vec<OwnedUserId>,
    creators_infinite: bool,
}

impl PowerLevels {
    /// As the create event and the power levels event of a state have it. What is malformed counts as not said; the
    /// auth rules keep such events out as far as the room version demands.
    pub fn new(rules: &AuthorizationRules, create: Option<&Event>, power_levels: Option<&Event>) -> Self {
        Self {
            levels: power_levels.and_then(|event| event.levels(rules.integer_power_levels).ok()),
            creators: create.map(|create| creators(rules, create)).unwrap_or_default(),
            creators_infinite: rules.explicitly_privilege_room_creators,
        }
    }

    /// The creators of the room: one, or from version 12 on maybe several.
    pub fn creators(&self) -> &[OwnedUserId] {
        &self.creators
    }

    /// What `user` may reach.
    pub fn user_level(&self, user: &UserId) -> Level {
        let is_creator = self.creators.iter().any(|creator| creator == user);
        if is_creator && self.creators_infinite {
            return Level::Creator;
        }
        Level::Number(match &self.levels {
            Some(levels) => levels.users.value(user.as_str()).unwrap_or_else(|| self.users_default()),
            None if is_creator => CREATOR_DEFAULT,
            None => USERS_DEFAULT,
        })
    }

    /// Needed to send events of type `kind`.
    pub fn level_for_event(&self, kind: &str, is_state: bool) -> i64 {
        let own = self.levels.as_ref().and_then(|levels| levels.events.value(kind));
        own.unwrap_or_else(|| if is_state { self.state_default() } else { self.events_default() })
    }

    /// Whether `user` may send events of type `kind`, as far as levels go.
    pub fn may_send(&self, user: &UserId, kind: &str, is_state: bool) -> bool {
        self.user_level(user).reaches(self.level_for_event(kind, is_state))
    }

    /// Of users that are not named.
    pub fn users_default(&self) -> i64 {
        self.number(Field::UsersDefault)
    }

    /// For message events of types that are not named.
    pub fn events_default(&self) -> i64 {
        self.number(Field::EventsDefault)
    }

    /// For state events of types that are not named.
    pub fn state_default(&self) -> i64 {
        self.number(Field::StateDefault)
    }

    /// Needed to ban.
    pub fn ban(&self) -> i64 {
        self.number(Field::Ban)
    }

    /// Needed to kick, and together with `ban` to unban.
    pub fn kick(&self) -> i64 {
        self.number(Field::Kick)
    }

    /// Needed to redact what others sent.
    pub fn redact(&self) -> i64 {
        self.number(Field::Redact)
    }

    /// Needed to invite.
    pub fn invite(&self) -> i64 {
        self.number(Field::Invite)
    }

    /// Needed to notify in this way, like `room`.
    pub fn notifications(&self, key: &str) -> i64 {
        let own = self.levels.as_ref().and_then(|levels| levels.notifications.value(key));
        own.unwrap_or(NOTIFICATIONS_DEFAULT)
    }

    /// The users that are named, with their numbers.
    pub fn users(&self) -> impl Iterator<Item = (&str, i64)> {
        let users = self.levels.iter().flat_map(|levels| levels.users.iter());
        users.filter_map(|(user, level)| level.map(|level| (user, level)))
    }

    fn number(&self, field: Field) -> i64 {
        let own = self.levels.as_ref().and_then(|levels| levels.number(field).value());
        own.unwrap_or_else(|| field.default())
    }
}

/// Who made the room.
pub fn creators(rules: &AuthorizationRules, create: &Event) -> Vec<OwnedUserId> {
    if !rules.use_room_create_sender {
        return create.content_field("creator").into_iter().collect();
    }
    let mut creators = vec![create.sender().to_owned()];
    if rules.additional_room_creators {
        creators.extend(create.content_field::<Vec<OwnedUserId>>("additional_creators").unwrap_or_default());
    }
    creators
}

/// The single numbers of a power levels event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    UsersDefault,
    EventsDefault,
    StateDefault,
    Ban,
    Redact,
    Kick,
    Invite,
}

impl Field {
    /// In the order of the auth rules.
    pub(crate) const ALL: [Self; 7] = [
        Self::UsersDefault,
        Self::EventsDefault,
        Self::StateDefault,
        Self::Ban,
        Self::Redact,
        Self::Kick,
        Self::Invite,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::UsersDefault => "users_default",
            Self::EventsDefault => "events_default",
            Self::StateDefault => "state_default",
            Self::Ban => "ban",
            Self::Redact => "redact",
            Self::Kick => "kick",
            Self::Invite => "invite",
        }
    }

    fn default(self) -> i64 {
        match self {
            Self::UsersDefault => USERS_DEFAULT,
            Self::EventsDefault => EVENTS_DEFAULT,
            Self::StateDefault => STATE_DEFAULT,
            Self::Ban => BAN_DEFAULT,
            Self::Redact => REDACT_DEFAULT,
            Self::Kick => KICK_DEFAULT,
            Self::Invite => INVITE_DEFAULT,
        }
    }
}

/// A number of a power levels event, as it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Not there.
    Nothing,
    /// There, and a number as the room version takes it.
    Number(i64),
    /// There, but something else.
    Malformed,
}

impl Said {
    pub(crate) fn value(self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Nothing | Self::Malformed => None,
        }
    }
}

/// A map of numbers in a power levels event, as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Map {
    /// Not there.
    Nothing,
    /// There, and an object. A malformed value is `None`.
    Entries(BTreeMap<String, Option<i64>>),
    /// There, but something else.
    Malformed,
}

impl Map {
    fn parse(content: &Object<'_>, field: &str, integers_only: bool) -> Self {
        let Some(map) = content.get(field) else { return Self::Nothing };
        let Some(map) = map.as_object() else { return Self::Malformed };
        Self::Entries(map.iter().map(|(key, level)| (key.to_owned(), number(level, integers_only))).collect())
    }

    pub(crate) fn value(&self, key: &str) -> Option<i64> {
        match self {
            Self::Entries(entries) => entries.get(key).copied().flatten(),
            _ => None,
        }
    }

    pub(crate) fn get(&self, key: &str) -> Said {
        match self {
            Self::Entries(entries) => match entries.get(key) {
                Some(Some(number)) => Said::Number(*number),
                Some(None) => Said::Malformed,
                None => Said::Nothing,
            },
            _ => Said::Nothing,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Option<i64>)> {
        let entries = match self {
            Self::Entries(entries) => Some(entries),
            _ => None,
        };
        entries.into_iter().flatten().map(|(key, level)| (key.as_str(), *level))
    }

    /// Whether it is not there, or an object with numbers only.
    pub(crate) fn is_well_formed(&self) -> bool {
        !matches!(self, Self::Malformed) && self.iter().all(|(_, level)| level.is_some())
    }
}

/// The content of a power levels event is no object at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LevelsError;

/// The content of a power levels event, as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    numbers: [Said; 7],
    pub(crate) users: Map,
    pub(crate) events: Map,
    pub(crate) notifications: Map,
}

impl Levels {
    pub(crate) fn parse(content: &RawValue, integers_only: bool) -> Result<Self, LevelsError> {
        let Ok(Json::Object(content)) = json::parse(content.get().as_bytes()) else { return Err(LevelsError) };
        let said = |field: Field| match content.get(field.name()) {
            None => Said::Nothing,
            Some(level) => number(level, integers_only).map_or(Said::Malformed, Said::Number),
        };
        Ok(Self {
            numbers: Field::ALL.map(said),
            users: Map::parse(&content, "users", integers_only),
            events: Map::parse(&content, "events", integers_only),
            notifications: Map::parse(&content, "notifications", integers_only),
        })
    }

    pub(crate) fn number(&self, field: Field) -> Said {
        self.numbers.get(field as usize).copied().unwrap_or(Said::Nothing)
    }
}

/// A level as the room version takes it: integers; before version 10 also strings that say one, and numbers with a
/// fraction, which is cut off. [RV1 §mroompower_levels-events-accept-values-as-strings]
/// [RV1 §mroompower_levels-events-accept-values-as-floats] [RV10 §values-in-mroompower_levels-events-must-be-integers]
fn number(level: &Json<'_>, integers_only: bool) -> Option<i64> {
    match level {
        Json::Integer(integer) => Some(*integer),
        _ if integers_only => None,
        Json::OtherNumber(text) => {
            let float = text.parse::<f64>().ok().filter(|float| float.is_finite())?;
            #[expect(clippy::cast_possible_truncation, reason = "cutting off the fraction is what the rule says")]
            Some(float as i64)
        }
        Json::String(text) => {
            let digits = text.trim();
            let unsigned = digits.strip_prefix(['-', '+']).unwrap_or(digits);
            (!unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| digits.parse().ok())
                .flatten()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_taken_as_the_room_version_wants_them() {
        for (text, strict, lax) in [
            ("50", Some(50), Some(50)),
            ("-7", Some(-7), Some(-7)),
            (r#""50""#, None, Some(50)),
            (r#"" +00100 ""#, None, Some(100)),
            (r#"" -100 ""#, None, Some(-100)),
            (r#""""#, None, None),
            (r#""+""#, None, None),
            (r#""1.5""#, None, None),
            (r#""--1""#, None, None),
            ("50.57", None, Some(50)),
            ("-0.9", None, Some(0)),
            ("5.114698E4", None, Some(51146)),
            ("1e999", None, None),
            ("null", None, None),
            ("true", None, None),
            ("[50]", None, None),
        ] {
            let level = json::parse(text.as_bytes()).expect("valid");
            assert_eq!(number(&level, true), strict, "{text}");
            assert_eq!(number(&level, false), lax, "{text}");
        }
    }

    #[test]
    fn a_creator_is_above_every_number() {
        assert!(Level::Creator > Level::Number(i64::MAX));
        assert!(Level::Creator.reaches(i64::MAX));
        assert!(Level::Number(50).reaches(50) && !Level::Number(50).reaches(51));
    }
}
