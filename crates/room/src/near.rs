//! The event next to a moment, for who wants to jump to a day. [CS-API §get_matrixclientv1roomsroomidtimestamp_to_event]
//!
//! Events stand in the order of their arrival, which is nearly that of their moments. So the place is found by halving
//! the timeline, and the events around it decide: those of a server whose clock is far off may be missed.

use std::sync::Arc;

use koine_store::Direction;
use ruma_common::{MilliSecondsSinceUnixEpoch, UserId};

use crate::{
    error::{CommandError, ReadError},
    registry::Rooms,
    room::{Placed, Room},
    tables::Order,
    timeline::Span,
    visibility::Viewer,
};

/// Events looked at on the other side of the place, where clocks that are a little off put them.
const STRAY_LOOK_MAX: usize = 100;
/// Events of the right side among which the nearest is chosen.
const NEAR_LOOK_MAX: usize = 100;

impl Rooms {
    /// The event nearest to a moment, in one direction of time, that `user` may see. Where our history of the room may
    /// end too early to have it, other servers in the room are asked.
    ///
    /// # Errors
    /// `NotJoined` for who may not read the room.
    pub async fn event_near(
        &self,
        room: &Arc<Room>,
        user: &UserId,
        moment: MilliSecondsSinceUnixEpoch,
        direction: Direction,
    ) -> Result<Option<Arc<Placed>>, CommandError> {
        let here = room.event_near_for(&mut Viewer::new(room, user)?, moment, direction)?;
        let reaches = match (&here, direction) {
            (None, _) => false,
            // What comes before it is here, and on the other side of the moment.
            (Some(here), Direction::Forward) => room.unknown_among(here.event.prev_events())?.is_empty(),
            // What comes after it is here, likewise.
            (Some(here), Direction::Backward) => {
                let newest = room.published().order;
                let next = room.events_between(here.order, newest, 1, Direction::Forward)?.pop();
                next.is_none_or(|next| room.unknown_among(next.event.prev_events()).is_ok_and(|lost| lost.is_empty()))
            }
        };
        let Some(elsewhere) = self.elsewhere.get().filter(|_| !reaches) else { return Ok(here) };
        if !room.is_attended() || room.history_edge()?.is_empty() {
            return Ok(here);
        }
        let Some((id, at)) = elsewhere.event_near(room, moment, direction).await? else { return Ok(here) };
        let is_nearer = here.as_ref().is_none_or(|here| match direction {
            Direction::Forward => at < here.event.origin_server_ts(),
            Direction::Backward => at > here.event.origin_server_ts(),
        });
        match room.event(&id)?.filter(|_| is_nearer) {
            Some(there) if Viewer::new(room, user)?.may_see(&there)? => Ok(Some(there)),
            _ => Ok(here),
        }
    }
}

impl Room {
    /// The event nearest to a moment, in one direction of time, that the viewer may see. Of several at the same moment
    /// the one that is first in that direction.
    ///
    /// # Errors
    /// `NotJoined` for who may not read the room.
    pub fn event_near_for(
        &self,
        viewer: &mut Viewer<'_>,
        moment: MilliSecondsSinceUnixEpoch,
        direction: Direction,
    ) -> Result<Option<Arc<Placed>>, ReadError> {
        let newest = viewer.newest()?;
        self.nearest(newest, moment, direction, |placed| viewer.may_see(placed))
    }

    /// The event nearest to a moment, in one direction of time, whoever may see it.
    /// [SS-API §get_matrixfederationv1timestamp_to_eventroomid]
    pub fn event_near(
        &self,
        moment: MilliSecondsSinceUnixEpoch,
        direction: Direction,
    ) -> Result<Option<Arc<Placed>>, ReadError> {
        self.nearest(self.published().order, moment, direction, |_| Ok(true))
    }

    /// Costs the logarithm of the room's history.
    fn nearest(
        &self,
        newest: Order,
        moment: MilliSecondsSinceUnixEpoch,
        direction: Direction,
        mut may_see: impl FnMut(&Placed) -> Result<bool, ReadError>,
    ) -> Result<Option<Arc<Placed>>, ReadError> {
        let fits = |placed: &Placed| match direction {
            Direction::Forward => placed.event.origin_server_ts() >= moment,
            Direction::Backward => placed.event.origin_server_ts() <= moment,
        };
        let place = self.place_of_moment(newest, |placed| match direction {
            Direction::Forward => !fits(placed),
            Direction::Backward => fits(placed),
        })?;
        let span = Span { from: Some(place), to: None, direction, limit: NEAR_LOOK_MAX };
        let mut found = self.page(span, newest, |placed| Ok(fits(placed) && may_see(placed)?))?.events;
        let strays = match direction {
            Direction::Forward => self.newest(Order::MIN, place, STRAY_LOOK_MAX)?,
            Direction::Backward => self.events_between(place, newest, STRAY_LOOK_MAX, Direction::Forward)?,
        };
        for placed in strays.into_iter().filter(|placed| fits(placed)) {
            if may_see(&placed)? {
                found.push(placed);
            }
        }
        let key = |placed: &Arc<Placed>| (placed.event.origin_server_ts(), placed.order);
        Ok(match direction {
            Direction::Forward => found.into_iter().min_by_key(key),
            Direction::Backward => found.into_iter().max_by_key(key),
        })
    }

    /// The place after the last event of which `is_before` holds, if events were in the order of their moments.
    fn place_of_moment(&self, newest: Order, is_before: impl Fn(&Placed) -> bool) -> Result<Order, ReadError> {
        let Some(first) = self.events_between(Order::MIN, newest, 1, Direction::Forward)?.pop() else {
            return Ok(newest);
        };
        // Everything up to `low` is before, everything above `high` is not.
        let (mut low, mut high) = (first.order - 1, newest);
        while low < high {
            let middle = low + (high - low + 1) / 2;
            match self.newest(low, middle, 1)?.pop() {
                Some(placed) if !is_before(&placed) => high = placed.order - 1,
                _ => low = middle,
            }
        }
        Ok(low)
    }
}
