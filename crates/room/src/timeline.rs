//! Reading a room's history in pages, in both directions.
//!
//! A place *between* events is named by an [`Order`]: everything at or below it lies before the place. The position
//! in a sync token is such a place, since an event stands at the log position that told of it; so pages can begin
//! wherever a sync ended. Who may see what is `visibility.rs`'s business, what the reader wants is the closure's.
//! [CS-API §get_matrixclientv3roomsroomidmessages]

use std::sync::Arc;

use koine_store::Direction;

use crate::{
    error::ReadError,
    room::{Placed, Room},
    tables::Order,
};

/// Most events that one page looks at to find enough that pass; past it the page ends early, with a place to go on at.
pub const PAGE_LOOK_MAX: usize = 2_000;
/// Fewest events read from the store at once.
const CHUNK_MIN: usize = 16;

/// Which part of a timeline to read.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Where to begin; `None` is the end of the room in the direction one comes from.
    pub from: Option<Order>,
    /// Where to stop.
    pub to: Option<Order>,
    /// Backward is from new to old.
    pub direction: Direction,
    /// Events wanted.
    pub limit: usize,
}

/// Part of a timeline.
#[derive(Debug, Default)]
pub struct Page {
    /// In the order of the direction asked for.
    pub events: Vec<Arc<Placed>>,
    /// The place after the last event in that direction; `None` when there is nothing further.
    pub end: Option<Order>,
}

impl Room {
    /// Events of `span` that `keep` says yes to. Nothing newer than `newest` is looked at: the newest event of the
    /// room, or where the reader left it.
    pub fn page(
        &self,
        span: Span,
        newest: Order,
        mut keep: impl FnMut(&Placed) -> Result<bool, ReadError>,
    ) -> Result<Page, ReadError> {
        let (mut after, mut up_to) = match span.direction {
            Direction::Backward => (span.to.unwrap_or(Order::MIN), span.from.unwrap_or(newest).min(newest)),
            Direction::Forward => (span.from.unwrap_or(Order::MIN), span.to.unwrap_or(newest).min(newest)),
        };
        let mut page = Page::default();
        let mut looked = 0;
        while after < up_to && looked < PAGE_LOOK_MAX {
            // One more than wanted, to learn whether there is anything further.
            let chunk = (span.limit - page.events.len() + 1).max(CHUNK_MIN).min(PAGE_LOOK_MAX - looked);
            let events = self.events_between(after, up_to, chunk, span.direction)?;
            let exhausted = events.len() < chunk;
            looked += events.len();
            for placed in events {
                if page.events.len() >= span.limit {
                    page.end = Some(match span.direction {
                        Direction::Backward => up_to,
                        Direction::Forward => after,
                    });
                    return Ok(page);
                }
                match span.direction {
                    Direction::Backward => up_to = placed.order - 1,
                    Direction::Forward => after = placed.order,
                }
                if keep(&placed)? {
                    page.events.push(placed);
                }
            }
            if exhausted {
                return Ok(page);
            }
        }
        if after < up_to {
            page.end = Some(match span.direction {
                Direction::Backward => up_to,
                Direction::Forward => after,
            });
        }
        Ok(page)
    }

    /// Ends a page that was read backwards at the newest event that follows something we do not have: what comes before
    /// it on the page was not before it in the room. [SS-API §backfilling-and-retrieving-missing-events]
    pub fn end_at_gap(&self, page: &mut Page) -> Result<(), ReadError> {
        let ours = &self.core.config.server_name;
        for (at, placed) in page.events.iter().enumerate() {
            // What is made here follows what is here.
            if placed.event.sender().server_name() == ours || placed.state_before.is_empty() {
                continue;
            }
            if !self.unknown_among(placed.event.prev_events())?.is_empty() {
                page.end = Some(placed.order - 1);
                page.events.truncate(at + 1);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Events with orders in `(after, up_to]`, from memory when they are there.
    pub(crate) fn events_between(
        &self,
        after: Order,
        up_to: Order,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Arc<Placed>>, ReadError> {
        match direction {
            Direction::Backward => self.newest(after, up_to, limit),
            Direction::Forward => self.core.timeline(self.no(), after, up_to, limit, direction),
        }
    }

    /// The newest event at or before a place.
    pub fn event_at(&self, place: Order) -> Result<Option<Arc<Placed>>, ReadError> {
        Ok(self.newest(Order::MIN, place.min(self.published().order), 1)?.pop())
    }
}
