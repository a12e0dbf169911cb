//! Rooms of two: which room a conversation between two people is in.
//!
//! There may be several such rooms for a pair; one of them is where new messages go. That a room is one of two people is
//! written down when it is made, or when whoever made it says so; a third member ends it.

use koine_store::{Direction, KeyRange, StoreError, Txn};
use ruma_common::{OwnedUserId, RoomId, UserId};

use crate::{
    error::{CommandError, ReadError},
    registry::Rooms,
    tables::{PAIR, PAIR_OF, PAIR_ROOM, RoomNo},
};

/// Most rooms of two that are looked through for one account.
pub const PAIRS_MAX: usize = 10_000;

/// The two people of a room of two, in the order of their ids.
pub type Pair = (OwnedUserId, OwnedUserId);

impl Rooms {
    /// The room in which messages between the two go, if there is one.
    pub fn room_of_two(&self, one: &UserId, other: &UserId) -> Result<Option<RoomNo>, ReadError> {
        Ok(self.core.shard.get(&PAIR, self.core.domain(), &(one.as_str(), other.as_str()))?)
    }

    /// The two whose room this is, if it is one.
    pub fn pair_of(&self, room: RoomNo) -> Result<Option<Pair>, ReadError> {
        if let Some(known) = self.pairs.get(&room) {
            return Ok(known);
        }
        let row = self.core.shard.get(&PAIR_OF, self.core.domain(), &room)?;
        let id =
            |text: String| OwnedUserId::try_from(text).map_err(|_| ReadError::Damaged("a pair of no users".into()));
        let pair = row.map(|(one, other)| Ok::<_, ReadError>((id(one)?, id(other)?))).transpose()?;
        self.pairs.insert(room, pair.clone());
        // Whoever wrote in between found nothing to forget; so look again now that there is.
        if self.core.shard.get(&PAIR_OF, self.core.domain(), &room)?.is_some() != pair.is_some() {
            self.pairs.remove(&room);
        }
        Ok(pair)
    }

    /// All rooms of two that somebody has, or had, with anybody: at most [`PAIRS_MAX`], in the order of the others' ids.
    pub fn rooms_of_two(&self, user: &UserId) -> Result<Vec<(OwnedUserId, RoomNo)>, ReadError> {
        let view = self.core.shard.view();
        let rows = view.prefix(&PAIR_ROOM, self.core.domain(), &(user.as_str(),), Direction::Forward).take(PAIRS_MAX);
        rows.map(|row| {
            let ((_, other, room), ()) = row?;
            let other = OwnedUserId::try_from(other).map_err(|_| ReadError::Damaged("a pair of no users".into()))?;
            Ok((other, room))
        })
        .collect()
    }

    /// The rooms of two that somebody has, or had, with another.
    pub fn rooms_with(&self, user: &UserId, other: &UserId) -> Result<Vec<RoomNo>, ReadError> {
        let view = self.core.shard.view();
        let rows = view
            .prefix(&PAIR_ROOM, self.core.domain(), &(user.as_str(), other.as_str()), Direction::Forward)
            .take(PAIRS_MAX);
        rows.map(|row| Ok(row?.0.2)).collect()
    }

    /// Writes down that a room is that of two people. With `replace`, messages go there from now on; without, only where
    /// they went nowhere before.
    pub async fn pair(&self, room: &RoomId, one: &UserId, other: &UserId, replace: bool) -> Result<(), CommandError> {
        let (domain, no) = (self.core.domain(), self.room(room)?.no());
        let (one, other) = if one <= other { (one, other) } else { (other, one) };
        let (one, other) = (one.to_string(), other.to_string());
        let commit = self.core.shard.submit(move |txn: &mut Txn| -> Result<(), StoreError> {
            let pair = (one.clone(), other.clone());
            if !replace && txn.get(&PAIR, domain, &pair)?.is_some() {
                // Known already: nothing to write, most of the time.
                if txn.get(&PAIR_OF, domain, &no)?.is_some_and(|known| known == pair) {
                    return Ok(());
                }
            } else {
                txn.put(&PAIR, domain, &(other.clone(), one.clone()), &no);
                txn.put(&PAIR, domain, &pair, &no);
            }
            txn.put(&PAIR_OF, domain, &no, &pair);
            txn.put(&PAIR_ROOM, domain, &(one.clone(), other.clone(), no), &());
            txn.put(&PAIR_ROOM, domain, &(other, one, no), &());
            Ok(())
        });
        commit.await?;
        self.pairs.remove(&no);
        Ok(())
    }

    /// Writes down that a room is not one of two people any more: a third came.
    pub async fn unpair(&self, no: RoomNo) -> Result<(), CommandError> {
        let domain = self.core.domain();
        let commit = self.core.shard.submit(move |txn: &mut Txn| -> Result<(), StoreError> {
            let Some((one, other)) = txn.get(&PAIR_OF, domain, &no)? else { return Ok(()) };
            txn.delete(&PAIR_OF, domain, &no);
            for (a, b) in [(&one, &other), (&other, &one)] {
                let key = (a.clone(), b.clone());
                txn.delete(&PAIR_ROOM, domain, &(a.clone(), b.clone(), no));
                if txn.get(&PAIR, domain, &key)? != Some(no) {
                    continue;
                }
                // Another of their rooms takes its place, the newest.
                let rest = txn.scan(&PAIR_ROOM, domain, KeyRange::prefix(&(a.as_str(), b.as_str())))?;
                match rest.last() {
                    Some(((_, _, other_room), ())) => txn.put(&PAIR, domain, &key, other_room),
                    None => txn.delete(&PAIR, domain, &key),
                }
            }
            Ok(())
        });
        commit.await?;
        self.pairs.remove(&no);
        Ok(())
    }
}
