//! One look at the account for one connection: which rooms are in sight, and which of them need telling.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use koine_room::{Changes, Inbox, Membership, MembershipRecord, Room, RoomNo};

use super::{
    connection::{Connection, Known, Mark, State, Told},
    extensions::{Reach, Told as ToldByExtensions},
    index::{Index, Sorting, direct_rooms, is_from_ignored, was_removed},
    request::Body,
    required::Config,
};
use crate::{Api, Result, User, event::Ignored, sync::Out, token::SyncToken};

/// Most rooms that one answer looks at; the others follow in the next, which then does not wait.
const ROOMS_TOLD_MAX: usize = 500;

/// What a connection does not know yet, as of now.
pub(super) struct Look<'a> {
    pub(super) api: &'a Api,
    pub(super) who: &'a User,
    pub(super) body: &'a Body,
    pub(super) ignored: &'a Ignored,
    pub(super) base: Mark,
    pub(super) now: SyncToken,
}

/// Why a room is in sight.
pub(super) struct Place {
    pub(super) config: Arc<Config>,
    /// The lists whose windows show it, as bits in the order of their names.
    pub(super) lists: u128,
    pub(super) subscribed: bool,
}

/// A room to look at.
pub(super) struct Candidate {
    pub(super) room: Arc<Room>,
    pub(super) record: MembershipRecord,
    pub(super) config: Arc<Config>,
    /// Extensions that are to tell of it, as bits.
    pub(super) extensions: u8,
    pub(super) known: Option<Arc<Known>>,
    pub(super) is_dm: bool,
    /// The lists that show it, as in [`Place`].
    pub(super) lists: u128,
    /// It is in sight no more, and told of for the last time.
    pub(super) is_over: bool,
}

/// Rooms in sight, those first that stand first.
#[derive(Default)]
struct Sight {
    order: Vec<RoomNo>,
    places: HashMap<RoomNo, Place>,
    /// Rooms in each list, in the order of their names.
    counts: Vec<usize>,
}

