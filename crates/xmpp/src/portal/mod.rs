//! Rooms of other XMPP servers with people of ours who use Matrix: a room here mirrors each. `docs/design/0014-portals.md`
//!
//! Whoever joins `#_xmpp_ROOM=40HOST:OURS` enters the room elsewhere first, by an address of their own ([`RESOURCE`]); what
//! happens there becomes events here, by ghosts, and what they say here becomes stanzas there. One task a room elsewhere does
//! it all, in order ([`worker`]). Stanzas for sessions of XMPP clients pass by: whoever enters such a room with one is not
//! concerned.
//!
//! | file | what |
//! |---|---|
//! | `worker.rs` | the task: entering, being in, coming back, going |
//! | `inward.rs` | who is there and what is said there, as events |
//! | `outward.rs` | what people of ours do, as stanzas |
//! | `tables.rs` | what outlives the program |

mod inward;
mod outward;
mod tables;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use koine_projection::id;
use koine_room::{Answer, CommandError, Placed, Room};
use koine_stanza::{BareJid, Element, Jid};
use parking_lot::RwLock;
use quick_cache::{Weighter, sync::Cache};
use ruma_common::{OwnedRoomId, OwnedUserId, RoomAliasId, RoomId, UserId};
use tokio::sync::{mpsc, oneshot};

use crate::{address::Place, core::Core};

/// The resource by which people of ours are in rooms elsewhere without an XMPP client.
pub(crate) const RESOURCE: &str = "Matrix-room";
/// The device that makes events of what was said elsewhere.
const DEVICE: &str = "koine.portal";
/// Most rooms elsewhere that are mirrored.
const PORTALS_MAX: usize = 10_000;
/// Most things that wait for one of them; stanzas of others may take half of it.
const WAITING_MAX: usize = 4_096;
/// Messages of XMPP clients under way that are remembered, as far as they have not more bytes than [`SENT_BYTES_MAX`].
const SENT_MAX: usize = 10_000;
/// Bytes of these.
const SENT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Something for the task of a room elsewhere.
enum Word {
    /// Somebody of ours wants to come in.
    Enter { user: OwnedUserId, reply: oneshot::Sender<Result<OwnedRoomId, CommandError>> },
    /// Somebody of ours was in it when the program ended.
    Return { user: OwnedUserId, nick: String },
    /// A stanza for somebody of ours there.
    Stanza { stanza: Element, user: OwnedUserId },
    /// The connection to its server has ended: it may not know us any more.
    Doubt,
    /// Something happened in the room here.
    Happened { placed: Arc<Placed> },
}

/// Rooms elsewhere that are mirrored.
pub(crate) struct Portals {
    queues: RwLock<HashMap<BareJid, mpsc::Sender<Word>>>,
    /// The rooms that mirror them.
    rooms: RwLock<HashMap<OwnedRoomId, BareJid>>,
    /// Who said what with an XMPP client that is under way to one of them, by its id.
    sent: Cache<(BareJid, String), Arc<Sent>, ByBytes>,
}

