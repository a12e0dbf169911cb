//! The rooms of one domain: finding them, loading them, seeing to it that each is in memory at most once.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, Weak, atomic::AtomicU64, atomic::Ordering},
};

use koine_store::{Direction, Shard};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use ruma_common::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId};

use crate::{
    core::{Core, RoomsConfig},
    elsewhere::Elsewhere,
    error::ReadError,
    hub::Hub,
    partial::Partial,
    portal::Portals,
    room::{Head, Room},
    state::root_of,
    tables::{
        HEAD, MEMBER, MEMBERSHIP, Membership, MembershipRecord, PARTIAL, RECEIPT_AT, ROOM, ROOM_ID, ROOM_NEXT, RoomNo,
    },
};

/// Most rooms kept in memory while nobody uses them.
pub const ROOMS_LOADED_MAX: usize = 20_000;
/// What a loaded room takes beside what the caches hold of it, as measured with rooms of a dozen events.
const ROOM_BYTES: u64 = 20_000;

/// The rooms of one domain. Commands and questions start here.
pub struct Rooms {
    pub(crate) core: Arc<Core>,
    /// Every room that is in memory, whoever holds it: the reason why there is one writer for each.
    loaded: Mutex<HashMap<RoomNo, Weak<Room>>>,
    /// Keeps the rooms used lately.
    warm: Cache<RoomNo, Arc<Room>>,
    /// id → number, so that finding a room costs no read.
    numbers: Cache<OwnedRoomId, RoomNo>,
    /// Whose room a room of two is.
    pub(crate) pairs: Cache<RoomNo, Option<crate::pair::Pair>>,
    next_no: AtomicU64,
    pub(crate) elsewhere: OnceLock<Arc<dyn Elsewhere>>,
    pub(crate) portals: OnceLock<Arc<dyn Portals>>,
    /// How far the index of words knows the log.
    pub(crate) indexed: Arc<crate::search::Indexed>,
    /// Rung when an event was scheduled that may be due before the others.
    pub(crate) delayed_bell: Arc<tokio::sync::Notify>,
    /// Held while an alias is looked up and written: aliases are unique.
    pub(crate) alias_writer: tokio::sync::Mutex<()>,
}

impl Rooms {
    /// Says who else writes something of each event. Once; before that, nobody does.
    pub fn set_scribe(&self, scribe: crate::Scribe) {
        // A second one would be a mistake in wiring the program: the first stays.
        let _ = self.core.scribe.set(scribe);
    }

    /// The rooms kept in `shard`, with the task that tells connected readers what is new. Needs a tokio runtime.
    pub fn open(shard: Shard, config: RoomsConfig) -> Result<Arc<Self>, ReadError> {
        let core = Arc::new(Core::new(shard, config));
        let view = core.shard.view();
        let newest = view.scan(&ROOM_ID, core.domain(), .., Direction::Backward).next().transpose()?;
        // Members are written before the room that they are in.
        let members = view.scan(&MEMBER, core.domain(), .., Direction::Backward).next().transpose()?;
        let free = core.shard.get(&ROOM_NEXT, core.domain(), &0)?.unwrap_or(1);
        let newest = newest.map(|(no, _)| no).max(members.map(|((no, _, _), _)| no));
        drop(view);
        core.clear_spools()?;
        // A quarter of what the rooms may take, beside the caches of events and of state nodes.
        let rooms_kept = usize::try_from(core.config.cache_bytes / 4 / ROOM_BYTES).unwrap_or(ROOMS_LOADED_MAX);
        let rooms_kept = rooms_kept.clamp(64, ROOMS_LOADED_MAX);
        let rooms = Arc::new(Self {
            core,
            loaded: Mutex::new(HashMap::new()),
            warm: Cache::new(rooms_kept),
            numbers: Cache::new(ROOMS_LOADED_MAX * 2),
            pairs: Cache::new(ROOMS_LOADED_MAX * 2),
            next_no: AtomicU64::new(newest.map_or(1, |no| no + 1).max(free)),
            elsewhere: OnceLock::new(),
            portals: OnceLock::new(),
            indexed: Arc::default(),
            delayed_bell: Arc::default(),
            alias_writer: tokio::sync::Mutex::new(()),
        });
        crate::dispatch::start(&rooms);
        crate::delayed::start(&rooms);
        crate::search::start(&rooms);
        crate::retention::start(&rooms);
        Ok(rooms)
    }

