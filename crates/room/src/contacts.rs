//! Who shares a room with whom: who has to be told of somebody's keys, and who came and went.
//!
//! [CS-API §tracking-the-device-list-for-a-user] Sharing means that both are joined. Local people are in memory with
//! their rooms; those of other servers stand in the store.

use std::collections::HashMap;

use ruma_common::{OwnedEventId, OwnedUserId, UserId};

use crate::{
    error::ReadError,
    registry::Rooms,
    room::{Room, missing},
    state::Root,
    tables::{MEMBER, Membership, RoomNo},
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
        let memberships = self.memberships(user)?.into_iter();
        let joined = memberships.filter(|(_, record)| record.membership == Membership::Join).map(|(no, _)| no);
        Ok(Contacts { rooms: self, user, joined: joined.collect(), known: HashMap::new() })
    }

    /// Calls `tell` for every room that `user`, who is local, is joined to, with the local people joined there.
    pub(crate) fn for_contacts(
        &self,
        user: &UserId,
        mut tell: impl FnMut(&mut dyn Iterator<Item = &UserId>),
    ) -> Result<(), ReadError> {
        for (no, record) in self.memberships(user)? {
            if record.membership == Membership::Join {
                self.room_by_no(no)?.for_local_joined(&mut tell);
            }
        }
        Ok(())
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
        let is_local = other.server_name() == self.rooms.server_name();
        let found = if is_local { self.shares_with_local(other)? } else { self.shares_with_remote(other)? };
        self.known.insert(other.to_owned(), found);
        Ok(found)
    }

    fn shares_with_local(&self, other: &UserId) -> Result<bool, ReadError> {
        // Both lists are in the order of numbers.
        let theirs = self.rooms.memberships(other)?;
        let mut theirs = theirs.iter().filter(|(_, record)| record.membership == Membership::Join).map(|(no, _)| no);
        Ok(theirs.any(|no| self.joined.binary_search(no).is_ok()))
    }

    fn shares_with_remote(&self, other: &UserId) -> Result<bool, ReadError> {
        let core = &self.rooms.core;
        for no in &self.joined {
            let record = core.shard.get(&MEMBER, core.domain(), &(*no, true, other.as_str()))?;
            if record.is_some_and(|record| record.membership == Membership::Join) {
                return Ok(true);
            }
        }
        Ok(false)
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
        let placed = self.core.event(&id)?.ok_or_else(|| missing(&id))?;
        Ok(placed.event.membership().map(Membership::from) == Some(Membership::Join))
    }
}