/// What somebody of ours said. What comes back of it says that it was taken there, and how it is called; not what it was.
struct Sent {
    user: OwnedUserId,
    stanza: Element,
    bytes: u64,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<(BareJid, String), Arc<Sent>> for ByBytes {
    fn weight(&self, (_, id): &(BareJid, String), sent: &Arc<Sent>) -> u64 {
        sent.bytes + id.len() as u64 + 256
    }
}

impl Default for Portals {
    fn default() -> Self {
        Self {
            queues: RwLock::default(),
            rooms: RwLock::default(),
            sent: Cache::with_weighter(SENT_MAX, SENT_BYTES_MAX, ByBytes),
        }
    }
}

impl Portals {
    /// Somebody of ours says something in a room elsewhere with an XMPP client. If it is mirrored, it is known there whose word
    /// it was: what a room elsewhere claims is not believed.
    pub(crate) fn sends(&self, stanza: &Element, to: &Jid, user: &UserId) {
        let room = to.to_bare();
        if let Some(id) = stanza.id().filter(|id| id.len() <= 1023)
            && self.queues.read().contains_key(&room)
        {
            let sent = Sent { user: user.to_owned(), stanza: stanza.clone(), bytes: stanza.to_xml().len() as u64 };
            let key = (room, id.to_owned());
            // Nobody changes what another has said by giving theirs the same id.
            if self.sent.get(&key).is_none_or(|before| before.user == *user) {
                self.sent.insert(key, Arc::new(sent));
            }
        }
    }
}

/// What rooms know of this.
struct Reach(Weak<Core>);

/// Serves Matrix from now on.
pub(crate) fn serve(core: &Arc<Core>) {
    core.rooms().set_portals(Arc::new(Reach(Arc::downgrade(core))));
}

/// Comes back into the rooms elsewhere where people of ours were.
pub(crate) fn start(core: &Arc<Core>) {
    let known = match tables::all(core) {
        Ok(known) => known,
        Err(error) => return tracing::error!(reason = %error, "which rooms elsewhere are mirrored cannot be read"),
    };
    for known in known {
        core.portals.rooms.write().insert(known.room.clone(), known.address.clone());
        let Ok(room) = core.rooms().room(&known.room) else { continue };
        let seats: Vec<_> = known.seats.into_iter().filter(|(user, _)| room.is_joined(user)).collect();
        if seats.is_empty() {
            continue;
        }
        let Some(queue) = queue(core, &known.address) else { continue };
        for (user, nick) in seats {
            // More than wait at once come when they next want something.
            let _ = queue.try_send(Word::Return { user, nick });
        }
    }
}

/// The queue of the task of a room elsewhere, which is started if need be.
fn queue(core: &Arc<Core>, address: &BareJid) -> Option<mpsc::Sender<Word>> {
    let mut queues = core.portals.queues.write();
    if let Some(queue) = queues.get(address) {
        return Some(queue.clone());
    }
    if queues.len() >= PORTALS_MAX {
        return None;
    }
    let (queue, words) = mpsc::channel(WAITING_MAX);
    queues.insert(address.clone(), queue.clone());
    drop(queues);
    worker::start(core, address.clone(), words);
    Some(queue)
}

/// The room elsewhere that a room mirrors.
pub(crate) fn mirrored(core: &Core, room: &RoomId) -> Option<BareJid> {
    core.portals.rooms.read().get(room).cloned()
}

/// Takes a stanza that is for somebody in a room elsewhere who is there without an XMPP client.
pub(crate) fn takes(core: &Arc<Core>, stanza: &Element, from: &Jid, to: &Jid) -> bool {
    if to.resource() != Some(RESOURCE) {
        return false;
    }
    let Some(user) = core.user_of(&to.to_bare()) else { return false };
    let Some(queue) = core.portals.queues.read().get(&from.to_bare()).cloned() else { return false };
    if queue.capacity() < WAITING_MAX / 2 {
        tracing::warn!(room = %from.to_bare(), "a room elsewhere says more than can be taken in: something is left out");
        return true;
    }
    // It has just been looked whether there is place; who is faster than that is left out too.
    let _ = queue.try_send(Word::Stanza { stanza: stanza.clone(), user });
    true
}

/// A connection to a server has ended that it may have ended because it ends itself: its rooms are asked whether we are in them.
pub(crate) fn doubt(core: &Arc<Core>, host: &str) {
    let queues = core.portals.queues.read();
    for (_, queue) in queues.iter().filter(|(address, _)| address.domain() == host) {
        // Where there is no place now, silence tells it later.
        let _ = queue.try_send(Word::Doubt);
    }
}

/// An event of a room; whether the room mirrors one elsewhere, and nobody else is concerned.
pub(crate) fn happened(core: &Arc<Core>, room: &Arc<Room>, placed: &Arc<Placed>) -> bool {
    let Some(address) = mirrored(core, room.id()) else { return false };
    // What came from elsewhere need not go back there.
    let is_echo = placed.txn.as_ref().is_some_and(|(device, _)| device == DEVICE);
    let is_account = |name: &str| !name.starts_with("@_");
    let is_told = match (placed.event.kind(), placed.event.state_key()) {
        ("m.room.member", Some(member)) => is_account(member),
        _ => is_account(placed.event.sender().as_str()),
    };
    if is_told
        && !is_echo
        && let Some(queue) = core.portals.queues.read().get(&address)
        && queue.try_send(Word::Happened { placed: placed.clone() }).is_err()
    {
        tracing::error!(room_id = %room.id(), "too much waits for a room elsewhere: something said is not told there");
    }
    true
}

/// The id of the room elsewhere itself, as somebody who speaks here: it makes the room that mirrors it.
fn mirror(core: &Core, address: &BareJid) -> Option<OwnedUserId> {
    let server = core.rooms().server_name();
    UserId::parse(format!("@{}:{server}", id::ghost_from_jid(address, server)?)).ok()
}

async fn enter(core: &Arc<Core>, user: &UserId, address: &BareJid) -> Result<OwnedRoomId, CommandError> {
    let queue = queue(core, address).ok_or(CommandError::NotReachable)?;
    let (reply, answer) = oneshot::channel();
    let full = |_| CommandError::NotReachable;
    queue.try_send(Word::Enter { user: user.to_owned(), reply }).map_err(full)?;
    answer.await.map_err(|_| CommandError::NotReachable)?
}

impl Reach {
    /// The room elsewhere that an alias stands for.
    fn address(core: &Core, alias: &RoomAliasId) -> Option<BareJid> {
        let address = id::jid_from_ghost(alias.alias(), core.rooms().server_name())?;
        let is_elsewhere = core.place(&address.clone().into()) == Place::Elsewhere && address.node().is_some();
        let is_reached = core.config().servers.is_some() || core.components.has(address.domain());
        Some(address).filter(|_| is_elsewhere && is_reached)
    }
}

impl koine_room::Portals for Reach {
    fn open<'a>(&'a self, user: &'a UserId, alias: &'a RoomAliasId) -> Answer<'a, Option<OwnedRoomId>> {
        Box::pin(async move {
            let Some(core) = self.0.upgrade() else { return Ok(None) };
            let Some(address) = Self::address(&core, alias).filter(|_| core.is_account(user)) else { return Ok(None) };
            enter(&core, user, &address).await.map(Some)
        })
    }

    fn admit<'a>(&'a self, user: &'a UserId, room: &'a RoomId) -> Answer<'a, ()> {
        Box::pin(async move {
            let Some(core) = self.0.upgrade() else { return Ok(()) };
            let Some(address) = mirrored(&core, room).filter(|_| core.is_account(user)) else { return Ok(()) };
            enter(&core, user, &address).await.map(drop)
        })
    }
}
