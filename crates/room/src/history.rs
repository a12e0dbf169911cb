//! History from before our people came: fetched on demand, and put in front of what we have.
//! [SS-API §backfilling-and-retrieving-missing-events]
//!
//! Such events stand at orders below the lowest so far, older ones lower, so that pages go on into them. They tell
//! nobody anything new: no head moves, and the log does not mention them. Their words can be searched for from then on.

use std::sync::Arc;

use koine_graph::{Event, auth};
use koine_store::{Commit, Direction, bytes::Bytes};
use ruma_common::{EventId, OwnedEventId, RoomId};

use crate::{
    error::ReadError,
    receive::{Given, ReceiveError, refusal},
    registry::Rooms,
    relations,
    room::{Pending, Placed, Room},
    search,
    state::{NewNodes, Root},
    tables::{ASIDE, Aside, EVENT, Order, PARENT, Place, RELATION, STATE_NODE, TIMELINE},
    unsettled::Unsettled,
    write::RoomAt,
};

/// Most requests for more history that one page of messages waits for.
pub const BACKFILLS_PER_PAGE_MAX: usize = 3;
/// How many of the oldest events are looked at for what is missing before them.
const EDGE_EVENTS: usize = 20;

/// An event of history with the states around it.
struct Old {
    event: Event,
    before: Root,
    after: Root,
    nodes: NewNodes,
    /// Events that refer to it came before it.
    is_parent: bool,
}

impl Rooms {
    /// Keeps a stretch of history, oldest event first. Of those whose predecessors are not known, `told` has the state
    /// before each, whose events must all be known, see [`keep_outliers`](Self::keep_outliers); what is not told of is
    /// left out. How many events were new.
    pub async fn keep_history(
        &self,
        room: &RoomId,
        events: Vec<Event>,
        told: &[(OwnedEventId, Vec<OwnedEventId>)],
    ) -> Result<usize, ReceiveError> {
        let room = self.room(room)?;
        let (commit, count) = {
            // The writer's lock, so that no two stretches are given the same orders.
            let _head = room.head.lock();
            let mut nodes = NewNodes::default();
            let mut stretch: Vec<Old> = Vec::new();
            for event in events {
                if event.room_id() != room.id() || room.core.place_of(event.event_id())?.is_some() {
                    continue;
                }
                let state = told.iter().find(|(before, _)| before == event.event_id());
                let state = state.map(|(_, state)| room.state_of(state)).transpose()?;
                let state = state.map(|(root, mut new)| {
                    nodes.append(&mut new);
                    root
                });
                stretch.extend(room.judge_old(event, state)?);
            }
            let Some(first) = stretch.first_mut() else { return Ok(0) };
            first.nodes.append(&mut nodes);
            let count = stretch.len();
            (room.put_in_front(stretch)?, count)
        };
        commit.await?;
        Ok(count)
    }

    /// Fetches history before what we have of a room, if there is any and somebody to ask. Whether there is more now.
    pub async fn fetch_history(&self, room: &Arc<Room>, limit: usize) -> Result<bool, crate::CommandError> {
        if room.history_edge()?.is_empty() {
            return Ok(false);
        }
        match self.elsewhere.get() {
            Some(elsewhere) => elsewhere.backfill(room, room.lowest_order()?, limit).await,
            None => Ok(false),
        }
    }
}

impl Room {
    /// The oldest events that we have whose predecessors we lack: where another server goes on from.
    pub fn history_edge(&self) -> Result<Vec<OwnedEventId>, ReadError> {
        let oldest = self.core.timeline(self.no(), Order::MIN, Order::MAX - 1, EDGE_EVENTS, Direction::Forward)?;
        let mut edge = Vec::new();
        for placed in oldest {
            let lacks = |id: &EventId| Ok::<_, ReadError>(self.state_after_event(id)?.is_none());
            let mut lacking = false;
            for id in placed.event.prev_events() {
                lacking |= lacks(id)?;
            }
            if lacking {
                edge.push(placed.event.event_id().to_owned());
            }
        }
        Ok(edge)
    }

