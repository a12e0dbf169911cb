//! One room in memory: the writer's head, what is durable for readers, the newest events, who of us is in it.
//!
//! Invariants:
//! 1. There is at most one `Room` in memory for each room (`registry.rs` sees to it), so `head` is *the* writer.
//! 2. `head` may be ahead of the disk by commits that are under way; `published` never is: it is swapped by the
//!    shard's writer after the sync, in the order of the log.
//! 3. Every event with an order above `recent.floor` is in `recent`.
//! 4. An event is in `pending` from its staging until it is published.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use koine_graph::{Event, RoomVersionRules};
use koine_store::Position;
use parking_lot::{Mutex, RwLock};
use ruma_common::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId};
use tokio::sync::watch;

use crate::{
    core::Core,
    error::ReadError,
    hub::{Hub, Subject},
    partial::Partial,
    policy,
    state::{Root, root_bytes},
    tables::{Aside, EventRecord, Membership, MembershipRecord, OUTLIER, Order, RoomNo},
    typing::Typing,
    unread::UnreadCounts,
    write::TxnKey,
};

/// Newest events of a loaded room that are kept in memory.
pub const RECENT_EVENTS_MAX: usize = 64;

/// A room. Readers ask it, commands go through [`Rooms`](crate::Rooms).
pub struct Room {
    pub(crate) core: Arc<Core>,
    no: RoomNo,
    id: OwnedRoomId,
    version: RoomVersionId,
    rules: RoomVersionRules,
    pub(crate) head: Mutex<Head>,
    pub(crate) pending: Mutex<HashMap<OwnedEventId, Pending>>,
    published: ArcSwap<Published>,
    recent: Mutex<Recent>,
    /// Local people with their membership, as published.
    locals: RwLock<HashMap<OwnedUserId, MembershipRecord>>,
    pub(crate) typing: Mutex<Typing>,
    /// What local people have not read.
    pub(crate) unread: UnreadCounts,
    /// Transactions whose commit is under way.
    pub(crate) txns: Mutex<HashMap<TxnKey, OwnedEventId>>,
    /// Log position of the newest receipt, at the least; most readers have nothing to look for.
    pub(crate) receipts_newest: AtomicU64,
    /// Set while the state lacks members.
    pub(crate) partial: watch::Sender<Option<Arc<Partial>>>,
    /// The policy server of the state that was asked about last.
    pub(crate) policy: Mutex<policy::Remembered>,
    /// A commit failed: `head` is wrong, and the registry loads the room anew.
    broken: AtomicBool,
}

/// Where the writer stands.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Current state, resolved over all extremities.
    pub(crate) state: Root,
    /// Events that nothing refers to yet, each with the state after it.
    pub(crate) extremities: Vec<(OwnedEventId, Root)>,
    /// Greatest depth among them.
    pub(crate) depth: u64,
    /// Members joined and invited.
    pub(crate) joined: u64,
    pub(crate) invited: u64,
    /// What the policy server signed of the command that holds the head just now, to be added in place of a new event.
    pub(crate) signed: Option<Event>,
}

/// What readers may know: all of it is durable.
#[derive(Clone, Debug)]
pub struct Published {
    /// Current state.
    pub state: Root,
    /// Order of the newest event.
    pub order: Order,
    /// Members joined.
    pub joined: u64,
    /// Members invited.
    pub invited: u64,
}

/// An event in its place.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Where it stands in the room.
    pub order: Order,
    /// The event itself.
    pub event: Event,
    /// State before it.
    pub state_before: Root,
    /// State after it, on its own branch of the graph.
    pub state_after: Root,
    /// The room's current state once the event was in, over all branches.
    pub current: Root,
    /// The redaction that emptied it.
    pub redacted_by: Option<OwnedEventId>,
    /// For a state event: the one it replaced.
    pub replaces: Option<OwnedEventId>,
    /// Device and transaction id of the request that made it.
    pub txn: Option<(String, String)>,
}

/// An event whose commit is under way.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) event: Event,
    /// State after it; `None` where what is around it is not known.
    pub(crate) state_after: Option<Root>,
    /// Why it will stand in no timeline.
    pub(crate) aside: Option<Aside>,
}

struct Recent {
    /// Everything above this order is in `events`.
    floor: Order,
    events: VecDeque<Arc<Placed>>,
}

