//! Who may learn of somebody's existence and presence: people who share a room, or stand in one that is open to all.
//!
//! [CS-API §presence] [CS-API §user-directory]. Who is told is of this server alone; whom it is about may be of another.

use std::collections::{HashMap, HashSet};

use ruma_common::{OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    contacts::Contacts,
    error::ReadError,
    registry::Rooms,
    tables::{Membership, RoomNo},
};

/// Most people answered by [`Rooms::local_contacts`].
pub const LOCAL_CONTACTS_MAX: usize = 2_000;

/// Whom somebody may find. Remembers what it found.
pub struct Acquaintances<'a> {
    rooms: &'a Rooms,
    contacts: Contacts<'a>,
    open: HashMap<RoomNo, bool>,
}

impl Rooms {
    /// Whom `user`, who is local, may find.
    pub fn acquaintances<'a>(&'a self, user: &'a UserId) -> Result<Acquaintances<'a>, ReadError> {
        Ok(Acquaintances { rooms: self, contacts: self.contacts(user)?, open: HashMap::new() })
    }

    /// People of this server who share a room with `user`, who is local, and is one of them; at most
    /// [`LOCAL_CONTACTS_MAX`].
    pub fn local_contacts(&self, user: &UserId) -> Result<HashSet<OwnedUserId>, ReadError> {
        let mut found = HashSet::from([user.to_owned()]);
        self.for_contacts(user, |joined| {
            let rest = LOCAL_CONTACTS_MAX.saturating_sub(found.len());
            found.extend(joined.take(rest).map(ToOwned::to_owned));
        })?;
        Ok(found)
    }

    /// Tells those of ours who are connected and share a room with `user` that their presence changed. `person` is a number
    /// by which the presence is found. Costs our people in the user's rooms.
    pub fn presence_changed(&self, user: &UserId, person: u64) -> Result<(), ReadError> {
        let hub = &self.core.hub;
        let mut connected = HashSet::new();
        self.for_contacts(user, |joined| hub.add_connected(joined, &mut connected))?;
        // Not they themselves: it would answer the very request by which they came.
        connected.remove(user);
        hub.deliver_presence(connected.iter().map(|user| &**user), person);
        Ok(())
    }

    /// Tells other servers that the presence of `user`, who is local, is `content` now, in the words of Matrix.
    pub fn tell_presence(&self, user: &UserId, content: &Value) {
        if let Ok(elsewhere) = self.elsewhere() {
            elsewhere.presence(user, content);
        }
    }
}

impl Acquaintances<'_> {
    /// Whether `other`, who is local, shares a room with the user or is in a room that everybody may enter or read.
    pub fn contains(&mut self, other: &UserId) -> Result<bool, ReadError> {
        if self.contacts.contains(other)? {
            return Ok(true);
        }
        for (no, record) in self.rooms.memberships(other)? {
            if record.membership == Membership::Join && self.is_open(no)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_open(&mut self, no: RoomNo) -> Result<bool, ReadError> {
        #[derive(Default, Deserialize)]
        struct Content {
            join_rule: Option<String>,
            history_visibility: Option<String>,
        }
        if let Some(open) = self.open.get(&no) {
            return Ok(*open);
        }
        let room = self.rooms.room_by_no(no)?;
        let content = |kind: &str| -> Result<Content, ReadError> {
            let placed = room.current(kind, "")?;
            Ok(placed.and_then(|placed| serde_json::from_str(placed.event.content().get()).ok()).unwrap_or_default())
        };
        let open = content("m.room.join_rules")?.join_rule.as_deref() == Some("public")
            || content("m.room.history_visibility")?.history_visibility.as_deref() == Some("world_readable");
        self.open.insert(no, open);
        Ok(open)
    }
}