    /// The order of the oldest event that we have.
    pub(crate) fn lowest_order(&self) -> Result<Order, ReadError> {
        let oldest = self.core.timeline(self.no(), Order::MIN, Order::MAX - 1, 1, Direction::Forward)?;
        Ok(oldest.first().map_or(0, |placed| placed.order))
    }

    /// Checks 4 and 5 for an event of history; `None` for one that is refused, and kept as such, and for one of whose
    /// state nothing is known.
    fn judge_old(self: &Arc<Self>, event: Event, told: Option<Root>) -> Result<Option<Old>, ReceiveError> {
        let auth_events = self.auth_events_of(&event)?;
        let (before, mut nodes) = match self.state_before(&event, &[]) {
            Ok(known) => known,
            Err(ReceiveError::Missing { .. }) => match told {
                Some(told) => (told, NewNodes::default()),
                None => return Ok(None),
            },
            Err(error) => return Err(error),
        };
        let rules = self.rules();
        let rejected = |id: &EventId| self.is_rejected(id).unwrap_or(true);
        let refused = match auth::check_auth_events(rules, &event, &auth_events, rejected) {
            Err(refused) => Some(refused),
            Ok(()) => match refusal(auth::check(rules, &event, &Given { room: self, events: &auth_events }))? {
                Some(refused) => Some(refused),
                None => refusal(auth::check(rules, &event, &RoomAt { room: self, state: before }))?,
            },
        };
        if refused.is_some() {
            // What becomes of the commit nobody waits for: told again, the event is judged again.
            drop(self.put_aside(event, Aside::Rejected, Some(before), nodes));
            return Ok(None);
        }
        let mut after = before;
        if event.is_state() {
            let (root, mut new) = self.core.state_after(before, &event)?;
            after = root;
            nodes.append(&mut new);
        }
        let pending = Pending { event: event.clone(), state_after: Some(after), aside: None };
        self.pending.lock().insert(event.event_id().to_owned(), pending);
        let is_parent = self.has_children(event.event_id())?;
        Ok(Some(Old { event, before, after, nodes, is_parent }))
    }

    fn put_in_front(self: &Arc<Self>, stretch: Vec<Old>) -> Result<Commit, ReceiveError> {
        let length = Order::try_from(stretch.len()).expect("a stretch is short");
        let first = self.lowest_order()?.min(0) - length;
        let (room, domain, no) = (self.clone(), self.core.domain(), self.no());
        let unsettled = Unsettled::new(self);
        Ok(self.core.shard.submit(move |txn| {
            let mut ids = Vec::with_capacity(stretch.len());
            let mut nodes = NewNodes::default();
            for (order, old) in (first..).zip(stretch) {
                let id = old.event.event_id().to_owned();
                for new in &old.nodes {
                    txn.put(&STATE_NODE, domain, &new.id.to_bytes(), &Bytes::from(new.bytes.clone()));
                }
                nodes.extend(old.nodes);
                if let Some((parent, relation)) = relations::of(&old.event) {
                    txn.put(&RELATION, domain, &(no, parent.to_string(), order), &relation);
                }
                if old.is_parent {
                    txn.put(&PARENT, domain, &(no, order), &());
                }
                let placed = Placed {
                    order,
                    event: old.event,
                    state_before: old.before,
                    state_after: old.after,
                    current: old.after,
                    redacted_by: None,
                    replaces: None,
                    txn: None,
                };
                txn.put(&TIMELINE, domain, &(no, order), &placed.record());
                search::note_old(txn, domain, no, &placed);
                txn.put(&EVENT, domain, id.as_str(), &Place { room: no, order });
                txn.delete(&ASIDE, domain, id.as_str());
                ids.push(id);
            }
            txn.on_durable(move |position| {
                unsettled.settle();
                room.core.nodes_stored(&nodes, position);
                room.raise_floor();
                let mut pending = room.pending.lock();
                for id in &ids {
                    pending.remove(id);
                    room.core.forget(id);
                }
            });
        }))
    }

    /// Whether events that refer to `parent` came before it.
    pub(crate) fn has_children(&self, parent: &EventId) -> Result<bool, ReadError> {
        let view = self.core.shard.view();
        let key = (self.no(), parent.as_str());
        let found = view.prefix(&RELATION, self.core.domain(), &key, Direction::Forward).next().transpose()?;
        Ok(found.is_some())
    }
}