    /// Where connected readers learn what is new.
    pub fn hub(&self) -> &Hub {
        &self.core.hub
    }

    /// The shard underneath.
    pub fn shard(&self) -> &Shard {
        &self.core.shard
    }

    /// The tenant in the store.
    pub fn domain(&self) -> koine_store::DomainId {
        self.core.domain()
    }

    /// The name of the domain.
    pub fn server_name(&self) -> &ruma_common::ServerName {
        &self.core.config.server_name
    }

    /// A name that nothing has yet, see [`RoomsConfig::opaque_id`].
    pub fn opaque_id(&self) -> String {
        (self.core.config.opaque_id)()
    }

    pub(crate) fn new_room_id(&self) -> OwnedRoomId {
        let id = format!("!{}:{}", self.opaque_id(), self.server_name());
        id.try_into().expect("letters, digits and the name of a server are a room's id")
    }

    /// The room with this id.
    pub fn room(&self, id: &RoomId) -> Result<Arc<Room>, ReadError> {
        let no = match self.numbers.get(id) {
            Some(no) => no,
            None => {
                let record =
                    self.core.shard.get(&ROOM, self.core.domain(), id.as_str())?.ok_or(ReadError::NoSuchRoom)?;
                self.numbers.insert(id.to_owned(), record.no);
                record.no
            }
        };
        self.room_by_no(no)
    }

    /// The room with this number.
    pub fn room_by_no(&self, no: RoomNo) -> Result<Arc<Room>, ReadError> {
        if let Some(room) = self.warm.get(&no).filter(|room| !room.is_broken()) {
            return Ok(room);
        }
        // Held while loading: two loads at once would make two writers.
        let mut loaded = self.loaded.lock();
        if let Some(room) = loaded.get(&no).and_then(Weak::upgrade).filter(|room| !room.is_broken()) {
            self.warm.insert(no, room.clone());
            return Ok(room);
        }
        let room = Arc::new(self.load(no)?);
        if loaded.len() > ROOMS_LOADED_MAX * 2 {
            loaded.retain(|_, room| room.strong_count() > 0);
        }
        loaded.insert(no, Arc::downgrade(&room));
        self.warm.insert(no, room.clone());
        Ok(room)
    }

    /// A room that is being made: known to this registry, not yet in the store.
    pub(crate) fn adopt(&self, room: &Arc<Room>) {
        self.loaded.lock().insert(room.no(), Arc::downgrade(room));
        self.warm.insert(room.no(), room.clone());
    }

    /// A deleted room: whoever holds it finds it broken, and it cannot be loaded again.
    pub(crate) fn forget_loaded(&self, room: &Room) {
        self.numbers.remove(room.id());
        self.warm.remove(&room.no());
        self.loaded.lock().remove(&room.no());
        room.break_off();
    }

    /// The number that the next room gets, if nobody is quicker.
    pub(crate) fn next_no_so_far(&self) -> RoomNo {
        self.next_no.load(Ordering::Relaxed)
    }

    /// A number for a new room.
    pub(crate) fn next_no(&self) -> RoomNo {
        self.next_no.fetch_add(1, Ordering::Relaxed)
    }

