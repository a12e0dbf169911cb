//! Rooms that an admin has shut out of this server: nobody of ours comes in any more. Who is inside is moved out by the
//! admin, too.

use ruma_common::{OwnedUserId, RoomId, UserId};

use crate::{
    error::{CommandError, ReadError},
    registry::Rooms,
    tables::BLOCKED,
};

impl Rooms {
    /// Shuts a room out, which need not be known here, or lets it in again.
    pub async fn block_room(&self, room: &RoomId, by: Option<&UserId>) -> Result<(), CommandError> {
        let (domain, room, by) = (self.core.domain(), room.to_string(), by.map(ToString::to_string));
        let commit = self.core.shard.submit(move |txn| match by {
            Some(by) => txn.put(&BLOCKED, domain, &room, &by),
            None => txn.delete(&BLOCKED, domain, &room),
        });
        commit.await?;
        Ok(())
    }

    /// The admin who shut a room out.
    pub fn room_blocked_by(&self, room: &RoomId) -> Result<Option<OwnedUserId>, ReadError> {
        let by = self.core.shard.get(&BLOCKED, self.core.domain(), room.as_str())?;
        Ok(by.and_then(|by| OwnedUserId::try_from(by).ok()))
    }

    /// Refuses what would bring somebody of ours into a room that is shut out.
    pub(crate) fn check_not_blocked(&self, room: &RoomId) -> Result<(), CommandError> {
        match self.core.shard.get(&BLOCKED, self.core.domain(), room.as_str())? {
            Some(_) => Err(CommandError::Forbidden("this room has been blocked on this server".into())),
            None => Ok(()),
        }
    }
}
