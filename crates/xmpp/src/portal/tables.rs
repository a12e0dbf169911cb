//! What is remembered of rooms elsewhere that are mirrored here: which, whom they have of ours, and what they call messages.

use koine_room::{ReadError, Room, RoomNo};
use koine_stanza::BareJid;
use koine_store::{Space, Table};
use ruma_common::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, UserId};

use crate::core::Core;

/// Address of a room elsewhere → the room that mirrors it.
const PORTAL: Table<String, String> = Table::new("xmpp.portal", Space::Index, 0x8b);
/// (address of a room elsewhere, one of ours who is in it) → their nickname there.
const SEAT: Table<(String, String), String> = Table::new("xmpp.portal_seat", Space::Index, 0x8c);
/// (room, id that the room elsewhere gave a message) → the event.
const SAID: Table<(RoomNo, String), String> = Table::new("xmpp.portal_said", Space::Index, 0x8d);
/// (room, event) → the id that the room elsewhere gave the message.
const SAID_AS: Table<(RoomNo, String), String> = Table::new("xmpp.portal_said_as", Space::Index, 0x8e);

/// Longest id of a message that is remembered.
const ID_BYTES_MAX: usize = 1023;

/// A room elsewhere, its mirror, and whom it has of ours under which nicknames.
pub(super) struct Known {
    pub(super) address: BareJid,
    pub(super) room: OwnedRoomId,
    pub(super) seats: Vec<(OwnedUserId, String)>,
}

/// All that are mirrored.
pub(super) fn all(core: &Core) -> Result<Vec<Known>, ReadError> {
    let (view, mut known) = (core.shard().view(), Vec::new());
    for row in view.scan(&PORTAL, core.domain(), .., koine_store::Direction::Forward) {
        let (text, room) = row?;
        let (Ok(address), Ok(room)) = (BareJid::new(&text), OwnedRoomId::try_from(room)) else { continue };
        let mut seats = Vec::new();
        for row in view.prefix(&SEAT, core.domain(), &(text.as_str(),), koine_store::Direction::Forward) {
            let ((_, user), nick) = row?;
            seats.extend(OwnedUserId::try_from(user).ok().map(|user| (user, nick)));
        }
        known.push(Known { address, room, seats });
    }
    Ok(known)
}

pub(super) async fn keep(core: &Core, address: &BareJid, room: &Room) {
    let (domain, address, room) = (core.domain(), address.to_string(), room.id().to_string());
    note(core.shard().submit(move |txn| txn.put(&PORTAL, domain, &address, &room)).await);
}

pub(super) async fn sit(core: &Core, address: &BareJid, user: &UserId, nick: &str) {
    let (domain, key, nick) = (core.domain(), (address.to_string(), user.to_string()), nick.to_owned());
    note(core.shard().submit(move |txn| txn.put(&SEAT, domain, &key, &nick)).await);
}

pub(super) async fn stand_up(core: &Core, address: &BareJid, user: &UserId) {
    let (domain, key) = (core.domain(), (address.to_string(), user.to_string()));
    note(core.shard().submit(move |txn| txn.delete(&SEAT, domain, &key)).await);
}

/// The room elsewhere calls an event so from now on.
pub(super) async fn name(core: &Core, room: &Room, event: &EventId, id: &str) {
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return;
    }
    let (domain, no, event, id) = (core.domain(), room.no(), event.to_string(), id.to_owned());
    let named = core.shard().submit(move |txn| {
        txn.put(&SAID, domain, &(no, id.clone()), &event);
        txn.put(&SAID_AS, domain, &(no, event), &id);
    });
    note(named.await);
}

/// The event that the room elsewhere calls so.
pub(super) fn event_named(core: &Core, room: &Room, id: &str) -> Option<OwnedEventId> {
    let event = core.shard().get(&SAID, core.domain(), &(room.no(), id.to_owned())).ok()??;
    OwnedEventId::try_from(event).ok()
}

/// What the room elsewhere calls an event.
pub(super) fn name_of(core: &Core, room: &Room, event: &EventId) -> Option<String> {
    core.shard().get(&SAID_AS, core.domain(), &(room.no(), event.to_string())).ok()?
}

fn note<T, E: std::fmt::Display>(done: Result<T, E>) {
    if let Err(error) = done {
        tracing::error!(reason = %error, "what is known of a room elsewhere could not be kept");
    }
}