    fn load(&self, no: RoomNo) -> Result<Room, ReadError> {
        let (shard, domain) = (&self.core.shard, self.core.domain());
        let damaged = |what: &str| ReadError::Damaged(format!("room {no}: {what}"));
        let id = shard.get(&ROOM_ID, domain, &no)?.ok_or(ReadError::NoSuchRoom)?;
        let id = OwnedRoomId::try_from(id).map_err(|_| damaged("its id is none"))?;
        let record = shard.get(&ROOM, domain, id.as_str())?.ok_or(ReadError::NoSuchRoom)?;
        let version = RoomVersionId::try_from(record.version).map_err(|_| damaged("its version is none"))?;
        let rules = koine_graph::rules(&version).ok_or_else(|| damaged("its version is not supported"))?;
        let head = shard.get(&HEAD, domain, &no)?.ok_or_else(|| damaged("it has no head"))?;
        let extremities = head.extremities.iter();
        let extremities = extremities.map(|(id, state)| Ok((OwnedEventId::try_from(id.as_str())?, root_of(*state))));
        let order = head.order;
        let head = Head {
            state: root_of(head.state),
            extremities: extremities
                .collect::<Result<_, ruma_common::IdParseError>>()
                .map_err(|_| damaged("an extremity is no event id"))?,
            depth: head.depth,
            joined: head.joined,
            invited: head.invited,
            signed: None,
        };
        let mut locals = HashMap::new();
        for row in shard.view().prefix(&MEMBER, domain, &(no, false), Direction::Forward) {
            let ((_, _, user), _) = row?;
            let record = shard.get(&MEMBERSHIP, domain, &(user.as_str(), no))?;
            let record = record.ok_or_else(|| damaged("a member's own record is missing"))?;
            let user = OwnedUserId::try_from(user).map_err(|_| damaged("a member is no user id"))?;
            locals.insert(user, record);
        }
        let room = Room::new(self.core.clone(), (no, id), (version, rules), head, order, locals);
        let newest = shard.view().prefix(&RECEIPT_AT, domain, &(no,), Direction::Backward).next().transpose()?;
        room.receipts_newest.store(newest.map_or(0, |((_, position), _)| position), Ordering::Relaxed);
        if let Some(record) = shard.get(&PARTIAL, domain, &no)? {
            let partial = Partial::of(record).ok_or_else(|| damaged("how we came in is no event"))?;
            room.partial.send_replace(Some(Arc::new(partial)));
        }
        Ok(room)
    }

    /// The rooms of a local account, with its membership in each, in the order of their numbers.
    pub fn memberships(&self, user: &UserId) -> Result<Vec<(RoomNo, MembershipRecord)>, ReadError> {
        let mut found = Vec::new();
        for row in self.core.shard.view().prefix(&MEMBERSHIP, self.core.domain(), &(user.as_str(),), Direction::Forward)
        {
            let ((_, no), record) = row?;
            found.push((no, record));
        }
        Ok(found)
    }

    /// A local account's membership of one room, with what was written about it.
    pub fn membership(&self, user: &UserId, room: RoomNo) -> Result<Option<MembershipRecord>, ReadError> {
        Ok(self.room_by_no(room)?.local_record(user))
    }

    /// Ids of the rooms that a local account is joined to.
    pub fn joined(&self, user: &UserId) -> Result<Vec<OwnedRoomId>, ReadError> {
        let memberships = self.memberships(user)?;
        let joined = memberships.into_iter().filter(|(_, record)| record.membership == Membership::Join);
        joined.map(|(no, _)| Ok(self.room_by_no(no)?.id().to_owned())).collect()
    }

    /// Bytes that caches of events and state nodes hold, roughly.
    pub fn cache_bytes(&self) -> u64 {
        self.core.cache_bytes()
    }

    /// What has been done about the states of rooms since the start.
    pub fn state_work(&self) -> crate::state::StateWork {
        self.core.nodes.work()
    }

    /// Every room, by number, for the operator: at most `limit` after `after`.
    pub fn list(&self, after: RoomNo, limit: usize) -> Result<Vec<(RoomNo, OwnedRoomId)>, ReadError> {
        let view = self.core.shard.view();
        let rows = view.scan(&ROOM_ID, self.core.domain(), after + 1.., Direction::Forward).take(limit);
        rows.map(|row| {
            let (no, id) = row?;
            Ok((no, OwnedRoomId::try_from(id).map_err(|_| ReadError::Damaged(format!("room {no}: its id is none")))?))
        })
        .collect()
    }
}
