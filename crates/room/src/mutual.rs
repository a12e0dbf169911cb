//! The rooms that two people are both in. [CS-API §get_matrixclientv1mutual_rooms]

use ruma_common::{OwnedRoomId, UserId};

use crate::{
    error::ReadError,
    registry::Rooms,
    tables::{MEMBER, Membership, RoomNo},
};

/// Rooms that two people share.
#[derive(Debug, Default)]
pub struct MutualRooms {
    /// Some of them, by number.
    pub rooms: Vec<OwnedRoomId>,
    /// How many there are.
    pub count: usize,
    /// The last number told, if there are more.
    pub next: Option<RoomNo>,
}

impl Rooms {
    /// At most `limit` of the rooms that `user`, of this server, and `other` are joined to, after number `after`.
    /// Costs a read for each room of `user`.
    pub fn mutual(&self, user: &UserId, other: &UserId, after: RoomNo, limit: usize) -> Result<MutualRooms, ReadError> {
        let is_remote = other.server_name() != self.server_name();
        let view = self.core.shard.view();
        let mut found = MutualRooms::default();
        let mut last = None;
        for (no, record) in self.memberships(user)? {
            let key = (no, is_remote, other.as_str());
            let is_shared = record.membership == Membership::Join
                && view
                    .get(&MEMBER, self.core.domain(), &key)?
                    .is_some_and(|member| member.membership == Membership::Join);
            if !is_shared {
                continue;
            }
            found.count += 1;
            if no > after && found.rooms.len() < limit {
                found.rooms.push(self.room_by_no(no)?.id().to_owned());
                last = Some(no);
            } else if no > after {
                found.next = last;
            }
        }
        Ok(found)
    }
}
