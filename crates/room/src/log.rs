//! What rooms write into the shard's log, and how readers understand it.
//!
//! Kinds 1 to 31 are the rooms'. The subject is the room's number, big-endian; the body depends on the kind.

use koine_store::bytes::Bytes;

use crate::tables::RoomNo;

/// Kinds of log entries that rooms write.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event at the entry's position. Body: for a membership event the member, else empty.
    Event = 1,
    /// A receipt. Body: the reader.
    Receipt = 2,
    /// An account forgot the room. Body: the account.
    Forget = 3,
    /// A receipt that is its reader's own business. Body: the reader.
    PrivateReceipt = 4,
    /// A member came or went by the resolution of branches, beside the one that the event is about. Body: the member.
    Member = 5,
    /// The state of the room lacked members and is whole now. No body.
    Whole = 6,
}

impl Kind {
    /// The kind of an entry, if it is one of the rooms'.
    pub fn of(kind: u8) -> Option<Self> {
        [Self::Event, Self::Receipt, Self::Forget, Self::PrivateReceipt, Self::Member, Self::Whole]
            .into_iter()
            .find(|known| *known as u8 == kind)
    }
}

/// A room as the subject of an entry.
pub fn room_subject(room: RoomNo) -> Bytes {
    Bytes::copy_from_slice(&room.to_be_bytes())
}

/// The room that an entry of one of our kinds is about.
pub fn room_of(subject: &[u8]) -> Option<RoomNo> {
    Some(RoomNo::from_be_bytes(subject.try_into().ok()?))
}
