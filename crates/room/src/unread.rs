//! How much each member has not read, counted by rules that somebody else brings.
//!
//! What an event means for a reader (nothing, a notification, a highlight) is decided by [`UnreadRules`], which
//! `koine-push` implements. Here is the counting.

use std::{cell::OnceCell, sync::Arc};

use ruma_common::{RoomId, UserId};

use crate::room::{Placed, Room};

/// Decides what an event means for a reader.
pub trait UnreadRules: Send + Sync {
    /// What `event` means for `user`. Never asked about the user's own events. Must not block.
    fn verdict(&self, user: &UserId, event: &Placed, room: &UnreadContext<'_>) -> Verdict;
}

/// What one event means for one reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// It counts as a notification.
    pub notify: bool,
    /// It also counts as a highlight; implies `notify`.
    pub highlight: bool,
}

/// What rules may know about the room, as it is now. Made once for a run of events of one reader; every part is
/// looked up when first asked for. What cannot be read counts as absent: a verdict is no place to fail.
pub struct UnreadContext<'a> {
    room: &'a Room,
    user: &'a UserId,
    display_name: OnceCell<Option<String>>,
    power_levels: OnceCell<Option<Arc<Placed>>>,
    create: OnceCell<Option<Arc<Placed>>>,
}

impl<'a> UnreadContext<'a> {
    /// The room as `user` sees it.
    pub fn new(room: &'a Room, user: &'a UserId) -> Self {
        Self {
            room,
            user,
            display_name: OnceCell::new(),
            power_levels: OnceCell::new(),
            create: OnceCell::new(),
        }
    }

    /// The room itself.
    pub fn room(&self) -> &Room {
        self.room
    }

    /// Its id.
    pub fn room_id(&self) -> &RoomId {
        self.room.id()
    }

    /// Members joined.
    pub fn joined(&self) -> u64 {
        self.room.published().joined
    }

    /// The display name of the reader in this room.
    pub fn display_name(&self) -> Option<&str> {
        #[derive(serde::Deserialize)]
        struct Content {
            displayname: Option<String>,
        }
        self.display_name
            .get_or_init(|| {
                let member = self.room.current("m.room.member", self.user.as_str()).ok().flatten()?;
                serde_json::from_str::<Content>(member.event.content().get()).ok()?.displayname
            })
            .as_deref()
    }

    /// The event with the power levels.
    pub fn power_levels(&self) -> Option<&Placed> {
        self.power_levels.get_or_init(|| self.room.current("m.room.power_levels", "").ok().flatten()).as_deref()
    }

    /// The event that made the room: its creators stand above all levels since room version 12.
    pub fn create(&self) -> Option<&Placed> {
        self.create.get_or_init(|| self.room.current("m.room.create", "").ok().flatten()).as_deref()
    }
}
