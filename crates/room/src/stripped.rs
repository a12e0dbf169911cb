//! What somebody learns of a room before they are in it. [CS-API §stripped-state]

use std::sync::Arc;

use ruma_common::UserId;

use crate::{
    error::ReadError,
    room::{Placed, Room},
    tables::MembershipRecord,
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
    /// The state shown to `user`, who was invited or knocks: as it was when that happened, with the membership events
    /// of both sides. Empty where the event is not here.
    pub fn shown_to(&self, user: &UserId, membership: &MembershipRecord) -> Result<Vec<Arc<Placed>>, ReadError> {
        let Some(own) = self.core.timeline(
            self.no(),
            membership.order - 1,
            membership.order,
            1,
            koine_store::Direction::Forward,
        )?.pop() else {
            return Ok(Vec::new());
        };
        let mut shown = Vec::with_capacity(SHOWN.len() + 2);
        for kind in SHOWN {
            shown.extend(self.state_event(own.state_after, kind, "")?);
        }
        if own.event.sender() != user {
            shown.extend(self.state_event(own.state_after, "m.room.member", own.event.sender().as_str())?);
        }
        shown.push(own);
        Ok(shown)
    }
}