impl Room {
    pub(crate) fn new(
        core: Arc<Core>,
        (no, id): (RoomNo, OwnedRoomId),
        (version, rules): (RoomVersionId, RoomVersionRules),
        head: Head,
        order: Order,
        locals: HashMap<OwnedUserId, MembershipRecord>,
    ) -> Self {
        let published = Published { state: head.state, order, joined: head.joined, invited: head.invited };
        Self {
            core,
            no,
            id,
            version,
            rules,
            head: Mutex::new(head),
            pending: Mutex::new(HashMap::new()),
            published: ArcSwap::from_pointee(published),
            // Of a room that has nothing on disk yet, everything there will be comes through here.
            recent: Mutex::new(Recent { floor: if order == 0 { Order::MIN } else { order }, events: VecDeque::new() }),
            locals: RwLock::new(locals),
            typing: Mutex::new(Typing::default()),
            unread: UnreadCounts::default(),
            txns: Mutex::new(HashMap::new()),
            receipts_newest: AtomicU64::new(u64::MAX),
            partial: watch::Sender::new(None),
            policy: Mutex::new(None),
            broken: AtomicBool::new(false),
        }
    }

    /// The same room under a number of its own, before anybody else knows it.
    pub(crate) fn numbered(mut self, no: RoomNo) -> Self {
        self.no = no;
        self
    }

    /// Whether a commit failed, so that the head is not to be built upon.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    pub(crate) fn break_off(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// Its short number.
    pub fn no(&self) -> RoomNo {
        self.no
    }

    /// Its id.
    pub fn id(&self) -> &RoomId {
        &self.id
    }

    /// Its version.
    pub fn version(&self) -> &RoomVersionId {
        &self.version
    }

    /// The rules of its version.
    pub fn rules(&self) -> &RoomVersionRules {
        &self.rules
    }

    /// The newest durable state of affairs.
    pub fn published(&self) -> Arc<Published> {
        self.published.load_full()
    }

    /// Membership of a local user, as published. `None`: never was in the room.
    pub fn local_membership(&self, user: &UserId) -> Option<Membership> {
        self.locals.read().get(user).map(|record| record.membership)
    }

    /// What is written about the membership of a local user, as published. `None`: never was in the room.
    pub fn local_record(&self, user: &UserId) -> Option<MembershipRecord> {
        self.locals.read().get(user).cloned()
    }

    /// Local people who are joined.
    pub fn local_joined(&self) -> Vec<OwnedUserId> {
        let locals = self.locals.read();
        locals
            .iter()
            .filter(|(_, record)| record.membership == Membership::Join)
            .map(|(user, _)| user.clone())
            .collect()
    }

    /// Local people who have, or had, anything to do with the room.
    pub fn local_people(&self) -> Vec<OwnedUserId> {
        self.locals.read().keys().cloned().collect()
    }

    /// Whether nobody of ours is in the room, and all who were have forgotten it.
    pub fn is_forgotten_by_all(&self) -> bool {
        let is_over = |record: &MembershipRecord| {
            record.forgotten && matches!(record.membership, Membership::Leave | Membership::Ban)
        };
        self.locals.read().values().all(is_over)
    }

    /// Calls `tell` with each joined local user, without collecting them.
    pub(crate) fn for_local_joined<T>(&self, tell: impl FnOnce(&mut dyn Iterator<Item = &UserId>) -> T) -> T {
        let locals = self.locals.read();
        let mut joined =
            locals.iter().filter(|(_, record)| record.membership == Membership::Join).map(|(user, _)| &**user);
        tell(&mut joined)
    }

    /// Notes a change for the joined local people who are connected.
    pub(crate) fn deliver(&self, hub: &Hub, subject: Subject, position: Position) {
        let locals = self.locals.read();
        let is_joined = |record: &MembershipRecord| record.membership == Membership::Join;
        let all = locals.iter().filter(|(_, record)| is_joined(record)).map(|(user, _)| &**user);
        hub.deliver_among(locals.len(), all, |user| locals.get(user).is_some_and(is_joined), (subject, position));
    }

    /// The event of the state `state` with this type and state key.
    pub fn state_event(&self, state: Root, kind: &str, state_key: &str) -> Result<Option<Arc<Placed>>, ReadError> {
        match self.core.state_get(state, kind, state_key)? {
            Some(id) => self.core.holding(&id)?.ok_or_else(|| missing(&id)).map(Some),
            None => Ok(None),
        }
    }

    /// The event of the current state with this type and state key.
    pub fn current(&self, kind: &str, state_key: &str) -> Result<Option<Arc<Placed>>, ReadError> {
        self.state_event(self.published.load().state, kind, state_key)
    }

