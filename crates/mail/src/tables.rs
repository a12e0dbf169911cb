//! What mail keeps in the store. Tags `0xd0` to `0xd7` are for what comes in, `0xd8` to `0xdf` for what goes out.

use koine_room::RoomNo;
use koine_store::{Space, Table};

/// (room, hash of the Message-ID of somebody else) → the event that the mail became, its text where it has one.
pub(crate) const MESSAGE_ID: Table<(RoomNo, [u8; 32]), String> = Table::new("mail.message_id", Space::Index, 0xd0);
/// (hash of the Message-ID of somebody else, room) → nothing: in which rooms a mail is.
pub(crate) const MESSAGE_ROOM: Table<([u8; 32], RoomNo), ()> = Table::new("mail.message_room", Space::Index, 0xd1);
/// (hash of the set of people) → the room of those people and nobody else.
pub(crate) const CIRCLE: Table<[u8; 32], RoomNo> = Table::new("mail.circle", Space::Index, 0xd2);
