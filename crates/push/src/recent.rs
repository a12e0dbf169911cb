//! What somebody was notified of lately: their rooms read backwards by their rules.
//!
//! [CS-API §get_matrixclientv3notifications] Nothing is written for it when a message is sent; the work is the reader's, and
//! a question looks at so many events at most and then says where to go on.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use koine_room::{Membership, Order, Placed, ReadError, Room, Rooms};
use ruma_common::UserId;

use crate::{rules::PushRules, verdict::Wanted};

/// Events that one question looks at.
pub const LOOK_MAX: usize = 5_000;
/// Events read of one room at once.
const PAGE: usize = 32;

/// Something that somebody was notified of.
pub struct Notification {
    /// Where.
    pub room: Arc<Room>,
    /// What.
    pub placed: Arc<Placed>,
    /// Why.
    pub wanted: Wanted,
    /// They have read it.
    pub is_read: bool,
}

/// A page of them, newest first.
pub struct Notifications {
    /// What was found.
    pub found: Vec<Notification>,
    /// Where to go on; `None` if there is no more.
    pub next: Option<Order>,
}

/// A room that is read backwards.
struct Reading {
    room: Arc<Room>,
    /// Not before the person came.
    after: Order,
    /// Read, newest last.
    page: Vec<Arc<Placed>>,
    /// Behind what was read.
    up_to: Order,
}

impl Reading {
    fn next(&mut self) -> Result<Option<Arc<Placed>>, ReadError> {
        if self.page.is_empty() {
            self.page = self.room.newest(self.after, self.up_to, PAGE)?;
            self.page.reverse();
            let Some(oldest) = self.page.first() else { return Ok(None) };
            self.up_to = oldest.order - 1;
        }
        Ok(self.page.pop())
    }
}

impl PushRules {
    /// A page of what `user` was notified of, from `from` backwards.
    pub fn notifications(
        &self,
        rooms: &Rooms,
        user: &UserId,
        from: Option<Order>,
        limit: usize,
        highlights_only: bool,
    ) -> Result<Notifications, ReadError> {
        let unreadable = |error: koine_account::StoreUnavailable| ReadError::Damaged(error.to_string());
        let ignored = self.accounts().ignored_users(user).map_err(unreadable)?;
        let mut readings = Vec::new();
        let mut heap = BinaryHeap::new();
        for (no, record) in rooms.memberships(user)? {
            let (Membership::Join, Some(joined)) = (record.membership, record.joined_at) else { continue };
            let room = rooms.room_by_no(no)?;
            let up_to = from.unwrap_or(Order::MAX).min(room.published().order);
            let mut reading = Reading { room, after: joined, page: Vec::new(), up_to };
            if let Some(placed) = reading.next()? {
                heap.push((placed.order, Reverse(readings.len()), ByOrder(placed)));
                readings.push(reading);
            }
        }
        let mut found = Vec::new();
        for _ in 0..LOOK_MAX {
            let Some((order, Reverse(index), ByOrder(placed))) = heap.pop() else {
                return Ok(Notifications { found, next: None });
            };
            if found.len() == limit {
                return Ok(Notifications { found, next: Some(order) });
            }
            let reading = &mut readings[index];
            let room = reading.room.clone();
            if let Some(next) = reading.next()? {
                heap.push((next.order, Reverse(index), ByOrder(next)));
            }
            if placed.redacted_by.is_some() || ignored.contains(placed.event.sender()) {
                continue;
            }
            let wanted = self.wanted(user, &placed, &room).map_err(unreadable)?;
            if wanted.notify && (wanted.highlight || !highlights_only) {
                let is_read = room.has_read(user, &placed)?;
                found.push(Notification { room, placed, wanted, is_read });
            }
        }
        let next = heap.peek().map(|(order, ..)| *order);
        Ok(Notifications { found, next })
    }
}

/// Carried along in the heap, not compared: no two events of a shard have the same order.
struct ByOrder(Arc<Placed>);

impl PartialEq for ByOrder {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ByOrder {}

impl PartialOrd for ByOrder {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByOrder {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}