impl Look<'_> {
    /// The answer. `None` when there is nothing to tell, unless `must`.
    pub(super) fn answer(
        &self,
        connection: &Connection,
        state: &mut State,
        inbox: &Inbox,
        must: bool,
    ) -> Result<Option<bytes::Bytes>> {
        let changes = self.base.token.and_then(|token| inbox.changes_after(token.position, token.fleeting));
        self.refresh_dms(state, inbox)?;
        let sight = match self.body.lists.is_empty() {
            true => self.sight(state, None)?,
            false => {
                let shared = self.api.connections().indexes.of(&self.who.user_id, Instant::now());
                let mut index = shared.lock();
                self.refresh_index(&mut index, inbox)?;
                self.sight(state, index.as_ref())?
            }
        };
        let touched = self.touched(changes.as_ref())?;
        let reach = Reach::of(self)?;
        let (candidates, fell_behind) = self.candidates(state, &sight, touched.as_ref(), &reach)?;

        let mut out = Out::with_capacity(1024);
        out.open(b'{');
        if let Some(txn_id) = &self.body.txn_id {
            out.field("txn_id", txn_id);
        }
        out.open_field("lists", b'{');
        for (name, count) in self.body.lists.keys().zip(&sight.counts) {
            out.open_field(name, b'{');
            out.field("count", count);
            out.close(b'}');
        }
        out.close(b'}');

        let mut told = HashMap::with_capacity(candidates.len());
        let mut extras = ToldByExtensions::default();
        let start = out.mark();
        out.open_field("rooms", b'{');
        let empty = out.mark();
        for candidate in &candidates {
            let outcome = self.room(candidate, &mut out)?;
            self.room_extensions(candidate, &outcome, &mut extras)?;
            told.insert(candidate.room.no(), outcome.known.map(Arc::new));
        }
        let mut has_news = out.mark() > empty;
        match has_news {
            true => out.close(b'}'),
            false => out.undo(start),
        }
        has_news |= self.extensions(changes.as_ref(), &candidates, &extras, &mut out)?;
        if !has_news && !must {
            state.nothing_until(self.now, fell_behind);
            return Ok(None);
        }
        let account_data = match reach.account_data.is_on() {
            true => Some(self.now.position),
            false => self.base.account_data,
        };
        let threads = match self.body.extensions.thread_subscriptions.enabled {
            Some(true) => Some(self.now.position),
            _ => self.base.threads,
        };
        let no = state.answered(Told { rooms: told, fell_behind, token: self.now, account_data, threads });
        out.field("pos", &connection.print(no, self.now, self.api.tokens()));
        out.close(b'}');
        Ok(Some(out.into_bytes()))
    }

    fn refresh_dms(&self, state: &mut State, inbox: &Inbox) -> Result<()> {
        let is_old = state.dms.as_ref().is_none_or(|(position, _)| {
            inbox.changes_after(*position, self.now.fleeting).is_none_or(|changes| changes.account)
        });
        if is_old {
            let rooms = direct_rooms(self.api, &self.who.user_id)?;
            // What became a conversation of two, or ceased to be one, is told.
            let turned = state.known.iter().filter(|(no, known)| known.is_dm != rooms.contains(no)).map(|(no, _)| *no);
            let turned: Vec<_> = turned.collect();
            state.behind.extend(turned);
            state.dms = Some((self.now.position, rooms));
        }
        Ok(())
    }

    /// The index of the account, up to date. One for all its connections, so it may be ahead of this look: what happened
    /// since then is told by the next.
    fn refresh_index(&self, kept: &mut Option<Index>, inbox: &Inbox) -> Result<()> {
        let (api, user) = (self.api, &self.who.user_id);
        api.facts().catch_up(api.rooms.hub());
        // A failure half way leaves none, and the next look makes it anew.
        let index = kept.take().filter(|index| index.ignored == *self.ignored);
        let changes = index.as_ref().and_then(|index| inbox.changes_after(index.position, self.now.fleeting));
        let index = match (index, changes) {
            (Some(mut index), Some(changes)) => {
                for no in changes.rooms {
                    if let Some(record) = api.rooms.membership(user, no)? {
                        index.note(api, user, no, &record)?;
                    }
                }
                index.position = index.position.max(self.now.position);
                index
            }
            _ => Index::build(api, user, self.ignored, self.now.position)?,
        };
        *kept = Some(index);
        Ok(())
    }

    fn sight(&self, state: &mut State, index: Option<&Index>) -> Result<Sight> {
        let user = &self.who.user_id;
        let mut sight = Sight::default();
        for (id, details) in &self.body.room_subscriptions {
            // Rooms that are not there, and those where the account is not, look the same: as nothing.
            let Ok(room) = self.api.rooms.room(id) else { continue };
            let Some(record) = room.local_record(user) else { continue };
            let visible = match record.membership {
                Membership::Join => true,
                Membership::Invite | Membership::Knock => !is_from_ignored(&room, &record, self.ignored)?,
                Membership::Leave | Membership::Ban => was_removed(&room, &record)?,
            };
            if visible {
                let config = state.intern(Config::new(details.timeline_limit, &details.required_state, user));
                sight.order.push(room.no());
                sight.places.insert(room.no(), Place { config, lists: 0, subscribed: true });
            }
        }
        let mut joined: HashMap<(usize, usize), Arc<Config>> = HashMap::new();
        let sorting = Sorting::of(self.api, user, self.body.lists.values())?;
        for (number, list) in self.body.lists.values().enumerate() {
            let config = state.intern(Config::new(list.timeline_limit, &list.required_state, user));
            let (Some(index), Some((_, dms))) = (index, &state.dms) else { continue };
            let window = index.window(list, dms, &sorting);
            sight.counts.push(window.count);
            for no in window.rooms {
                let Some(place) = sight.places.get_mut(&no) else {
                    sight.order.push(no);
                    sight.places.insert(no, Place { config: config.clone(), lists: 1 << number, subscribed: false });
                    continue;
                };
                place.lists |= 1 << number;
                if !Arc::ptr_eq(&place.config, &config) {
                    let both = (Arc::as_ptr(&place.config).addr(), Arc::as_ptr(&config).addr());
                    let both = joined.entry(both).or_insert_with(|| state.intern(place.config.join(&config)));
                    place.config = both.clone();
                }
            }
        }
        Ok(sight)
    }

    /// Rooms in which something happened since the base; `None`: who knows, perhaps in all of them.
    fn touched(&self, changes: Option<&Changes>) -> Result<Option<HashSet<RoomNo>>> {
        let (Some(changes), Some(token)) = (changes, self.base.token) else { return Ok(None) };
        let mut touched: HashSet<RoomNo> = changes.rooms.iter().chain(&changes.fleeting).copied().collect();
        if changes.account {
            for data in self.api.accounts.room_account_data_after(&self.who.user_id, Some(token.position))? {
                touched.extend(self.api.rooms.room(&data.room_id).ok().map(|room| room.no()));
            }
        }
        Ok(Some(touched))
    }

    /// The rooms to look at, and those that are out of sight while something happened in them.
    fn candidates(
        &self,
        state: &State,
        sight: &Sight,
        touched: Option<&HashSet<RoomNo>>,
        reach: &Reach,
    ) -> Result<(Vec<Candidate>, Vec<RoomNo>)> {
        let is_touched = |no: &RoomNo| touched.is_none_or(|touched| touched.contains(no));
        let (mut found, mut fell_behind) = (Vec::new(), Vec::new());
        for no in &sight.order {
            let Some(place) = sight.places.get(no) else { continue };
            let known = state.known.get(no);
            let extensions = reach.bits(*no, place);
            let as_before = known.is_some_and(|known| {
                known.extensions == extensions
                    && (Arc::ptr_eq(&known.config, &place.config) || known.config == place.config)
            });
            if as_before && !is_touched(no) && !state.behind.contains(no) {
                continue;
            }
            if found.len() >= ROOMS_TOLD_MAX {
                fell_behind.extend(known.map(|_| *no));
                continue;
            }
            let candidate = self.candidate(state, *no, place.config.clone(), extensions)?;
            found.extend(candidate.map(|candidate| Candidate { lists: place.lists, ..candidate }));
        }
        // Out of sight: only the end of being there is told.
        let gone: Vec<_> = match touched {
            Some(touched) => touched.iter().filter(|no| state.known.contains_key(no)).collect(),
            None => state.known.keys().collect(),
        };
        for no in gone.into_iter().filter(|no| !sight.places.contains_key(no)) {
            let Some(known) = state.known.get(no) else { continue };
            let record = self.api.rooms.membership(&self.who.user_id, *no)?;
            match record.map(|record| record.membership) {
                Some(Membership::Leave | Membership::Ban) if found.len() < ROOMS_TOLD_MAX => {
                    let candidate = self.candidate(state, *no, known.config.clone(), 0)?;
                    found.extend(candidate.map(|candidate| Candidate { is_over: true, ..candidate }));
                }
                _ => fell_behind.push(*no),
            }
        }
        Ok((found, fell_behind))
    }

    fn candidate(&self, state: &State, no: RoomNo, config: Arc<Config>, extensions: u8) -> Result<Option<Candidate>> {
        let room = self.api.rooms.room_by_no(no)?;
        let Some(record) = room.local_record(&self.who.user_id) else { return Ok(None) };
        let is_dm = state.dms.as_ref().is_some_and(|(_, dms)| dms.contains(&no));
        let known = state.known.get(&no).cloned();
        Ok(Some(Candidate { room, record, config, extensions, known, is_dm, lists: 0, is_over: false }))
    }
}