    /// An event of this room by id, whoever may see it. Use `visibility.rs` before showing it to anybody.
    pub fn event(&self, id: &ruma_common::EventId) -> Result<Option<Arc<Placed>>, ReadError> {
        Ok(self.core.event_in(id)?.filter(|(room, _)| *room == self.no).map(|(_, placed)| placed))
    }

    /// Newest events first, with orders in `(after, up_to]`, at most `limit`; from memory when they are there.
    pub fn newest(&self, after: Order, up_to: Order, limit: usize) -> Result<Vec<Arc<Placed>>, ReadError> {
        {
            let recent = self.recent.lock();
            let mut found = Vec::with_capacity(limit.min(RECENT_EVENTS_MAX));
            for placed in recent.events.iter().rev().filter(|placed| placed.order <= up_to) {
                if placed.order <= after || found.len() == limit {
                    return Ok(found);
                }
                found.push(placed.clone());
            }
            if after >= recent.floor || found.len() == limit {
                return Ok(found);
            }
        }
        let found = self.core.timeline_backwards(self.no(), after, up_to, limit)?;
        if found.first().is_some_and(|newest| newest.order == self.published().order) {
            self.fill_recent(&found, (found.len() < limit).then_some(after));
        }
        Ok(found)
    }

    /// What was read from the end of the timeline is kept for the next reader, if nothing is in memory yet. `all_after`:
    /// it is everything after this order.
    fn fill_recent(&self, newest_first: &[Arc<Placed>], all_after: Option<Order>) {
        let mut recent = self.recent.lock();
        let newest = newest_first.first().map(|placed| placed.order);
        if !recent.events.is_empty() || newest != Some(recent.floor) {
            return;
        }
        let kept = newest_first.get(..newest_first.len().min(RECENT_EVENTS_MAX)).unwrap_or_default();
        recent.events.extend(kept.iter().rev().cloned());
        if let Some(oldest) = kept.last() {
            recent.floor = all_after.filter(|_| kept.len() == newest_first.len()).unwrap_or(oldest.order - 1);
        }
    }

    /// Events came in front of all others: what is in memory is not everything any more.
    pub(crate) fn raise_floor(&self) {
        let mut recent = self.recent.lock();
        recent.floor = recent.floor.max(0);
    }

    /// Called by the shard's writer after the sync, in the order of the log.
    pub(crate) fn publish(
        &self,
        published: Published,
        events: Vec<Arc<Placed>>,
        members: Vec<(OwnedUserId, MembershipRecord)>,
    ) {
        if !members.is_empty() {
            self.locals.write().extend(members);
            self.stop_typing_of_leavers();
        }
        let mut pending = self.pending.lock();
        let mut recent = self.recent.lock();
        for placed in events {
            pending.remove(placed.event.event_id());
            self.core.remember(self.no, &placed);
            recent.events.push_back(placed);
            if recent.events.len() > RECENT_EVENTS_MAX
                && let Some(oldest) = recent.events.pop_front()
            {
                recent.floor = oldest.order;
            }
        }
        drop(recent);
        self.published.store(Arc::new(published));
    }

    /// A local user's membership changed without an event. Called by the shard's writer after the sync.
    pub(crate) fn publish_member(&self, user: OwnedUserId, record: MembershipRecord) {
        self.locals.write().insert(user, record);
    }

    /// An event left the timeline.
    pub(crate) fn drop_recent(&self, placed: &Placed) {
        self.core.forget(placed.event.event_id());
        self.recent.lock().events.retain(|recent| recent.order != placed.order);
    }

    /// Puts the emptied form of a redacted event in place of the full one, wherever it is in memory.
    pub(crate) fn replace(&self, placed: &Arc<Placed>) {
        self.core.remember(self.no, placed);
        let mut recent = self.recent.lock();
        if let Some(old) = recent.events.iter_mut().find(|old| old.order == placed.order) {
            *old = placed.clone();
        }
    }
}

impl Placed {
    /// It came as part of a state, and stands in no timeline.
    pub fn is_outlier(&self) -> bool {
        self.order == OUTLIER
    }

    pub(crate) fn record(&self) -> EventRecord {
        EventRecord {
            event_id: self.event.event_id().to_string(),
            state_before: root_bytes(self.state_before),
            state_after: root_bytes(self.state_after),
            current: root_bytes(self.current),
            redacted_by: self.redacted_by.as_ref().map(ToString::to_string),
            replaces: self.replaces.as_ref().map(ToString::to_string),
            txn: self.txn.clone(),
            json: self.event.json().clone(),
        }
    }
}

pub(crate) fn missing(id: &ruma_common::EventId) -> ReadError {
    ReadError::Damaged(format!("the state names {id}, which is not stored"))
}
