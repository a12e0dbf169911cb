//! What lists ask of every room: when it last stirred, whether it is encrypted, of which type it is.
//!
//! The same for all who are in the room, so kept once for all of them, and brought up to date by what happened since. A
//! list of thousands of rooms asks for the facts alone: a room in which nothing happened need not be in memory for it.

use std::{collections::HashMap, sync::Arc};

use koine_room::{Direction, Hub, Order, Room, RoomNo, Root, Span};
use parking_lot::Mutex;

use crate::Result;

/// Most rooms whose facts are kept; past it all are forgotten, and found again.
const ROOMS_MAX: usize = 200_000;

/// Types of events that bring a room to the top. [MSC4186] `bump_stamp`
const BUMP_TYPES: [&str; 9] = [
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "org.matrix.msc3381.poll.start",
    "m.beacon_info",
    "org.matrix.msc3672.beacon_info",
];

/// Of all rooms that somebody asked about lately.
#[derive(Default)]
pub(crate) struct Facts(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// With whether nothing has happened in the room since.
    of: HashMap<RoomNo, (RoomFacts, bool)>,
    /// Grows when rooms are found to have stirred: what was looked at before may be old.
    age: u64,
}

/// Of one room.
#[derive(Clone, Debug)]
pub(super) struct RoomFacts {
    /// Of the newest event.
    pub(super) order: Order,
    state: Root,
    /// Order of the newest event that brings the room to the top; 0 when it is long ago.
    pub(super) bump: u64,
    pub(super) is_encrypted: bool,
    pub(super) room_type: Option<Arc<str>>,
}

impl Facts {
    /// Learns in which rooms something happened, up to the hub's position.
    pub(super) fn catch_up(&self, hub: &Hub) {
        let mut kept = self.0.lock();
        let stirred = hub.take_stirred();
        if stirred.all {
            kept.of.values_mut().for_each(|(_, is_fresh)| *is_fresh = false);
        }
        for no in &stirred.rooms {
            if let Some((_, is_fresh)) = kept.of.get_mut(no) {
                *is_fresh = false;
            }
        }
        if stirred.all || !stirred.rooms.is_empty() {
            kept.age += 1;
        }
    }

    /// As things stood when this caught up last, if they were looked at since the room stirred.
    pub(super) fn fresh(&self, no: RoomNo) -> Option<RoomFacts> {
        self.0.lock().of.get(&no).filter(|(_, is_fresh)| *is_fresh).map(|(facts, _)| facts.clone())
    }

    /// As things stand now.
    pub(super) fn of(&self, room: &Room) -> Result<RoomFacts> {
        let (known, age) = {
            let kept = self.0.lock();
            (kept.of.get(&room.no()).map(|(facts, _)| facts.clone()), kept.age)
        };
        let published = room.published();
        if let Some(known) = known.as_ref().filter(|known| known.order == published.order) {
            self.keep(room.no(), known, age);
            return Ok(known.clone());
        }
        let to = known.as_ref().map(|known| known.order);
        let span = Span { from: Some(published.order), to, direction: Direction::Backward, limit: 1 };
        let page = room.page(span, published.order, |placed| Ok(BUMP_TYPES.contains(&placed.event.kind())))?;
        let bump = page.events.first().map(|placed| u64::try_from(placed.order).unwrap_or(0));
        let is_encrypted = match &known {
            // Encryption is never switched off.
            Some(known) if known.is_encrypted || known.state == published.state => known.is_encrypted,
            _ => room.state_event(published.state, "m.room.encryption", "")?.is_some(),
        };
        let room_type = match &known {
            Some(known) => known.room_type.clone(),
            None => {
                let create = room.state_event(published.state, "m.room.create", "")?;
                create.and_then(|create| create.event.content_field::<String>("type")).map(Into::into)
            }
        };
        let bump = bump.or(known.map(|known| known.bump)).unwrap_or(0);
        let facts = RoomFacts { order: published.order, state: published.state, bump, is_encrypted, room_type };
        self.keep(room.no(), &facts, age);
        Ok(facts)
    }

    /// Keeps what was found when this had that age.
    fn keep(&self, no: RoomNo, facts: &RoomFacts, age: u64) {
        let mut kept = self.0.lock();
        if kept.of.len() >= ROOMS_MAX {
            kept.of.clear();
        }
        let is_fresh = kept.age == age;
        kept.of.insert(no, (facts.clone(), is_fresh));
    }
}
