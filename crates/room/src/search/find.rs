//! Answers: which events of somebody's rooms have all the words asked for, newest or best first.
//!
//! The work is the reader's: in each room the places of one word are walked through from the newest on, and the others
//! looked up beside it. It ends after [`LOOK_MAX`] places, so a common word in many rooms is answered with its newest.

use std::{cmp::Reverse, collections::HashSet, sync::Arc};

use koine_store::{Direction, KeyRange};
use ruma_common::{OwnedRoomId, UserId};

use super::{Field, text, words};
use crate::{
    error::ReadError,
    registry::Rooms,
    room::{Placed, Room},
    tables::{Order, RoomNo, SEARCH_WORD},
    visibility::Viewer,
};

/// Places that one question looks at.
pub const LOOK_MAX: usize = 20_000;
/// Places of one room that one question looks at.
const LOOK_PER_ROOM_MAX: usize = 5_000;
/// Words whose places are counted up to so many, to walk through those of the rarest.
const RARE: usize = 64;

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct SearchQuery<'a> {
    /// What is looked for.
    pub term: &'a str,
    /// Where it may stand.
    pub fields: &'a [Field],
    /// In these rooms only.
    pub rooms: Option<&'a [OwnedRoomId]>,
    /// Nothing newer: pages of one answer do not move when more is said.
    pub up_to: Order,
    /// The best first, and not the newest.
    pub by_rank: bool,
}

/// Something found.
#[derive(Clone)]
pub struct Hit {
    /// Where.
    pub room: Arc<Room>,
    /// What.
    pub placed: Arc<Placed>,
    /// How well it fits; more is better.
    pub rank: f64,
}

/// What was found, in the order asked for.
pub struct Found {
    /// At most [`LOOK_MAX`].
    pub hits: Vec<Hit>,
    /// The words as they are to be shown in it.
    pub highlights: Vec<String>,
}

impl Rooms {
    /// What `user` may see, `wanted` says yes to, and answers the question. Blocks for as long as it takes to read.
    pub fn search(
        &self,
        user: &UserId,
        query: &SearchQuery<'_>,
        wanted: impl Fn(&Room, &Placed) -> bool,
    ) -> Result<Found, ReadError> {
        let asked = words::of_question(query.term);
        let mut hits = Vec::new();
        let mut left = LOOK_MAX;
        if !asked.is_empty() {
            // Those that were busy lately first: if not everything can be looked at, the newest is.
            let mut rooms = self.searched(user, query.rooms)?;
            rooms.sort_by_key(|room| Reverse(room.published().order));
            for room in rooms {
                let mut viewer = Viewer::new(&room, user)?;
                for order in self.places(room.no(), query, &asked, &mut left)? {
                    let Some(placed) = room.event_at(order)?.filter(|placed| placed.order == order) else { continue };
                    if placed.redacted_by.is_some() || !wanted(&room, &placed) || !viewer.may_see(&placed)? {
                        continue;
                    }
                    let rank = rank(&placed, &asked);
                    hits.push(Hit { room: room.clone(), placed, rank });
                }
                if left == 0 {
                    break;
                }
            }
        }
        hits.sort_by(|one, other| {
            let newest = other.placed.order.cmp(&one.placed.order);
            if query.by_rank { other.rank.total_cmp(&one.rank).then(newest) } else { newest }
        });
        Ok(Found { hits, highlights: words::to_highlight(query.term) })
    }

    /// The rooms that somebody is or was in.
    fn searched(&self, user: &UserId, only: Option<&[OwnedRoomId]>) -> Result<Vec<Arc<Room>>, ReadError> {
        let mut rooms = Vec::new();
        if let Some(only) = only {
            for id in only {
                match self.room(id) {
                    Ok(room) => rooms.push(room),
                    Err(ReadError::NoSuchRoom) => {}
                    Err(error) => return Err(error),
                }
            }
            rooms.retain(|room| {
                room.local_record(user).is_some_and(|record| record.joined_at.is_some() && !record.forgotten)
            });
            return Ok(rooms);
        }
        for (no, record) in self.memberships(user)? {
            if record.joined_at.is_some() && !record.forgotten {
                rooms.push(self.room_by_no(no)?);
            }
        }
        Ok(rooms)
    }

    /// Where all the words stand in one field of an event, newest first.
    fn places(
        &self,
        room: RoomNo,
        query: &SearchQuery<'_>,
        asked: &[String],
        left: &mut usize,
    ) -> Result<Vec<Order>, ReadError> {
        let (view, domain) = (self.core.shard.view(), self.core.domain());
        let mut found = HashSet::new();
        for field in query.fields {
            let mut words: Vec<(usize, String)> = Vec::with_capacity(asked.len());
            for word in asked {
                let word = format!("{}{word}", field.letter());
                let places = view.scan(&SEARCH_WORD, domain, KeyRange::prefix(&(room, &*word)), Direction::Forward);
                words.push((places.take(RARE).count(), word));
            }
            words.sort();
            let Some(((1.., rarest), others)) = words.split_first() else { continue };
            let places = KeyRange::prefix(&(room, &**rarest)).through(&(room, &**rarest, query.up_to));
            for row in view.scan(&SEARCH_WORD, domain, places, Direction::Backward).take(LOOK_PER_ROOM_MAX.min(*left)) {
                let ((_, _, order), ()) = row?;
                *left -= 1;
                let mut has_all = true;
                for (_, word) in others {
                    has_all = has_all && view.contains(&SEARCH_WORD, domain, &(room, &**word, order))?;
                }
                if has_all {
                    found.insert(order);
                }
            }
        }
        let mut found: Vec<Order> = found.into_iter().collect();
        found.sort_by_key(|order| Reverse(*order));
        Ok(found)
    }
}

/// How much of a text is what was asked for; in a long text more of it has to be.
fn rank(placed: &Placed, asked: &[String]) -> f64 {
    let Some((_, text)) = text(placed) else { return 0.0 };
    let (hits, all) = words::count(&text, asked);
    hits as f64 / (all.max(1) as f64).sqrt()
}
