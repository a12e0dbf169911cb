//! What each connection of a client knows: in memory alone, so that a restart tells clients to start anew.
//!
//! A client may lose an answer and ask again with the position before it. So an answer's effect is held aside
//! (`told`) until the client shows, by the position of its next request, that it came through.
//!
//! Invariant: `known` with `base` is what the client knows at the position `base.no`; `known` and `told` together, what
//! it knows at `newest.no`.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use koine_room::{Membership, Order, RoomNo};
use koine_store::Position;
use parking_lot::{Mutex, MutexGuard};
use ruma_common::{OwnedDeviceId, OwnedUserId};

use super::{indexes::Indexes, required::Config};
use crate::{
    Error, Result, User,
    token::{SyncToken, Tokens},
};

/// Most connections at the same time; past it, the one unused for longest makes room.
pub(super) const CONNECTIONS_MAX: usize = 20_000;
/// Most connections of one device; past it likewise.
pub(super) const DEVICE_CONNECTIONS_MAX: usize = 8;
/// Most rooms that all connections remember together; past it likewise.
pub(super) const ROOMS_MAX: usize = 2_000_000;
/// A connection that nobody asks for this long is dropped.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60 * 60);
/// Most members remembered as told of one room; past it all are forgotten, and told once more.
pub(super) const MEMBERS_MAX: usize = 200;
/// Most different wishes remembered, so that equal ones are one.
const CONFIGS_MAX: usize = 64;

/// Everybody's connections, and what those of one account share.
#[derive(Default)]
pub(crate) struct Connections {
    by_device: Mutex<ByDevice>,
    pub(super) indexes: Indexes,
}

type ByDevice = HashMap<(OwnedUserId, OwnedDeviceId), Vec<Arc<Connection>>>;

/// One connection.
pub(super) struct Connection {
    conn_id: String,
    /// Tells its positions from those of an earlier connection of this name.
    nonce: u32,
    state: Mutex<State>,
}

/// What is remembered for a connection.
pub(super) struct State {
    pub(super) base: Mark,
    newest: Mark,
    pub(super) known: HashMap<RoomNo, Arc<Known>>,
    /// What the newest answer added; `None` for what it ended.
    told: HashMap<RoomNo, Option<Arc<Known>>>,
    /// Rooms known, out of sight, and changed since they were told of.
    pub(super) behind: HashSet<RoomNo>,
    fell_behind: Vec<RoomNo>,
    /// Rooms that are conversations of two, with the position at which they were read.
    pub(super) dms: Option<(Position, HashSet<RoomNo>)>,
    configs: Vec<Arc<Config>>,
    /// Counts requests: an older one that still waits gives way.
    pub(super) request: u64,
    last_used: Instant,
}

/// A position of the connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    pub(super) no: u64,
    /// How far the log was read; `None` before the first answer.
    pub(super) token: Option<SyncToken>,
    /// Account data that belongs to no room are known up to here.
    pub(super) account_data: Option<Position>,
    /// Threads that are followed are known up to here.
    pub(super) threads: Option<Position>,
}

/// What a client knows of a room.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Everything up to here.
    pub(super) until: Order,
    pub(super) fleeting: u64,
    pub(super) membership: Membership,
    pub(super) config: Arc<Config>,
    /// Members told because they spoke.
    pub(super) members: BTreeSet<OwnedUserId>,
    pub(super) counts: Counts,
    /// Extensions that told of the room, as bits.
    pub(super) extensions: u8,
    /// It was told that this is a conversation of two.
    pub(super) is_dm: bool,
}

/// Numbers that are told when they change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) joined: u64,
    pub(super) invited: u64,
    pub(super) notify: u64,
    pub(super) highlight: u64,
}

/// What an answer changes, once it is on its way.
pub(super) struct Told {
    pub(super) rooms: HashMap<RoomNo, Option<Arc<Known>>>,
    pub(super) fell_behind: Vec<RoomNo>,
    pub(super) token: SyncToken,
    pub(super) account_data: Option<Position>,
    pub(super) threads: Option<Position>,
}

impl Connections {
    /// A new connection, in place of an older one of that name.
    pub(super) fn open(&self, who: &User, conn_id: &str, nonce: u32, now: Instant) -> Arc<Connection> {
        let connection = Arc::new(Connection {
            conn_id: conn_id.to_owned(),
            nonce,
            state: Mutex::new(State {
                base: Mark::default(),
                newest: Mark::default(),
                known: HashMap::new(),
                told: HashMap::new(),
                behind: HashSet::new(),
                fell_behind: Vec::new(),
                dms: None,
                configs: Vec::new(),
                request: 0,
                last_used: now,
            }),
        });
        let mut all = self.by_device.lock();
        let of_device = all.entry((who.user_id.clone(), who.device_id.clone())).or_default();
        of_device.retain(|other| other.conn_id != conn_id);
        if of_device.len() >= DEVICE_CONNECTIONS_MAX {
            let oldest = of_device.iter().enumerate().min_by_key(|(_, other)| other.state.lock().last_used);
            if let Some(oldest) = oldest.map(|(at, _)| at) {
                of_device.swap_remove(oldest);
            }
        }
        of_device.push(connection.clone());
        make_room(&mut all, now);
        connection
    }

