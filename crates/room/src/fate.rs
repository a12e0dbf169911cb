//! What became of an event: for those who look into the server rather than into the room.

use koine_graph::Event;
use ruma_common::EventId;

use crate::{error::ReadError, room::Room, state::Root, tables::Aside};

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in the room's history. With the state after it.
    Accepted(Root),
    /// Its own branch allows it, the state of the room at its arrival did not: kept, and not shown. With the state after
    /// it. [SS-API §soft-failure]
    SoftFailed(Root),
    /// It came as part of a state, or allows an event that did; or as an invitation, while nobody of ours was there.
    Outlier,
    /// The rules forbid it.
    Rejected,
}

impl Room {
    /// What became of an event. `None`: it is not known here, or of another room.
    pub fn fate(&self, id: &EventId) -> Result<Option<Fate>, ReadError> {
        if let Some(placed) = self.event(id)? {
            let is_placed = !placed.is_outlier() && !placed.state_after.is_empty();
            return Ok(Some(if is_placed { Fate::Accepted(placed.state_after) } else { Fate::Outlier }));
        }
        let Some(record) = self.core.aside(id)?.filter(|record| record.room == self.no()) else { return Ok(None) };
        Ok(Some(match (record.why, self.state_after_event(id)?) {
            (Aside::Outlier, _) => Fate::Outlier,
            (Aside::SoftFailed, Some(after)) => Fate::SoftFailed(after),
            (Aside::SoftFailed | Aside::Rejected, _) => Fate::Rejected,
        }))
    }
    /// An event of this room whatever became of it.
    pub fn known_event(&self, id: &EventId) -> Result<Option<Event>, ReadError> {
        self.known(id)
    }
}
