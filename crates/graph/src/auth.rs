//! Whether a room allows an event: the authorization rules, for every room version.
//! [SS-API §authorization-rules] [RV1 §authorization-rules] ... [RV12 §authorization-rules]
//!
//! The functions here are the lists of the specification in its order and words; what differs between versions asks a
//! named switch of the rules table. A verdict comes with its reason, one [`Refusal`] per rule. Signatures, also the
//! one that a restricted join needs of the vouching server, are checked before, by [`crate::signatures`].

use ruma_common::{UserId, room_version_rules::RoomVersionRules};

use crate::{
    event::{Event, Membership},
    power_levels::PowerLevels,
};

mod create;
mod member;
mod power_levels;
mod refusal;
mod selection;
mod third_party;

pub use refusal::Refusal;
pub use selection::{check_auth_events, needed};
pub use third_party::{PUBLIC_KEYS_MAX, SIGNATURES_MAX};

/// A state of a room, as far as rules ask for it.
pub trait AuthState {
    /// Why the state could not be read.
    type Error;

    /// The state event of this type and state key.
    fn get(&self, kind: &str, state_key: &str) -> Result<Option<Event>, Self::Error>;
}

/// What an event is not let in for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError<E> {
    /// The rules forbid it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The state could not be read, so there is no verdict.
    #[error("the state could not be read")]
    State(E),
}

impl<E> CheckError<E> {
    /// The refusal, or else the error of the state.
    pub fn into_refusal(self) -> Result<Refusal, E> {
        match self {
            Self::Refused(refusal) => Ok(refusal),
            Self::State(error) => Err(error),
        }
    }
}

type Verdict<S> = Result<(), CheckError<<S as AuthState>::Error>>;

/// Checks `event` against a state: the one before it, or for resolution the one that is being built.
///
/// Whether the event's own `auth_events` are sound is a separate question: [`check_auth_events`].
pub fn check<S: AuthState + ?Sized>(rules: &RoomVersionRules, event: &Event, state: &S) -> Verdict<S> {
    // 1. If type is m.room.create:
    if event.kind() == "m.room.create" {
        return Ok(create::check(rules, event)?);
    }
    let room = Room::look(rules, state)?;
    let sender = event.sender();

    // [RV12] 2. If the event's room_id is not an event ID for an accepted m.room.create event, with the sigil ! instead
    //    of $, reject.
    if rules.authorization.room_create_event_id_as_room_id
        && room.create.event_id().as_str().strip_prefix('$') != event.room_id().as_str().strip_prefix('!')
    {
        return Err(Refusal::RoomNotOfCreate.into());
    }

    // (Considering the event's auth_events: see `check_auth_events`.)

    // 3. If the content of the m.room.create event in the room state has the property m.federate set to false, and the
    //    sender domain of the event does not match the sender domain of the create event, reject.
    let creator_server = room.create.sender().server_name();
    if sender.server_name() != creator_server && room.create.content_field::<bool>("m.federate") == Some(false) {
        return Err(Refusal::NotFederated { home: creator_server.to_owned() }.into());
    }

    // [RV1..5] 4. If type is m.room.aliases:
    if rules.authorization.special_case_room_aliases && event.kind() == "m.room.aliases" {
        // 1. If event has no state_key, reject.
        let state_key = event.state_key().ok_or(Refusal::AliasesWithoutStateKey)?;
        // 2. If sender's domain doesn't match state_key, reject.
        if sender.server_name().as_str() != state_key {
            return Err(Refusal::AliasesOfOtherServer.into());
        }
        // 3. Otherwise, allow.
        return Ok(());
    }

    // 5. If type is m.room.member:
    if event.kind() == "m.room.member" {
        return member::check(&room, event);
    }

    // 6. If the sender's current membership state is not join, reject.
    if room.membership(sender)? != Some(Membership::Join) {
        return Err(Refusal::SenderNotJoined.into());
    }
    let levels = room.power_levels()?;
    let sender_level = levels.user_level(sender);

    // 7. If type is m.room.third_party_invite:
    if event.kind() == "m.room.third_party_invite" {
        // 1. Allow if and only if sender's current power level is greater than or equal to the invite level.
        let needed = levels.invite();
        if !sender_level.reaches(needed) {
            return Err(Refusal::InviteLevel { needed, has: sender_level }.into());
        }
        return Ok(());
    }

    // 8. If the event type's required power level is greater than the sender's power level, reject.
    let needed = levels.level_for_event(event.kind(), event.is_state());
    if !sender_level.reaches(needed) {
        return Err(Refusal::EventLevel { kind: event.kind().to_owned(), needed, has: sender_level }.into());
    }

    // 9. If the event has a state_key that starts with an @ and does not match the sender, reject.
    if let Some(state_key) = event.state_key()
        && state_key.starts_with('@')
        && state_key != sender.as_str()
    {
        return Err(Refusal::StateOfOtherUser.into());
    }

    // 10. If type is m.room.power_levels:
    if event.kind() == "m.room.power_levels" {
        return power_levels::check(&room, event, sender_level);
    }

    // [RV1..2] 11. If type is m.room.redaction:
    if rules.authorization.special_case_room_redaction && event.kind() == "m.room.redaction" {
        // 1. If the sender's power level is greater than or equal to the redact level, allow.
        let needed = levels.redact();
        // 2. If the domain of the event_id of the event being redacted is the same as the domain of the event_id of the
        //    m.room.redaction, allow.
        let redacts = event.redacts(rules);
        let same_server = redacts.is_some_and(|redacts| {
            redacts.server_name().is_some() && redacts.server_name() == event.event_id().server_name()
        });
        // 3. Otherwise, reject.
        if !sender_level.reaches(needed) && !same_server {
            return Err(Refusal::RedactLevel { needed, has: sender_level }.into());
        }
    }

    // 12. Otherwise, allow.
    Ok(())
}

