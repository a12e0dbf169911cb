//! Instant messaging between people: conversations, presence, contacts. RFC 6121.
//!
//! | file | what |
//! |---|---|
//! | `conversation.rs` | the room of two people: found, made, revived |
//! | `talk.rs` | what the projection asks of that room |
//! | `message.rs` | messages that somebody sends |
//! | `happened.rs` | what the log tells of rooms of two, to sessions and other servers |
//! | `presence.rs` | who is there |
//! | `subscription.rs` | who may know that |
//! | `roster.rs` | the list of contacts |
//! | `matrix.rs` | what Matrix devices do for a moment |
//! | `away.rs` | what was said while nobody was there |
//! | `undelivered.rs` | errors for what could not be mailed |

mod away;
mod conversation;
mod happened;
mod matrix;
mod message;
mod presence;
mod roster;
mod subscription;
mod talk;
#[cfg(test)]
mod tests;
mod undelivered;

use std::{
    array,
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    sync::atomic::AtomicI64,
};

use koine_account::Polling;
use koine_stanza::{FullJid, Jid};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use ruma_common::UserId;

pub(crate) use self::{
    happened::{happened, read_up_to},
    matrix::start,
    message::{message, slow_down},
    presence::{presence, show_to},
    roster::{EXTENSION as ROSTER, item as roster_item},
    talk::Talk,
};

/// Messages on their way through the log of which it is remembered between which sessions they go.
const FLIGHTS_MAX: usize = 20_000;
/// Most addresses outside of its contacts that a session has told that it is there.
const DIRECTED_MAX: usize = 1_000;

/// Locks that pairs of people share.
const MAKING_AT_ONCE: usize = 256;

/// What conversations need to remember.
pub(crate) struct Im {
    /// By transaction: which session sent a message that the log has not told yet, and where to.
    flights: Cache<String, (FullJid, Jid)>,
    making: Making,
    /// Whom sessions have told that they are there, beside their contacts. [RFC6121 §4.6]
    directed: Mutex<HashMap<FullJid, HashSet<Jid>>>,
    /// Sessions that read the archive themselves: they are not told of old messages.
    readers: Mutex<HashSet<FullJid>>,
    /// Where in the log is what is told of just now, or was last.
    pub(crate) telling: AtomicI64,
    /// Up to where all was told.
    pub(crate) told: AtomicI64,
    /// Sessions as Matrix sees them: present.
    shown: Mutex<HashMap<FullJid, Polling>>,
}

/// Held while the room of two people is made, so that two who write to each other at once make one. By pair: what many others
/// begin meanwhile is not waited for, or hardly.
struct Making {
    locks: [tokio::sync::Mutex<()>; MAKING_AT_ONCE],
    hasher: RandomState,
}

impl Making {
    async fn of(&self, me: &UserId, peer: &UserId) -> tokio::sync::MutexGuard<'_, ()> {
        let pair = (me.min(peer), me.max(peer));
        let lock = usize::try_from(self.hasher.hash_one(pair) % MAKING_AT_ONCE as u64).unwrap_or_default();
        self.locks[lock].lock().await
    }
}

impl Default for Making {
    fn default() -> Self {
        Self { locks: array::from_fn(|_| tokio::sync::Mutex::default()), hasher: RandomState::new() }
    }
}

impl Im {
    /// A session reads the archive.
    pub(crate) fn note_reader(&self, session: &FullJid) {
        self.readers.lock().insert(session.clone());
    }
}

impl Default for Im {
    fn default() -> Self {
        Self {
            flights: Cache::new(FLIGHTS_MAX),
            making: Making::default(),
            directed: Mutex::default(),
            readers: Mutex::default(),
            telling: AtomicI64::new(0),
            told: AtomicI64::new(0),
            shown: Mutex::default(),
        }
    }
}
