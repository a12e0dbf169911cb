//! What tells that a commit of a room came to nothing.

use std::sync::Arc;

use crate::room::Room;

/// Travels with a commit. If it is dropped before the commit is durable (the disk is full, the queue is), the writer's
/// head is ahead of what will ever be: the room is broken, what was queued behind refuses itself, and the registry
/// loads the room anew.
pub(crate) struct Unsettled(Option<Arc<Room>>);

impl Unsettled {
    pub(crate) fn new(room: &Arc<Room>) -> Self {
        Self(Some(room.clone()))
    }

    pub(crate) fn settle(mut self) {
        self.0 = None;
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if let Some(room) = &self.0 {
            room.break_off();
        }
    }
}
