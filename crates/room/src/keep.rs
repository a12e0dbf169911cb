//! Events that come in bulk, as a state and what allows it: kept without judging their place in the graph.
//!
//! They come in any order, and each can be judged only after what allows it. So they wait until all are here: in memory
//! as long as those of all rooms together stay below a bound, in the store beyond it. Of an event that waits there,
//! memory holds its id and the numbers of its auth events. What never was judged is gone with the next start.
//! [SS-API §checks-performed-on-receipt-of-a-pdu] 4.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use koine_graph::{Event, auth, state::Edit};
use koine_store::{Commit, bytes::Bytes};
use ruma_common::{EventId, OwnedEventId, OwnedUserId, RoomId};

use crate::{
    core::EVENT_OVERHEAD,
    error::ReadError,
    receive::{Given, ReceiveError},
    registry::Rooms,
    room::Room,
    tables::{ASIDE, Aside, AsideRecord, Membership, SPOOL},
};

/// Most events that one state and its auth chain may have.
pub const KEEPING_EVENTS_MAX: usize = 400_000;
/// Bytes of events that one command writes.
const CHUNK_BYTES: usize = 2 * 1024 * 1024;
/// Auth events that are at hand while others are judged: most are named by nearly all.
const AT_HAND_MAX: usize = 4_096;

/// What an event that comes in bulk is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The state that is told.
    State,
    /// What allows it.
    AuthChain,
}

/// Events on their way in, see the module's text.
pub struct Keeping {
    room: Arc<Room>,
    numbers: HashMap<OwnedEventId, u32>,
    waiting: Vec<Waiting>,
    /// Bytes of events in memory, as counted by the core.
    held: u64,
    /// Under which number events wait in the store, once some do.
    spool: Option<u64>,
    spooled: Vec<u32>,
    spooling: Option<Commit>,
    /// The create event, on which everything rests.
    create: Option<u32>,
    /// Auth events, and whether they were rejected.
    at_hand: HashMap<OwnedEventId, (Event, bool)>,
    kept: Kept,
}

struct Waiting {
    id: OwnedEventId,
    auth: Box<[u32]>,
    place: Place,
    is_state: bool,
}

enum Place {
    /// Named by others, and not here so far.
    Nowhere,
    /// Known before.
    Known,
    Memory(Event),
    Store,
}

/// Somebody, their membership, and the event that says so.
pub(crate) type Member = (OwnedUserId, Membership, OwnedEventId);

/// What became of events that came in bulk.
#[derive(Debug, Default)]
pub struct Kept {
    /// The told state: what of it is allowed by its own auth events.
    pub(crate) state: Vec<Edit>,
    pub(crate) members: Vec<Member>,
    ids: Vec<OwnedEventId>,
    unjudged: usize,
}

impl Kept {
    /// The events of the told state that hold.
    pub fn state_ids(&self) -> &[OwnedEventId] {
        &self.ids
    }

    /// How many events were not kept, since something that allows them is missing.
    pub fn unjudged(&self) -> usize {
        self.unjudged
    }

    fn told(&mut self, event: &Event) {
        let Some(key) = event.state_key() else { return };
        self.state.push(Edit::set(event.kind(), key, event.event_id().to_owned()));
        self.ids.push(event.event_id().to_owned());
        self.members.extend(member_of(event));
    }
}

/// Whose membership an event changes, and to what.
pub(crate) fn member_of(event: &Event) -> Option<Member> {
    let user = event.state_key().filter(|_| event.kind() == "m.room.member")?;
    let user = OwnedUserId::try_from(user).ok()?;
    Some((user, event.membership()?.into(), event.event_id().to_owned()))
}

impl Rooms {
    /// Begins to take in events of a room that is known.
    pub fn keep(&self, room: &RoomId) -> Result<Keeping, ReceiveError> {
        Ok(Keeping::new(self.room(room)?))
    }

    /// Keeps events that came as part of a state or an auth chain, without judging their place in the graph. Each must
    /// be allowed by its own auth events, given here or known before; those that are not, and what rests on them, are
    /// kept as rejected. What cannot be judged, since an auth event is missing, is not kept.
    pub async fn keep_outliers(&self, room: &RoomId, events: Vec<Event>) -> Result<(), ReceiveError> {
        let mut keeping = self.keep(room)?;
        keeping.add(Part::AuthChain, events).await?;
        keeping.judge().await.map(drop)
    }
}

