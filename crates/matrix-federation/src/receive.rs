//! What other servers tell us: transactions of events and of things that pass.
//!
//! [`transaction`] takes a request apart, [`event`] sees each event into its room, [`gap`] fetches what is missing
//! before it, [`later`] tries that again, [`passing`] handles what is no event, with [`devices`] and [`presence`].
//! Events of one room come in order, rooms beside each other.

mod devices;
mod event;
mod gap;
mod later;
mod passing;
mod presence;
mod transaction;

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use ruma_common::{OwnedRoomId, RoomId};

pub(crate) use devices::Resyncs;
pub(crate) use gap::FetchError;
pub(crate) use later::Later;
pub(crate) use transaction::{Transactions, put_transaction};

/// Rooms whose gates are remembered before those that nobody uses are thrown out.
const GATES_KEPT: usize = 4_096;

/// Lets those who bring events into a room pass one by one.
#[derive(Default)]
pub(crate) struct Gates(Mutex<HashMap<OwnedRoomId, Arc<tokio::sync::Mutex<()>>>>);

impl Gates {
    /// Waits for one's turn. Who waits first goes first.
    pub(crate) async fn pass(&self, room: &RoomId) -> tokio::sync::OwnedMutexGuard<()> {
        let gate = {
            let mut gates = self.0.lock();
            if gates.len() > GATES_KEPT {
                gates.retain(|_, gate| Arc::strong_count(gate) > 1);
            }
            gates.entry(room.to_owned()).or_default().clone()
        };
        gate.lock_owned().await
    }
}
