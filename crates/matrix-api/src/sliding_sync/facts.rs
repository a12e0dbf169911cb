//! What lists ask of every room: when it last stirred, whether it is encrypted, of which type it is.
//!
//! The same for all who are in the room, so kept once for all of them, and brought up to date by what happened since.

use std::{collections::HashMap, sync::Arc};

use koine_room::{Direction, Order, Room, RoomNo, Root, Span};
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
pub(crate) struct Facts(Mutex<HashMap<RoomNo, RoomFacts>>);

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
    /// As things stand now.
    pub(super) fn of(&self, room: &Room) -> Result<RoomFacts> {
        let published = room.published();
        let known = self.0.lock().get(&room.no()).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.order == published.order) {
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
        let mut all = self.0.lock();
        if all.len() >= ROOMS_MAX {
            all.clear();
        }
        all.insert(room.no(), facts.clone());
        Ok(facts)
    }
}
