//! What the rooms need of people: how they are called there, and how they are reached outside.

use std::sync::Arc;

use koine_room::{Profile, Room};
use koine_stanza::{BareJid, Condition, Element, Jid, StanzaError};
use ruma_common::{EventId, UserId};

use super::name;
use crate::{address::Place, core::Core, session::Session};

impl Core {
    /// The profile of who enters a room under a nickname.
    pub(super) fn room_profile(&self, user: &UserId, nick: &str) -> Profile {
        let avatar_url = self.accounts().display_profile(user).ok().and_then(|(_, avatar)| avatar);
        Profile { displayname: Some(nick.to_owned()), avatar_url }
    }

    /// Marks what somebody has read of a room. [XEP-0333]
    pub(super) async fn mark_read(&self, user: &UserId, room: &Arc<Room>, event: &EventId) -> Result<(), StanzaError> {
        let read = self.rooms().set_receipt(user, room.id(), koine_room::ReceiptType::Read, event, None).await;
        read.map_err(|error| super::refused(&error))
    }

    /// Tells an account something that is not kept: every session that takes messages.
    pub(super) async fn tell_account(self: &Arc<Self>, account: &BareJid, message: Element) {
        if self.user_of(account).is_none() {
            return self.deliver(message).await;
        }
        for session in self.sessions.takers(account) {
            session.send(message.clone());
        }
    }

    /// Says something to somebody outside of the room.
    pub(super) async fn say_outside(
        self: &Arc<Self>,
        from: &Jid,
        to: &UserId,
        message: &Element,
    ) -> Result<(), StanzaError> {
        let Some(to) = self.address_of(to) else {
            return Err(StanzaError::new(
                Condition::ServiceUnavailable,
                "this member is not reached by private messages",
            ));
        };
        let mut message = message.clone();
        message.set_attr("from", Some(from.to_string()));
        message.set_attr("to", Some(to.to_string()));
        let session = from.clone().try_into_full().ok().and_then(|full| self.sessions.get(&full));
        Box::pin(self.route(message, session.as_ref())).await;
        Ok(())
    }
}

/// Whether a presence of a session of ours only shows it in a room of which its account is a member anyway, under the nickname
/// that it has, or asks what happens in rooms.
pub(crate) async fn may_come_back(core: &Core, session: &Session, to: &Jid) -> Result<bool, StanzaError> {
    let room = match core.place(to) {
        Place::RoomService => return Ok(true),
        Place::Room => name::room(core, &to.to_bare())?,
        _ => None,
    };
    let Some(room) = room.filter(|room| room.is_joined(session.user())) else { return Ok(false) };
    let Some(hall) = core.muc.hall(room.no()) else { return Ok(true) };
    let from = Jid::from(session.jid().clone());
    let inside = hall.inside.lock().await;
    Ok(inside.nick_of(&from).is_none_or(|nick| Some(nick) == to.resource()))
}
