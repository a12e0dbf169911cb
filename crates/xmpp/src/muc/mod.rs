//! Rooms as XMPP sees them. XEP-0045: a MUC is a view of a room, and an occupant a view of a session or of a member.
//!
//! A room of which somebody is an occupant has a [`Hall`] in memory: who is there under which nickname. Everything else
//! is in the room. Commands of occupants become events; [`happened`] tells the occupants what the log tells us.
//!
//! | file | what |
//! |---|---|
//! | `name.rs` | which room an address means |
//! | `hall.rs` | occupants, and what they are told |
//! | `enter.rs` | entering, changing nickname and availability, leaving |
//! | `speak.rs` | messages to the room and within it, subject, asking for voice |
//! | `invite.rs` | asking somebody in, and being asked |
//! | `happened.rs` | the log |
//! | `history.rs`, `archive.rs` | what was said before, on entering and from the archive |
//! | `standing.rs` | affiliations and roles, and changing them |
//! | `admin.rs`, `owner.rs`, `register.rs`, `info.rs`, `moderate.rs` | requests |
//! | `settings.rs` | the form |
//! | `hats.rs`, `picture.rs`, `slow.rs`, `activity.rs`, `mentioned.rs`, `search.rs`, `versions.rs` | what is beyond XEP-0045, each of its own |

mod activity;
mod admin;
mod archive;
mod enter;
mod hall;
mod happened;
mod hats;
mod history;
mod info;
mod invite;
mod mentioned;
mod moderate;
mod name;
mod owner;
mod people;
mod picture;
mod register;
mod search;
mod settings;
mod slow;
mod speak;
mod standing;
mod versions;
mod words;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use koine_room::{Room, RoomNo};
use koine_stanza::{Condition, Element, Jid, StanzaError};
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use self::hall::Hall;
pub(crate) use self::{
    activity::{EXTENSION as ACTIVITY, watch},
    admin::EXTENSION as ADMIN,
    archive::EXTENSION as ARCHIVE,
    enter::presence,
    happened::happened,
    hats::EXTENSION as HATS,
    info::{EXTENSION as INFO, may_know, request_to_occupant},
    invite::{asked_directly, invited, pending as pending_invitations},
    mentioned::EXTENSION as MENTIONED,
    moderate::EXTENSION as MODERATE,
    name::{address as room_address, room as room_at},
    owner::EXTENSION as OWNER,
    people::may_come_back,
    picture::EXTENSION as PICTURE,
    register::EXTENSION as REGISTER,
    search::EXTENSION as SEARCH,
    speak::message,
    versions::EXTENSION as VERSIONS,
};
use crate::{
    core::Core,
    error::{refused, unreadable},
};

/// Most halls open at a time: rooms that somebody is in by XMPP.
pub(crate) const HALLS_MAX: usize = 100_000;
/// Most rooms that one session is in.
pub(crate) const HALLS_PER_SESSION_MAX: usize = 2_000;

/// Pictures of rooms whose hashes are remembered.
const PICTURES_MAX: usize = 5_000;

/// All halls.
pub(crate) struct Muc {
    halls: Mutex<HashMap<RoomNo, Arc<Hall>>>,
    of_session: Mutex<HashMap<Jid, HashSet<RoomNo>>>,
    /// Held while a room is made, so that two who enter the same new room make one.
    making: tokio::sync::Mutex<()>,
    /// Who waits to be told where something was said.
    watchers: activity::Watchers,
    /// Hashes of pictures, by their addresses.
    pictures: Cache<String, String>,
}

impl Default for Muc {
    fn default() -> Self {
        Self {
            halls: Mutex::default(),
            of_session: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            watchers: activity::Watchers::default(),
            pictures: Cache::new(PICTURES_MAX),
        }
    }
}

impl Muc {
    /// The hall of a room, if somebody is in it.
    fn hall(&self, no: RoomNo) -> Option<Arc<Hall>> {
        self.halls.lock().get(&no).cloned()
    }

    /// The hall of a room, opened if need be.
    fn open(&self, room: &Room) -> Result<Arc<Hall>, StanzaError> {
        let mut halls = self.halls.lock();
        if let Some(hall) = halls.get(&room.no()) {
            return Ok(hall.clone());
        }
        if halls.len() >= HALLS_MAX {
            return Err(StanzaError::new(Condition::ResourceConstraint, "too many rooms are in use: try again later"));
        }
        let hall = Arc::new(Hall::new(room));
        halls.insert(room.no(), hall.clone());
        Ok(hall)
    }

    /// Closes a hall that nobody is in any more. Called with the hall's occupants locked.
    fn close(&self, hall: &Arc<Hall>) {
        let mut halls = self.halls.lock();
        if halls.get(&hall.no).is_some_and(|there| Arc::ptr_eq(there, hall)) {
            halls.remove(&hall.no);
        }
    }

    fn note(&self, session: &Jid, no: RoomNo) -> Result<(), StanzaError> {
        let mut of_session = self.of_session.lock();
        let halls = of_session.entry(session.clone()).or_default();
        if halls.len() >= HALLS_PER_SESSION_MAX {
            return Err(StanzaError::new(Condition::ResourceConstraint, "you are in as many rooms as you may"));
        }
        halls.insert(no);
        Ok(())
    }

    fn forget(&self, session: &Jid, no: RoomNo) {
        let mut of_session = self.of_session.lock();
        if let Some(halls) = of_session.get_mut(session) {
            halls.remove(&no);
            if halls.is_empty() {
                of_session.remove(session);
            }
        }
    }
}

/// A session ended: it is in no room any more. Its account stays a member where it is one.
pub(crate) async fn session_ended(core: &Arc<Core>, session: &Jid) {
    core.muc.watchers.forget(session);
    let halls: Vec<RoomNo> = core.muc.of_session.lock().get(session).into_iter().flatten().copied().collect();
    for no in halls {
        if let Some(hall) = core.muc.hall(no) {
            enter::end_seat(core, &hall, session, Vec::new()).await;
        }
    }
}

/// `<x xmlns='http://jabber.org/protocol/muc#user'/>` with status codes.
fn user_x(codes: &[u16]) -> Element {
    let codes =
        codes.iter().map(|code| Element::new("status", koine_stanza::ns::MUC_USER).with_attr("code", code.to_string()));
    Element::new("x", koine_stanza::ns::MUC_USER).with_children(codes)
}

#[cfg(test)]
mod beyond;
#[cfg(test)]
mod tests;
