//! What somebody learns of a room before they are in it. [CS-API §stripped-state]

use std::sync::Arc;

use koine_store::Direction;
use ruma_common::UserId;
use serde_json::value::RawValue;

use crate::{
    error::ReadError,
    room::{Placed, Room},
    state::Root,
    tables::{MembershipRecord, SHOWN as TOLD},
};

/// Types of the state shown to the invited and the knocking, with an empty state key.
const SHOWN: [&str; 7] = [
    "m.room.create",
    "m.room.join_rules",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.canonical_alias",
    "m.room.encryption",
];

impl Room {
    /// The events of `state` that are shown to the invited and the knocking, without memberships.
    pub fn shown_state(&self, state: Root) -> Result<Vec<Arc<Placed>>, ReadError> {
        let events = SHOWN.iter().map(|kind| self.state_event(state, kind, ""));
        events.filter_map(Result::transpose).collect()
    }

    /// The state shown to `user`, who was invited or knocks: as it was when that happened, with the membership events
    /// of both sides. Empty where the event is not here.
    pub fn shown_to(&self, user: &UserId, membership: &MembershipRecord) -> Result<Vec<Box<RawValue>>, ReadError> {
        let key = (self.no(), user.as_str());
        let own = self.core.timeline(self.no(), membership.order - 1, membership.order, 1, Direction::Forward)?.pop();
        let Some(own) = own else { return Ok(Vec::new()) };
        if own.state_after.is_empty() {
            // Nobody of ours is in the room: what is known of it is what the inviting server told.
            let told = self.core.shard.get(&TOLD, self.core.domain(), &key)?.unwrap_or_else(|| "[]".to_owned());
            let mut shown: Vec<Box<RawValue>> = serde_json::from_str(&told)
                .map_err(|error| ReadError::Damaged(format!("what was told of {}: {error}", self.id())))?;
            shown.push(own.event.stripped_json());
            return Ok(shown);
        }
        let mut shown = self.shown_state(own.state_after)?;
        if own.event.sender() != user {
            shown.extend(self.state_event(own.state_after, "m.room.member", own.event.sender().as_str())?);
        }
        shown.push(own);
        Ok(shown.iter().map(|placed| placed.event.shown_json(self.rules())).collect())
    }
}