    /// The connection of which a client has the position `pos`.
    ///
    /// # Errors
    /// `M_UNKNOWN_POS` for one that is forgotten, or never was.
    pub(super) fn find(&self, who: &User, conn_id: &str, pos: &str) -> Result<(Arc<Connection>, u64)> {
        let mut parts = pos.strip_prefix('p').ok_or_else(unknown_pos)?.split('_');
        let mut part = || parts.next().ok_or_else(unknown_pos);
        let no: u64 = part()?.parse().map_err(|_| unknown_pos())?;
        let nonce = u32::from_str_radix(part()?, 16).map_err(|_| unknown_pos())?;
        let all = self.by_device.lock();
        let of_device = all.get(&(who.user_id.clone(), who.device_id.clone()));
        let mut of_device = of_device.into_iter().flatten();
        let found = of_device.find(|connection| connection.conn_id == conn_id && connection.nonce == nonce);
        Ok((found.ok_or_else(unknown_pos)?.clone(), no))
    }
}

/// Drops what is idle, and what was unused for longest while there is too much.
fn make_room(all: &mut ByDevice, now: Instant) {
    let mut used = Vec::new();
    let mut rooms = 0;
    all.retain(|_, of_device| {
        of_device.retain(|connection| {
            // One that is being looked at is not idle.
            let Some(state) = connection.state.try_lock() else { return true };
            let weight = state.weight();
            let keep = now.saturating_duration_since(state.last_used) < IDLE_MAX;
            if keep {
                rooms += weight;
                used.push((state.last_used, connection.nonce, weight));
            }
            keep
        });
        !of_device.is_empty()
    });
    if used.len() <= CONNECTIONS_MAX && rooms <= ROOMS_MAX {
        return;
    }
    used.sort_unstable();
    let mut count = used.len();
    let mut dropped = HashSet::new();
    for (last_used, nonce, weight) in used {
        // The newest was just asked for.
        if (count <= CONNECTIONS_MAX && rooms <= ROOMS_MAX) || last_used >= now {
            break;
        }
        (count, rooms) = (count - 1, rooms - weight);
        dropped.insert(nonce);
    }
    all.retain(|_, of_device| {
        of_device.retain(|connection| !dropped.contains(&connection.nonce));
        !of_device.is_empty()
    });
}

impl Connection {
    /// Held while an answer is made, never while waiting.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A position, as clients get it: a place in the timeline of any room too, as `now` names it.
    pub(super) fn print(&self, no: u64, now: SyncToken, tokens: &Tokens) -> String {
        tokens.print_position((no, self.nonce), now)
    }
}

impl State {
    /// Takes a request that comes from position `no`; its number among the requests.
    pub(super) fn begin(&mut self, no: u64, now: Instant) -> Result<u64> {
        if no == self.newest.no {
            self.base = self.newest;
            for (room, known) in self.told.drain() {
                self.behind.remove(&room);
                match known {
                    Some(known) => self.known.insert(room, known),
                    None => self.known.remove(&room),
                };
            }
            self.behind.extend(self.fell_behind.drain(..));
        } else if no == self.base.no {
            // The answer was lost: as if it had never been.
            self.told.clear();
            self.fell_behind.clear();
        } else {
            return Err(unknown_pos());
        }
        self.last_used = now;
        self.request += 1;
        Ok(self.request)
    }

    /// Notes an answer; the number of its position.
    pub(super) fn answered(&mut self, told: Told) -> u64 {
        self.told = told.rooms;
        self.fell_behind = told.fell_behind;
        let no = self.newest.no + 1;
        self.newest = Mark { no, token: Some(told.token), account_data: told.account_data, threads: told.threads };
        no
    }

    /// Notes that there was nothing to tell up to here, so that the next look begins here.
    pub(super) fn nothing_until(&mut self, now: SyncToken, fell_behind: Vec<RoomNo>) {
        self.base.token = Some(now);
        self.behind.extend(fell_behind);
    }

    /// The same wish as before is the same object, so that comparing is cheap.
    pub(super) fn intern(&mut self, config: Config) -> Arc<Config> {
        if let Some(known) = self.configs.iter().find(|known| ***known == config) {
            return known.clone();
        }
        if self.configs.len() >= CONFIGS_MAX {
            self.configs.clear();
        }
        let config = Arc::new(config);
        self.configs.push(config.clone());
        config
    }

    fn weight(&self) -> usize {
        self.known.len() + self.told.len()
    }
}

pub(super) fn unknown_pos() -> Error {
    Error::new(StatusCode::BAD_REQUEST, "M_UNKNOWN_POS", "This position is not known; start anew without one")
}
