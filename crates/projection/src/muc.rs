//! What somebody is in a room: power levels and memberships as affiliations and roles. XEP-0045, section 5.
//!
//! | MUC | Matrix |
//! |---|---|
//! | owner | may send `m.room.power_levels` and `m.room.history_visibility` |
//! | admin | reaches the level to ban |
//! | member | has a [`MEMBER`] event; where one must be asked in: whoever is in or invited |
//! | outcast | banned |
//! | moderator | reaches the level to kick |
//! | participant | reaches the level of `m.room.message` |
//! | visitor | everybody else |
//! | hat [XEP-0317] | a level that is none of those above; read, not given |
//!
//! A level alone does not make a member: voice and moderation are levels too, and are given without membership.
//!
//! # Losses
//!
//! Levels between those of the table are shown as what they reach, and as hats. A role is a level, so it outlasts a visit.

use koine_graph::PowerLevels;
use ruma_common::UserId;
use serde_json::{Map, Value, json};

/// Type of the state event by which a room of ours knows that somebody is on its list of members: state key is the
/// Matrix id, `nick` the reserved nickname if there is one. Empty content: not any more.
pub const MEMBER: &str = "koine.muc.member";
/// Type of the state event with what the form of a room says and Matrix does not.
pub const SETTINGS: &str = "koine.muc";

/// How hats are called that are levels.
const HAT: &str = "urn:x-koine:level:";

/// Long-lived standing. [XEP-0045 §affil]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Affiliation {
    /// Shut out.
    Outcast,
    /// No standing.
    None,
    /// On the list.
    Member,
    /// May ban.
    Admin,
    /// May everything.
    Owner,
}

impl Affiliation {
    /// The word in stanzas.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outcast => "outcast",
            Self::None => "none",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// What the word means.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Outcast, Self::None, Self::Member, Self::Admin, Self::Owner]
            .into_iter()
            .find(|known| known.as_str() == word)
    }
}

/// What an occupant may do. [XEP-0045 §roles]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Not in the room.
    None,
    /// Reads.
    Visitor,
    /// Speaks.
    Participant,
    /// Keeps order.
    Moderator,
}

impl Role {
    /// The word in stanzas.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Visitor => "visitor",
            Self::Participant => "participant",
            Self::Moderator => "moderator",
        }
    }

    /// What the word means.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::None, Self::Visitor, Self::Participant, Self::Moderator].into_iter().find(|known| known.as_str() == word)
    }
}

/// What the room knows of somebody beside their level.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Banned.
    pub banned: bool,
    /// Joined or invited.
    pub inside: bool,
    /// One must be asked in, or be on the list.
    pub members_only: bool,
    /// There is a [`MEMBER`] event.
    pub listed: bool,
}

/// Somebody's affiliation.
pub fn affiliation(levels: &PowerLevels, user: &UserId, known: Known) -> Affiliation {
    let owner = ["m.room.power_levels", "m.room.history_visibility"];
    match () {
        () if known.banned => Affiliation::Outcast,
        () if owner.iter().all(|kind| levels.may_send(user, kind, true)) => Affiliation::Owner,
        () if levels.user_level(user).reaches(levels.ban()) => Affiliation::Admin,
        () if known.listed || (known.members_only && known.inside) => Affiliation::Member,
        () => Affiliation::None,
    }
}

/// The role that somebody has when present.
pub fn role(levels: &PowerLevels, user: &UserId) -> Role {
    match () {
        () if levels.user_level(user).reaches(levels.kick()) => Role::Moderator,
        () if levels.may_send(user, "m.room.message", false) => Role::Participant,
        () => Role::Visitor,
    }
}

/// Levels that roles and affiliations tell apart.
pub fn told_levels(levels: &PowerLevels) -> Vec<i64> {
    let owner = ["m.room.power_levels", "m.room.history_visibility"].map(|kind| levels.level_for_event(kind, true));
    // Whoever made a room stands at the top, whatever is needed for what.
    const TOP: i64 = 100;
    vec![levels.level_for_event("m.room.message", false), levels.kick(), levels.ban(), owner[0].max(owner[1]), TOP]
}

/// How the hat is called that a level is. [XEP-0317]
pub fn hat_uri(level: i64) -> String {
    format!("{HAT}{level}")
}

/// The level that a hat is.
pub fn level_of_hat(uri: &str) -> Option<i64> {
    let level = uri.strip_prefix(HAT)?.parse().ok()?;
    (hat_uri(level) == uri).then_some(level)
}

/// Power levels of a room made from XMPP: the ladder of XEP-0045 (visitor, participant, moderator, admin, owner) as levels.
/// Moderators may give levels below their own, as XEP-0045 lets them give voice. Nobody takes a level that equals their own
/// from somebody else: whoever made the room stands one above the owners they appoint, and can dismiss them.
pub fn levels_of_new_room(creator: Option<&UserId>) -> Map<String, Value> {
    let mut users = Map::new();
    if let Some(creator) = creator {
        users.insert(creator.to_string(), json!(100));
    }
    let levels = json!({
        "users": users,
        "users_default": 0,
        "events_default": 0,
        "state_default": 50,
        "kick": 25,
        "redact": 25,
        "ban": 50,
        "invite": 0,
        "events": {
            "m.room.power_levels": 25,
            "m.room.topic": 25,
            "m.room.name": 99,
            "m.room.avatar": 99,
            "m.room.canonical_alias": 99,
            "m.room.join_rules": 99,
            "m.room.history_visibility": 99,
            "m.room.tombstone": 99,
            "m.room.server_acl": 99,
            "m.room.encryption": 99,
            SETTINGS: 99,
        },
    });
    match levels {
        Value::Object(levels) => levels,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use koine_graph::rules;
    use ruma_common::{RoomVersionId, user_id};

    use super::*;

    #[test]
    fn words_are_understood_again() {
        for word in ["outcast", "none", "member", "admin", "owner"] {
            assert_eq!(Affiliation::parse(word).map(Affiliation::as_str), Some(word));
        }
        for word in ["none", "visitor", "participant", "moderator"] {
            assert_eq!(Role::parse(word).map(Role::as_str), Some(word));
        }
        assert_eq!(Role::parse("owner"), None);
        for level in [-5, 0, 37, i64::MAX] {
            assert_eq!(level_of_hat(&hat_uri(level)), Some(level));
        }
        assert_eq!(level_of_hat("urn:x-koine:level:+7"), None);
    }

    #[test]
    fn without_levels_everybody_speaks_and_nobody_has_a_standing() {
        let rules = rules(&RoomVersionId::V11).expect("version 11 is known");
        let levels = PowerLevels::new(&rules.authorization, None, None);
        let somebody = user_id!("@somebody:example.org");
        assert_eq!(affiliation(&levels, somebody, Known::default()), Affiliation::None);
        assert_eq!(role(&levels, somebody), Role::Participant);
        let banned = Known { banned: true, ..Known::default() };
        assert_eq!(affiliation(&levels, somebody, banned), Affiliation::Outcast);
        let asked_in = Known { inside: true, members_only: true, ..Known::default() };
        assert_eq!(affiliation(&levels, somebody, asked_in), Affiliation::Member);
    }
}
