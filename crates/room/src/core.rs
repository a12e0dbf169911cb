//! What all rooms of a domain share: the shard, the caches, the settings.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use koine_graph::{
    Draft, DraftError, Event, Legacy, RoomVersionRules, SigningKey,
    event::{EVENT_BYTES_MAX, FIELD_BYTES_MAX},
};
use koine_store::{Direction, DomainId, Shard, Txn};
use quick_cache::{Weighter, sync::Cache};
use ruma_common::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, room_version_rules::EventIdFormatVersion,
};

use crate::{
    error::{CommandError, ReadError},
    hub::Hub,
    room::{Placed, Room},
    state::{NodeCache, Root, root_of},
    tables::{ASIDE, Aside, AsideRecord, EVENT, EventRecord, OUTLIER, Order, Place, RoomNo, SPOOL, TIMELINE},
};

/// Settings of the rooms of one domain.
pub struct RoomsConfig {
    /// The tenant in the store.
    pub domain: DomainId,
    /// Its name: the part after the colon in its ids.
    pub server_name: OwnedServerName,
    /// Signs its events.
    pub signing_key: SigningKey,
    /// Bytes that the caches of events and state nodes may take together.
    pub cache_bytes: u64,
    /// The time.
    pub now: fn() -> MilliSecondsSinceUnixEpoch,
    /// A name that nothing has yet, for rooms and, in versions 1 and 2, events: [`opaque_id`], if nobody wants to see the
    /// same again.
    pub opaque_id: fn() -> String,
}

/// Rows that one command deletes.
const SPOOL_CLEARED_AT_ONCE: usize = 10_000;

pub(crate) struct Core {
    pub(crate) config: RoomsConfig,
    pub(crate) shard: Shard,
    pub(crate) hub: Hub,
    pub(crate) nodes: NodeCache,
    events: Cache<OwnedEventId, (RoomNo, Arc<Placed>), EventWeight>,
    /// Bytes of events that wait in memory to be judged, see `keep.rs`.
    held: AtomicU64,
    /// The number that the next events waiting in the store get.
    pub(crate) spools: AtomicU64,
    /// Who else writes something of each event.
    pub(crate) scribe: OnceLock<Scribe>,
}

/// Writes rows of another crate's own for an event, in the commit that puts it into its room: they are as durable as it is, and cost
/// no sync of their own. It must be quick, since the shard's one writer waits for it.
pub type Scribe = Box<dyn Fn(&mut Txn, RoomNo, &Placed) + Send + Sync>;

#[derive(Clone)]
struct EventWeight;

/// What an event takes in memory beside its JSON: parsed head, ids, cache entry.
pub(crate) const EVENT_OVERHEAD: u64 = 700;

impl Weighter<OwnedEventId, (RoomNo, Arc<Placed>)> for EventWeight {
    fn weight(&self, _: &OwnedEventId, (_, placed): &(RoomNo, Arc<Placed>)) -> u64 {
        placed.event.json().len() as u64 + EVENT_OVERHEAD
    }
}

impl Core {
    pub(crate) fn new(shard: Shard, config: RoomsConfig) -> Self {
        // Three eighths each for events and for state nodes; the registry's rooms have the rest.
        let share = config.cache_bytes / 8 * 3;
        let hub = Hub::new(shard.position());
        Self {
            nodes: NodeCache::new(share),
            events: Cache::with_weighter((share / 1500).max(16) as usize, share, EventWeight),
            config,
            shard,
            hub,
            held: AtomicU64::new(0),
            spools: AtomicU64::new(0),
            scribe: OnceLock::new(),
        }
    }

    /// Lets whoever else writes something of an event do it.
    pub(crate) fn inscribe(&self, txn: &mut Txn, room: RoomNo, placed: &Placed) {
        if let Some(scribe) = self.scribe.get() {
            scribe(txn, room, placed);
        }
    }

    /// Whether so many bytes more of events may wait in memory to be judged: all together an eighth of what the caches
    /// may take.
    pub(crate) fn hold_bytes(&self, bytes: u64) -> bool {
        let fits = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.config.cache_bytes / 8;
        if !fits {
            self.release_bytes(bytes);
        }
        fits
    }

