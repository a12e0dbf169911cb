//! How much somebody has not read in all their rooms together: the number on an application's icon.
//!
//! Worked out over all rooms once for each owner of a pusher, and then room by room as something happens there.

use std::collections::HashMap;

use koine_room::{Membership, ReadError, RoomNo};
use parking_lot::Mutex;
use ruma_common::{OwnedUserId, UserId};

use crate::pushers::PusherCores;

/// People whose numbers are remembered.
const OWNERS_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub(crate) struct Badges(Mutex<HashMap<OwnedUserId, Badge>>);

/// What is unread in each room where something is.
#[derive(Clone, Debug, Default)]
struct Badge {
    rooms: HashMap<RoomNo, u64>,
}

impl Badges {
    /// Everything unread; `changed` is the room where something happened.
    pub(crate) fn total(&self, cores: &PusherCores, user: &UserId, changed: Option<RoomNo>) -> Result<u64, ReadError> {
        let known = self.0.lock().contains_key(user);
        let looked_at = match (known, changed) {
            (true, None) => Vec::new(),
            (true, Some(no)) => vec![(no, unread(cores, user, no)?)],
            (false, _) => {
                let mut all = Vec::new();
                for (no, record) in cores.rooms.memberships(user)? {
                    if record.membership == Membership::Join {
                        all.push((no, unread(cores, user, no)?));
                    }
                }
                all
            }
        };
        let mut badges = self.0.lock();
        if badges.len() >= OWNERS_MAX && !badges.contains_key(user) {
            badges.clear();
        }
        let badge = badges.entry(user.to_owned()).or_default();
        for (no, count) in looked_at {
            if count == 0 {
                badge.rooms.remove(&no);
            } else {
                badge.rooms.insert(no, count);
            }
        }
        Ok(badge.rooms.values().sum())
    }

    /// Whether the number of a room is another now. Of somebody who was never told a number, it is not.
    pub(crate) fn has_changed(&self, cores: &PusherCores, user: &UserId, no: RoomNo) -> Result<bool, ReadError> {
        let before = match self.0.lock().get(user) {
            Some(badge) => badge.rooms.get(&no).copied().unwrap_or(0),
            None => return Ok(false),
        };
        Ok(unread(cores, user, no)? != before)
    }
}

fn unread(cores: &PusherCores, user: &UserId, no: RoomNo) -> Result<u64, ReadError> {
    let room = cores.rooms.room_by_no(no)?;
    match room.local_record(user).filter(|record| record.membership == Membership::Join) {
        Some(record) => Ok(room.unread(user, &record, &*cores.rules)?.total().notify),
        None => Ok(0),
    }
}
