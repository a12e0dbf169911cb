//! Who shares a room with whom: who has to be told of somebody's keys, and who came and went.
//!
//! [CS-API §tracking-the-device-list-for-a-user] Sharing means that both are joined. Whoever it is, their rooms are listed
//! in the store: those of local people with their memberships, those of others in an index of their own. Rooms that
//! nobody of ours is in any more may stand there too, out of date; a local person has to be joined for a room to count.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use koine_store::Direction;
use ruma_common::{OwnedEventId, OwnedServerName, OwnedUserId, ServerName, UserId};

use crate::{
    error::ReadError,
    registry::Rooms,
    room::{Room, missing},
    state::Root,
    tables::{MEMBER, Membership, Order, REMOTE_ROOM, RoomNo},
};

/// Members who differ between two states of a room.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Joined in the second state and not in the first.
    pub came: Vec<OwnedUserId>,
    /// Joined in the first state and not in the second.
    pub went: Vec<OwnedUserId>,
    /// Somebody is joined in both by different events: they may have gone and come back.
    pub may_have_returned: bool,
}

/// Somebody's rooms, to ask of many others whether they share one. Remembers what it found.
pub struct Contacts<'a> {
    rooms: &'a Rooms,
    user: &'a UserId,
    joined: Vec<RoomNo>,
    known: HashMap<OwnedUserId, bool>,
}

impl Rooms {
    /// Who shares a room with `user`, who is local.
    pub fn contacts<'a>(&'a self, user: &'a UserId) -> Result<Contacts<'a>, ReadError> {
        Ok(Contacts { rooms: self, user, joined: self.rooms_of(user)?, known: HashMap::new() })
    }

    /// Calls `tell` for every room that `user` is joined to, with the local people joined there.
    pub(crate) fn for_contacts(
        &self,
        user: &UserId,
        mut tell: impl FnMut(&mut dyn Iterator<Item = &UserId>),
    ) -> Result<(), ReadError> {
        for no in self.rooms_of(user)? {
            if let Some(room) = self.whole_room(no)? {
                room.for_local_joined(&mut tell);
            }
        }
        Ok(())
    }

    /// A room that is listed somewhere; nothing while it is still being entered.
    fn whole_room(&self, no: RoomNo) -> Result<Option<Arc<Room>>, ReadError> {
        match self.room_by_no(no) {
            Ok(room) => Ok(Some(room)),
            Err(ReadError::NoSuchRoom) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The rooms that `user`, of whatever server, is joined to, in the order of their numbers.
    pub fn rooms_of(&self, user: &UserId) -> Result<Vec<RoomNo>, ReadError> {
        if user.server_name() == self.server_name() {
            let memberships = self.memberships(user)?.into_iter();
            return Ok(memberships
                .filter(|(_, record)| record.membership == Membership::Join)
                .map(|(no, _)| no)
                .collect());
        }
        let view = self.core.shard.view();
        let rows = view.prefix(&REMOTE_ROOM, self.core.domain(), &(user.as_str(),), Direction::Forward);
        rows.map(|row| Ok(row.map(|((_, no), ())| no)?)).collect()
    }

    /// Whether somebody of another server shares a room with anybody of ours.
    pub fn is_known_here(&self, remote: &UserId) -> Result<bool, ReadError> {
        for no in self.rooms_of(remote)? {
            if self.whole_room(no)?.is_some_and(|room| room.is_attended()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Other servers with people in the rooms of `user`, who is local, of whose rooms at most `rooms_max` are looked at.
    pub fn servers_around(&self, user: &UserId, rooms_max: usize) -> Result<BTreeSet<OwnedServerName>, ReadError> {
        let mut servers = BTreeSet::new();
        for no in self.rooms_of(user)?.into_iter().take(rooms_max) {
            servers.extend(self.room_by_no(no)?.servers()?);
        }
        servers.remove(self.server_name());
        Ok(servers)
    }

    /// Whether `user`, who is local, shares a room with somebody of `server`, but for the room `without`; of the user's
    /// rooms at most `rooms_max` are looked at.
    pub fn shares_with_server(
        &self,
        user: &UserId,
        server: &ServerName,
        without: Option<RoomNo>,
        rooms_max: usize,
    ) -> Result<bool, ReadError> {
        for no in self.rooms_of(user)?.into_iter().filter(|no| Some(*no) != without).take(rooms_max) {
            if self.room_by_no(no)?.has_server(server)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Contacts<'_> {
    /// Whether the user and `other` are joined to a common room. Everybody shares with themselves.
    pub fn contains(&mut self, other: &UserId) -> Result<bool, ReadError> {
        if other == self.user {
            return Ok(true);
        }
        if let Some(known) = self.known.get(other) {
            return Ok(*known);
        }
        let found = self.is_in_any(&self.rooms.rooms_of(other)?);
        self.known.insert(other.to_owned(), found);
        Ok(found)
    }

    /// Whether the user is joined to one of these rooms.
    pub(crate) fn is_in_any(&self, rooms: &[RoomNo]) -> bool {
        rooms.iter().any(|no| self.joined.binary_search(no).is_ok())
    }

    /// Since which place in the log the user and `remote`, who is of another server, have shared a room without a break;
    /// at the latest: a new name in the room may hide that they shared it before.
    pub fn shared_since(&self, remote: &UserId) -> Result<Option<Order>, ReadError> {
        let core = &self.rooms.core;
        let mut since: Option<Order> = None;
        for no in self.rooms.rooms_of(remote)? {
            if self.joined.binary_search(&no).is_err() {
                continue;
            }
            let joined_at = self.rooms.membership(self.user, no)?.and_then(|record| record.joined_at);
            let theirs = core.shard.get(&MEMBER, core.domain(), &(no, true, remote.as_str()))?;
            let (Some(joined_at), Some(theirs)) = (joined_at, theirs) else { continue };
            let here = joined_at.max(theirs.order);
            since = Some(since.map_or(here, |since| since.min(here)));
        }
        Ok(since)
    }
}

impl Room {
    /// Who came and who went between two states. Costs what differs; nothing when the states are the same.
    pub fn moves(&self, from: Root, to: Root) -> Result<Moves, ReadError> {
        let mut moves = Moves::default();
        if from == to {
            return Ok(moves);
        }
        for difference in self.core.state_differences(from, to)? {
            if &*difference.kind != "m.room.member" {
                continue;
            }
            let (was, is) = (self.is_join(difference.before)?, self.is_join(difference.after)?);
            // Ids that are none stand in rooms of old; nobody has keys under them.
            let Ok(user) = OwnedUserId::try_from(&*difference.state_key) else { continue };
            match (was, is) {
                (false, true) => moves.came.push(user),
                (true, false) => moves.went.push(user),
                (true, true) => moves.may_have_returned = true,
                (false, false) => {}
            }
        }
        Ok(moves)
    }

    /// Whether `user` is joined in `state`.
    pub fn is_joined_in(&self, state: Root, user: &UserId) -> Result<bool, ReadError> {
        self.is_join(self.core.state_get(state, "m.room.member", user.as_str())?)
    }

    fn is_join(&self, id: Option<OwnedEventId>) -> Result<bool, ReadError> {
        let Some(id) = id else { return Ok(false) };
        let placed = self.core.holding(&id)?.ok_or_else(|| missing(&id))?;
        Ok(placed.event.membership().map(Membership::from) == Some(Membership::Join))
    }
}