    pub(crate) fn release_bytes(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Deletes events that waited in the store. Nobody waits for it: the next start clears what it leaves.
    pub(crate) fn clear_spool(&self, keys: &[(u64, u32)]) {
        let domain = self.domain();
        for some in keys.chunks(SPOOL_CLEARED_AT_ONCE) {
            let some = some.to_vec();
            drop(self.shard.submit(move |txn| some.iter().for_each(|key| txn.delete(&SPOOL, domain, key))));
        }
    }

    /// Deletes what waited in the store when the program ended.
    pub(crate) fn clear_spools(&self) -> Result<(), ReadError> {
        let view = self.shard.view();
        let mut keys = Vec::new();
        for row in view.scan(&SPOOL, self.domain(), .., Direction::Forward) {
            keys.push(row?.0);
        }
        self.clear_spool(&keys);
        Ok(())
    }

    pub(crate) fn domain(&self) -> DomainId {
        self.config.domain
    }

    pub(crate) fn cache_bytes(&self) -> u64 {
        self.nodes.bytes() + self.events.weight()
    }

    pub(crate) fn remember(&self, room: RoomNo, placed: &Arc<Placed>) {
        self.events.insert(placed.event.event_id().to_owned(), (room, placed.clone()));
    }

    /// Whether an event is in memory, which only those are that hold: in a timeline, or as part of a state.
    pub(crate) fn remembers(&self, id: &EventId) -> bool {
        self.events.peek(id).is_some()
    }

    /// Drops what is remembered of an event whose place changed.
    pub(crate) fn forget(&self, id: &EventId) {
        self.events.remove(id);
    }

    /// An event by id, in whatever room.
    pub(crate) fn event_in(&self, id: &EventId) -> Result<Option<(RoomNo, Arc<Placed>)>, ReadError> {
        if let Some(found) = self.events.get(id) {
            return Ok(Some(found));
        }
        let Some(place) = self.shard.get(&EVENT, self.domain(), id.as_str())? else { return self.outlier(id) };
        let Some(record) = self.shard.get(&TIMELINE, self.domain(), &(place.room, place.order))? else {
            return Err(ReadError::Damaged(format!("{id} is indexed but not stored")));
        };
        let placed = Arc::new(placed(place.order, &record)?);
        self.remember(place.room, &placed);
        Ok(Some((place.room, placed)))
    }

    /// An event that came as part of a state: it holds, though it stands in no timeline.
    fn outlier(&self, id: &EventId) -> Result<Option<(RoomNo, Arc<Placed>)>, ReadError> {
        let Some(record) = self.aside(id)?.filter(|record| record.why == Aside::Outlier) else { return Ok(None) };
        let placed = standing_aside(id, record.json)?;
        self.remember(record.room, &placed);
        Ok(Some((record.room, placed)))
    }

    /// An event that a state names. One that soft-failed can hold in a state nevertheless, once others have built on it.
    pub(crate) fn holding(&self, id: &EventId) -> Result<Option<Arc<Placed>>, ReadError> {
        if let Some((_, placed)) = self.event_in(id)? {
            return Ok(Some(placed));
        }
        let soft_failed = self.aside(id)?.filter(|record| record.why == Aside::SoftFailed);
        soft_failed.map(|record| standing_aside(id, record.json)).transpose()
    }

    /// Where an event of a timeline stands.
    pub(crate) fn place_of(&self, id: &EventId) -> Result<Option<Place>, ReadError> {
        Ok(self.shard.get(&EVENT, self.domain(), id.as_str())?)
    }

    /// What is written about an event that stands in no timeline.
    pub(crate) fn aside(&self, id: &EventId) -> Result<Option<AsideRecord>, ReadError> {
        Ok(self.shard.get(&ASIDE, self.domain(), id.as_str())?)
    }

    /// An event by id.
    pub(crate) fn event(&self, id: &EventId) -> Result<Option<Arc<Placed>>, ReadError> {
        Ok(self.event_in(id)?.map(|(_, placed)| placed))
    }

    /// Events of a room, newest first, with orders in `(after, up_to]`.
    pub(crate) fn timeline_backwards(
        &self,
        room: RoomNo,
        after: Order,
        up_to: Order,
        limit: usize,
    ) -> Result<Vec<Arc<Placed>>, ReadError> {
        self.timeline(room, after, up_to, limit, Direction::Backward)
    }

    /// Events of a room with orders in `(after, up_to]`, in the direction asked for.
    pub(crate) fn timeline(
        &self,
        room: RoomNo,
        after: Order,
        up_to: Order,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Arc<Placed>>, ReadError> {
        if after >= up_to || limit == 0 {
            return Ok(Vec::new());
        }
        let view = self.shard.view();
        let rows = view.scan(&TIMELINE, self.domain(), (room, after + 1)..=(room, up_to), direction);
        let mut found = Vec::new();
        for row in rows.take(limit) {
            let ((_, order), record) = row?;
            found.push(self.remembered(room, order, &record)?);
        }
        Ok(found)
    }

    /// The event of a row: the one that is in memory already, or else parsed now and remembered.
    fn remembered(&self, room: RoomNo, order: Order, record: &EventRecord) -> Result<Arc<Placed>, ReadError> {
        if let Ok(id) = <&EventId>::try_from(record.event_id.as_str())
            && let Some((_, known)) = self.events.get(id)
            && known.order == order
        {
            return Ok(known);
        }
        let placed = Arc::new(placed(order, record)?);
        self.remember(room, &placed);
        Ok(placed)
    }

    /// Hashes and signs a draft as this server.
    pub(crate) fn seal(&self, draft: Draft, rules: &RoomVersionRules, room: &Room) -> Result<Event, CommandError> {
        let is_legacy = rules.event_id_format == EventIdFormatVersion::V1;
        let opaque_id = if is_legacy { (self.config.opaque_id)() } else { String::new() };
        let reference_hash = |id: &EventId| {
            let event = room.known(id).ok().flatten()?;
            Some(event.reference_hash(rules))
        };
        let legacy = Legacy { opaque_id: &opaque_id, reference_hash: &reference_hash };
        let (server, key) = (&self.config.server_name, &self.config.signing_key);
        draft.seal_with(rules, server, key, Some(&legacy)).map_err(|error| match error {
            DraftError::TooLarge { bytes } => CommandError::TooLarge { size: bytes, max: EVENT_BYTES_MAX },
            DraftError::FieldTooLarge { bytes, .. } => CommandError::TooLarge { size: bytes, max: FIELD_BYTES_MAX },
            DraftError::HashUnknown(id) => CommandError::Damaged(format!("{id} is referred to, but not stored")),
            other => CommandError::BadContent(other.to_string()),
        })
    }
}

/// Eighteen random letters and digits.
pub fn opaque_id() -> String {
    use rand::{Rng as _, distr::Alphanumeric};
    rand::rng().sample_iter(Alphanumeric).take(18).map(char::from).collect()
}

/// An event without a place in the timeline.
fn standing_aside(id: &EventId, json: koine_store::bytes::Bytes) -> Result<Arc<Placed>, ReadError> {
    let event =
        Event::from_stored(json, id.to_owned()).map_err(|error| ReadError::Damaged(format!("event {id}: {error}")))?;
    Ok(Arc::new(Placed {
        order: OUTLIER,
        event,
        state_before: Root::EMPTY,
        state_after: Root::EMPTY,
        current: Root::EMPTY,
        redacted_by: None,
        replaces: None,
        txn: None,
    }))
}

/// A stored event, parsed.
fn placed(order: Order, record: &EventRecord) -> Result<Placed, ReadError> {
    let damaged = |what: &dyn std::fmt::Display| ReadError::Damaged(format!("event {}: {what}", record.event_id));
    let id = |text: &str| OwnedEventId::try_from(text).map_err(|error| damaged(&error));
    let event_id = id(&record.event_id)?;
    Ok(Placed {
        order,
        event: Event::from_stored(record.json.clone(), event_id).map_err(|error| damaged(&error))?,
        state_before: root_of(record.state_before),
        state_after: root_of(record.state_after),
        current: root_of(record.current),
        redacted_by: record.redacted_by.as_deref().map(id).transpose()?,
        replaces: record.replaces.as_deref().map(id).transpose()?,
        txn: record.txn.clone(),
    })
}
