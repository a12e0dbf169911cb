//! What was said around an event. [CS-API §get_matrixclientv3roomsroomidcontexteventid]

use std::sync::Arc;

use koine_store::Direction;
use ruma_common::EventId;

use crate::{
    error::ReadError,
    room::{Placed, Room},
    state::Root,
    tables::Order,
    timeline::Span,
    visibility::Viewer,
};

/// An event with its neighbours.
#[derive(Debug)]
pub struct Context {
    /// The event itself.
    pub event: Arc<Placed>,
    /// What came before, newest first.
    pub before: Vec<Arc<Placed>>,
    /// What came after, oldest first.
    pub after: Vec<Arc<Placed>>,
    /// The place before all of it.
    pub start: Order,
    /// The place after all of it.
    pub end: Order,
    /// State of the room at the last of the events, or when the viewer left if that was before; `None` for who never was
    /// in it, and sees an event that concerns them alone.
    pub state: Option<Root>,
}

impl Room {
    /// The event `id` and at most `limit` events around it that the viewer may see and `wanted` says yes to.
    ///
    /// # Errors
    /// `NoSuchEvent` when the event is not there or not to be seen.
    pub fn context(
        &self,
        viewer: &mut Viewer<'_>,
        id: &EventId,
        limit: usize,
        mut wanted: impl FnMut(&Placed) -> bool,
    ) -> Result<Context, ReadError> {
        let event = self.event(id)?.ok_or(ReadError::NoSuchEvent)?;
        if !viewer.may_see(&event)? {
            return Err(ReadError::NoSuchEvent);
        }
        // An event that may be seen may be older than anything else that may: then it stands alone.
        let seen_until = match viewer.newest() {
            Err(ReadError::NotJoined) => None,
            other => Some(other?),
        };
        let newest = seen_until.unwrap_or(event.order).max(event.order);
        let mut read = |from: Order, direction: Direction, limit: usize| {
            let span = Span { from: Some(from), to: None, direction, limit };
            self.page(span, newest, |placed| Ok(wanted(placed) && viewer.may_see(placed)?))
        };
        let before = read(event.order - 1, Direction::Backward, limit / 2)?.events;
        let after = read(event.order, Direction::Forward, limit - limit / 2)?.events;
        let last = after.last().unwrap_or(&event);
        let state = match seen_until {
            Some(until) if until < last.order => Some(viewer.state()?),
            until => until.map(|_| last.current),
        };
        Ok(Context { start: before.last().unwrap_or(&event).order - 1, end: last.order, state, event, before, after })
    }
}