impl Keeping {
    pub(crate) fn new(room: Arc<Room>) -> Self {
        Self {
            room,
            numbers: HashMap::new(),
            waiting: Vec::new(),
            held: 0,
            spool: None,
            spooled: Vec::new(),
            spooling: None,
            create: None,
            at_hand: HashMap::new(),
            kept: Kept::default(),
        }
    }

    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Takes events whose signatures and hashes were checked. Waits while the store is behind.
    pub async fn add(&mut self, part: Part, events: Vec<Event>) -> Result<(), ReceiveError> {
        let mut spooled = Vec::new();
        for event in events {
            if event.room_id() != self.room.id() {
                return Err(ReceiveError::OtherRoom(event.room_id().to_string()));
            }
            let number = self.number_of(event.event_id())?;
            let auth = event.auth_events().iter().map(|id| self.number_of(id)).collect::<Result<_, _>>()?;
            let is_known = self.room.known(event.event_id())?.is_some();
            let weight = event.json().len() as u64 + EVENT_OVERHEAD;
            let waiting = &mut self.waiting[number as usize];
            waiting.is_state |= part == Part::State;
            if !matches!(waiting.place, Place::Nowhere) {
                continue;
            }
            if is_known {
                waiting.place = Place::Known;
                continue;
            }
            waiting.auth = auth;
            if event.is("m.room.create", "") {
                self.create = Some(number);
            }
            if self.room.core.hold_bytes(weight) {
                self.held += weight;
                waiting.place = Place::Memory(event);
            } else {
                waiting.place = Place::Store;
                spooled.push((number, event.json().clone()));
            }
        }
        if spooled.is_empty() { Ok(()) } else { self.spool(spooled).await }
    }

    fn number_of(&mut self, id: &EventId) -> Result<u32, ReceiveError> {
        if let Some(number) = self.numbers.get(id) {
            return Ok(*number);
        }
        if self.waiting.len() >= KEEPING_EVENTS_MAX {
            return Err(ReceiveError::TooMany { max: KEEPING_EVENTS_MAX });
        }
        let number = u32::try_from(self.waiting.len()).expect("fewer than the bound");
        self.numbers.insert(id.to_owned(), number);
        self.waiting.push(Waiting { id: id.to_owned(), auth: [].into(), place: Place::Nowhere, is_state: false });
        Ok(number)
    }

    async fn spool(&mut self, events: Vec<(u32, Bytes)>) -> Result<(), ReceiveError> {
        if let Some(before) = self.spooling.take() {
            before.await?;
        }
        let core = &self.room.core;
        let spool = *self.spool.get_or_insert_with(|| core.spools.fetch_add(1, Ordering::Relaxed));
        let domain = core.domain();
        self.spooled.extend(events.iter().map(|(number, _)| *number));
        self.spooling = Some(core.shard.submit(move |txn| {
            for (number, json) in &events {
                txn.put(&SPOOL, domain, &(spool, *number), json);
            }
        }));
        Ok(())
    }

    /// Judges all that came, on a thread where that holds nobody up.
    pub async fn judge(mut self) -> Result<Kept, ReceiveError> {
        if let Some(before) = self.spooling.take() {
            before.await?;
        }
        let mut order = self.in_order_of_auth().into_iter();
        let mut under_way: Option<Commit> = None;
        loop {
            let judging = tokio::task::spawn_blocking(move || {
                let commit = self.judge_some(&mut order);
                (self, order, commit)
            });
            let commit;
            (self, order, commit) = match judging.await {
                Ok(judged) => judged,
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            };
            // One chunk is written while the next is judged; more would be held in memory.
            if let Some(before) = under_way.take() {
                before.await?;
            }
            under_way = commit?;
            if under_way.is_none() {
                return Ok(std::mem::take(&mut self.kept));
            }
        }
    }

    /// Numbers so that each event comes after its auth events. What goes in a ring comes last.
    fn in_order_of_auth(&self) -> Vec<u32> {
        let count = u32::try_from(self.waiting.len()).expect("fewer than the bound");
        let mut seen = vec![false; self.waiting.len()];
        let mut order = Vec::with_capacity(self.waiting.len());
        let mut stack: Vec<(u32, usize)> = Vec::new();
        // Since version 12 everything rests on the create event without naming it.
        for from in self.create.into_iter().chain(0..count) {
            if std::mem::replace(&mut seen[from as usize], true) {
                continue;
            }
            stack.push((from, 0));
            while let Some((number, next)) = stack.last_mut() {
                match self.waiting[*number as usize].auth.get(*next) {
                    Some(auth) => {
                        *next += 1;
                        if !std::mem::replace(&mut seen[*auth as usize], true) {
                            stack.push((*auth, 0));
                        }
                    }
                    None => order.extend(stack.pop().map(|(number, _)| number)),
                }
            }
        }
        order
    }

