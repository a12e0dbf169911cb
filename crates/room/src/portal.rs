//! Rooms that mirror rooms of another network: nobody of ours comes into one without having come into the other. The protocol
//! that reaches that network implements [`Portals`]; rooms ask it without knowing which protocol that is.

use std::sync::Arc;

use ruma_common::{OwnedRoomId, RoomAliasId, RoomId, UserId};

use crate::{elsewhere::Answer, error::CommandError, registry::Rooms};

/// Rooms of another network.
pub trait Portals: Send + Sync + 'static {
    /// Brings an account into the room of another network that an alias of ours stands for: the room that mirrors it, made if
    /// need be, which the account may join then. `None`: the alias stands for no such room.
    fn open<'a>(&'a self, user: &'a UserId, alias: &'a RoomAliasId) -> Answer<'a, Option<OwnedRoomId>>;

    /// Before somebody joins a room: the same, where the room mirrors another. Nothing for all other rooms and people.
    fn admit<'a>(&'a self, user: &'a UserId, room: &'a RoomId) -> Answer<'a, ()>;
}

impl Rooms {
    /// Says who reaches rooms of another network. Once; before that, there are none.
    pub fn set_portals(&self, portals: Arc<dyn Portals>) {
        // A second one would be a mistake in wiring the program: the first stays.
        let _ = self.portals.set(portals);
    }

    /// The room that mirrors what an alias of ours stands for in another network, with the account let in there.
    ///
    /// # Errors
    /// What that room answers, in words: `Forbidden`, `Banned`; `NotReachable`.
    pub async fn open_portal(&self, user: &UserId, alias: &RoomAliasId) -> Result<Option<OwnedRoomId>, CommandError> {
        match self.portals.get() {
            Some(portals) if alias.server_name() == self.server_name() => portals.open(user, alias).await,
            _ => Ok(None),
        }
    }

    pub(crate) async fn admit(&self, user: &UserId, room: &RoomId) -> Result<(), CommandError> {
        match self.portals.get() {
            Some(portals) => portals.admit(user, room).await,
            None => Ok(()),
        }
    }
}
