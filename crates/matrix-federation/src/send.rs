//! What happens here, told to the servers that it concerns.
//!
//! One reader follows the shard's log and puts each event's place into the queues of the servers in its room; each
//! server has a task while its queue is not empty. Durable are the place up to which the log was read, and for each
//! server that lags behind, the place from which it lags; both are written together, now and then. After a crash the
//! part of the log in between is read again: a server may be told something twice, with the same content, and never
//! not at all.
//!
//! A server that is away for so long that its queue overflows is told the newest events of each room instead when it is
//! back; what is between, it asks for. [SS-API §transactions]
//!
//! Of our people's devices it is told what changed, in the same way (`lists.rs`); of presence, typing and receipts what is
//! new while it is there. Messages to its devices wait in a queue that the accounts keep, until it has them all.

mod destination;
mod follow;
mod lists;
mod presence;
mod tables;
mod teller;

use std::{collections::HashMap, sync::Arc};

use koine_room::Room;
use parking_lot::Mutex;
use ruma_common::{OwnedServerName, ServerName, UserId};
use serde_json::{Value, json};

use crate::Federation;

use destination::Destination;
pub(crate) use follow::start;

/// Events waiting for one server, beyond which it catches up from the newest of each room.
pub const QUEUE_MAX: usize = 1_000;
/// Ephemeral units waiting for one server; of more, the newest.
pub const UNITS_WAITING_MAX: usize = 300;

/// The queues.
#[derive(Default)]
pub(crate) struct Outbox(Mutex<HashMap<OwnedServerName, Arc<Destination>>>);

impl Outbox {
    fn destination(&self, server: &ServerName) -> Arc<Destination> {
        let mut all = self.0.lock();
        match all.get(server) {
            Some(known) => known.clone(),
            None => all.entry(server.to_owned()).or_insert_with(|| Arc::new(Destination::new(server))).clone(),
        }
    }

    fn known(&self) -> Vec<Arc<Destination>> {
        self.0.lock().values().cloned().collect()
    }

    /// Whoever waits for the server to come back need not wait any longer.
    pub(crate) fn heard_from(&self, server: &ServerName) {
        if let Some(destination) = self.0.lock().get(server) {
            destination.wake();
        }
    }
}

impl Federation {
    /// Tells the servers in a room that somebody of ours types. [SS-API §typing-notifications]
    pub(crate) fn tell_typing(&self, user: &UserId, room: &Room, typing: bool) {
        let content = json!({ "room_id": room.id(), "user_id": user, "typing": typing });
        let key = format!("m.typing {} {user}", room.id());
        self.tell_passing(room, Some(&key), &json!({ "edu_type": "m.typing", "content": content }));
    }

    /// Queues an ephemeral unit for the servers in a room. Of two with the same `key` the newer one is enough.
    fn tell_passing(&self, room: &Room, key: Option<&str>, unit: &Value) {
        let servers = match room.servers() {
            Ok(servers) => servers,
            Err(error) => {
                tracing::error!(room_id = %room.id(), reason = %error, "the servers of a room cannot be read");
                return;
            }
        };
        for server in servers.iter().filter(|server| *server != self.server_name()) {
            self.outbox().destination(server).add_unit(self, key.map(ToOwned::to_owned), unit);
        }
    }
}