    /// Judges as many as one command writes. `None`: there are no more.
    fn judge_some(&mut self, order: &mut std::vec::IntoIter<u32>) -> Result<Option<Commit>, ReceiveError> {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        let mut released = 0;
        for number in order {
            let waiting = &mut self.waiting[number as usize];
            let (is_state, id) = (waiting.is_state, waiting.id.clone());
            let event = match std::mem::replace(&mut waiting.place, Place::Nowhere) {
                Place::Nowhere => continue,
                Place::Known => {
                    if is_state
                        && let Some(event) = self.room.known(&id)?
                        && !self.room.is_rejected(&id)?
                    {
                        self.kept.told(&event);
                    }
                    continue;
                }
                Place::Memory(event) => {
                    released += event.json().len() as u64 + EVENT_OVERHEAD;
                    event
                }
                Place::Store => self.spooled_event(number, id)?,
            };
            let why = match self.is_allowed_by_its_auth_events(&event)? {
                Some(true) => Aside::Outlier,
                Some(false) => Aside::Rejected,
                // Without what allows it there is no verdict, and what has none is not kept: asked for the event later,
                // we say that it is missing.
                None => {
                    self.kept.unjudged += 1;
                    continue;
                }
            };
            self.room.remember_pending(&event, why);
            if is_state && why == Aside::Outlier {
                self.kept.told(&event);
            }
            bytes += event.json().len();
            chunk.push((event, why));
            if bytes > CHUNK_BYTES {
                break;
            }
        }
        self.release(released);
        Ok((!chunk.is_empty()).then(|| self.room.commit_outliers(chunk)))
    }

    fn spooled_event(&self, number: u32, id: OwnedEventId) -> Result<Event, ReadError> {
        let core = &self.room.core;
        let key = (self.spool.unwrap_or_default(), number);
        let json = core.shard.get(&SPOOL, core.domain(), &key)?;
        let json = json.ok_or_else(|| ReadError::Damaged(format!("{id} waited in the store and is gone")))?;
        Event::from_stored(json, id).map_err(|error| ReadError::Damaged(error.to_string()))
    }

    /// `None` where an auth event is not known.
    fn is_allowed_by_its_auth_events(&mut self, event: &Event) -> Result<Option<bool>, ReceiveError> {
        let mut given = Vec::with_capacity(event.auth_events().len());
        for id in event.auth_events() {
            if !self.at_hand.contains_key(id) {
                let Some(auth_event) = self.room.known(id)? else { return Ok(None) };
                let rejected = self.room.is_rejected(id)?;
                if self.at_hand.len() >= AT_HAND_MAX {
                    self.at_hand.clear();
                }
                self.at_hand.insert(id.clone(), (auth_event, rejected));
            }
            if let Some((auth_event, rejected)) = self.at_hand.get(id) {
                given.push((auth_event.clone(), *rejected));
            }
        }
        let rejected = |id: &EventId| given.iter().any(|(known, rejected)| *rejected && known.event_id() == id);
        let events: Vec<Event> = given.iter().map(|(event, _)| event.clone()).collect();
        let rules = self.room.rules();
        if auth::check_auth_events(rules, event, &events, rejected).is_err() {
            return Ok(Some(false));
        }
        match auth::check(rules, event, &Given { room: &self.room, events: &events }) {
            Ok(()) => Ok(Some(true)),
            Err(error) => error.into_refusal().map(|_| Some(false)).map_err(ReceiveError::from),
        }
    }

    fn release(&mut self, bytes: u64) {
        self.held -= bytes;
        self.room.core.release_bytes(bytes);
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.room.core.release_bytes(self.held);
        if let Some(spool) = self.spool {
            self.room.core.clear_spool(&self.spooled.drain(..).map(|number| (spool, number)).collect::<Vec<_>>());
        }
    }
}

impl Room {
    fn commit_outliers(self: &Arc<Self>, events: Vec<(Event, Aside)>) -> Commit {
        let (room, domain) = (self.clone(), self.core.domain());
        self.core.shard.submit(move |txn| {
            for (event, why) in &events {
                let record = AsideRecord { room: room.no(), why: *why, state_after: None, json: event.json().clone() };
                txn.put(&ASIDE, domain, event.event_id().as_str(), &record);
            }
            txn.on_durable(move |_| {
                let mut pending = room.pending.lock();
                for (event, _) in &events {
                    // What came into the timeline meanwhile is not ours to take out.
                    if pending.get(event.event_id()).is_some_and(|known| known.aside.is_some()) {
                        pending.remove(event.event_id());
                    }
                }
            });
        })
    }
}