/// [RV3 §handling-redactions] Whether a redaction that the rules let in is applied to `target`: a question that
/// versions from 3 on ask when both are there, and versions 1 and 2 answer by the rules alone.
pub fn may_redact(rules: &RoomVersionRules, levels: &PowerLevels, redaction: &Event, target: &Event) -> bool {
    if rules.authorization.special_case_room_redaction {
        return true;
    }
    levels.user_level(redaction.sender()).reaches(levels.redact())
        || redaction.sender().server_name() == target.sender().server_name()
}

/// The state, with what nearly every rule needs read once.
struct Room<'a, S: AuthState + ?Sized> {
    rules: &'a RoomVersionRules,
    state: &'a S,
    create: Event,
}

impl<'a, S: AuthState + ?Sized> Room<'a, S> {
    fn look(rules: &'a RoomVersionRules, state: &'a S) -> Result<Self, CheckError<S::Error>> {
        let create = state.get("m.room.create", "").map_err(CheckError::State)?;
        Ok(Self { rules, state, create: create.ok_or(Refusal::NoCreateEvent)? })
    }

    fn get(&self, kind: &str, state_key: &str) -> Result<Option<Event>, CheckError<S::Error>> {
        self.state.get(kind, state_key).map_err(CheckError::State)
    }

    /// `None` for somebody who never was in the room.
    fn membership(&self, user: &UserId) -> Result<Option<Membership>, CheckError<S::Error>> {
        Ok(self.get("m.room.member", user.as_str())?.and_then(|event| event.membership()))
    }

    fn power_levels(&self) -> Result<PowerLevels, CheckError<S::Error>> {
        let event = self.get("m.room.power_levels", "")?;
        Ok(PowerLevels::new(&self.rules.authorization, Some(&self.create), event.as_ref()))
    }

    /// The word of the join rules; rooms without have `invite`. [CS-API §mroomjoin_rules]
    fn join_rule(&self) -> Result<String, CheckError<S::Error>> {
        Ok(match self.get("m.room.join_rules", "")? {
            Some(event) => event.content_field("join_rule").unwrap_or_default(),
            None => "invite".to_owned(),
        })
    }
}
