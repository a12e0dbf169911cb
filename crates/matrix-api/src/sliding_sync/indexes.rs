//! The indexes of accounts whose clients have lists: one for all connections of an account, and for the next that it opens.
//!
//! A client that is started anew opens a new connection, and making an index costs all rooms of the account. Kept up with
//! what changed, the one of the last connection serves as well.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use koine_room::INBOX_IDLE_MAX;
use parking_lot::Mutex;
use ruma_common::{OwnedUserId, UserId};

use super::index::Index;

/// An index that nobody looked at for this long is dropped: nobody notes any more what changed for that account.
const IDLE_MAX: Duration = INBOX_IDLE_MAX;
/// Most rooms in all indexes together; past it, those unused for longest are dropped.
const ROOMS_MAX: usize = 1_000_000;

/// Everybody's indexes.
#[derive(Default)]
pub(super) struct Indexes(Mutex<HashMap<OwnedUserId, Kept>>);

struct Kept {
    index: SharedIndex,
    last_used: Instant,
}

/// `None` before it is made, and after it could not be kept up.
pub(super) type SharedIndex = Arc<Mutex<Option<Index>>>;

impl Indexes {
    /// The one of an account, to be locked while it is brought up to date and looked at.
    pub(super) fn of(&self, user: &UserId, now: Instant) -> SharedIndex {
        let mut all = self.0.lock();
        if let Some(kept) = all.get_mut(user) {
            kept.last_used = now;
            return kept.index.clone();
        }
        make_room(&mut all, now);
        let index = SharedIndex::default();
        all.insert(user.to_owned(), Kept { index: index.clone(), last_used: now });
        index
    }
}

/// Drops what is idle, and what was unused for longest while there is too much.
fn make_room(all: &mut HashMap<OwnedUserId, Kept>, now: Instant) {
    all.retain(|_, kept| now.saturating_duration_since(kept.last_used) < IDLE_MAX);
    // One that is being looked at is counted the next time.
    let weight = |kept: &Kept| kept.index.try_lock().map_or(0, |index| index.as_ref().map_or(0, Index::len));
    let mut by_use: Vec<_> = all.iter().map(|(user, kept)| (kept.last_used, user.clone(), weight(kept))).collect();
    let mut rooms: usize = by_use.iter().map(|(_, _, weight)| weight).sum();
    by_use.sort_unstable();
    for (_, user, weight) in by_use {
        if rooms <= ROOMS_MAX {
            break;
        }
        rooms -= weight;
        all.remove(&user);
    }
}
