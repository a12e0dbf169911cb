//! Events that cannot be judged since what comes before them cannot be had, as when the network loses the answers: tried
//! again later, a few times. Whoever sent one has done its part; the next event from there would bring us on the same
//! way, but there is none where this one says that our people are out of the room.
//!
//! What waits is in memory alone: after a restart, the next event of the room has to do.

use std::{collections::HashSet, sync::Arc, time::Duration};

use koine_graph::Event;
use koine_room::Room;
use parking_lot::Mutex;
use ruma_common::{OwnedEventId, ServerName};

use super::event::Taken;
use crate::Federation;

/// Waits before each further attempt.
const WAITS: [Duration; 4] =
    [Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600), Duration::from_secs(3_600)];
/// Events that may wait, of all rooms together; of more, none is remembered.
pub const WAITING_MAX: usize = 1_000;

/// The events that wait.
#[derive(Default)]
pub(crate) struct Later(Mutex<HashSet<OwnedEventId>>);

impl Later {
    fn add(&self, id: &OwnedEventId) -> bool {
        let mut waiting = self.0.lock();
        waiting.len() < WAITING_MAX && waiting.insert(id.clone())
    }
}

impl Federation {
    /// Takes an event again, later, until it is judged or that has been tried often enough.
    pub(super) fn take_later(&self, origin: &ServerName, room: &Arc<Room>, event: Event) {
        let id = event.event_id().to_owned();
        if !self.later().add(&id) {
            return;
        }
        let (weak, origin, room) = (self.downgrade(), origin.to_owned(), room.clone());
        tokio::spawn(async move {
            for wait in WAITS {
                tokio::time::sleep(wait).await;
                let Some(federation) = weak.upgrade() else { return };
                let gate = federation.gates().pass(room.id()).await;
                let taken = federation.take_event(&origin, &room, event.clone()).await;
                drop(gate);
                if !matches!(taken, Ok(Taken::Waits)) {
                    break;
                }
            }
            if let Some(federation) = weak.upgrade() {
                federation.later().0.lock().remove(&id);
            }
        });
    }
}
