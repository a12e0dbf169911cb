//! Who may learn of somebody's existence and presence: people who share a room, or stand in one that is open to all.
//!
//! [CS-API §presence] [CS-API §user-directory]. Who is told is of this server alone; whom it is about may be of another.

use std::collections::{HashMap, HashSet};

use koine_store::Direction;
use ruma_common::{OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    contacts::Contacts,
    error::ReadError,
    members::profile_in,
    membership::Profile,
    registry::Rooms,
    room::Room,
    tables::{MEMBER, Membership, RoomNo},
};

/// Most people answered by [`Rooms::local_contacts`].
pub const LOCAL_CONTACTS_MAX: usize = 2_000;

/// Most memberships of people of other servers that one search looks at.
pub const REMOTE_LOOK_MAX: usize = 10_000;

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

    /// People of other servers who share a room with `user`, who is local, and whom `fits` takes to be wanted, with the
    /// profiles they have in the first such room. At most [`REMOTE_LOOK_MAX`] memberships are looked at.
    pub fn people_elsewhere(
        &self,
        user: &UserId,
        fits: impl Fn(&UserId, Option<&str>) -> bool,
    ) -> Result<Vec<(OwnedUserId, Profile)>, ReadError> {
        let (mut known, mut found, mut looked) = (HashSet::new(), Vec::new(), 0);
        for no in self.rooms_of(user)? {
            let room = match self.room_by_no(no) {
                Err(ReadError::NoSuchRoom) => continue,
                other => other?,
            };
            for other in room.remote_joined()? {
                if looked >= REMOTE_LOOK_MAX {
                    return Ok(found);
                }
                looked += 1;
                if known.contains(&other) {
                    continue;
                }
                let profile = room.current("m.room.member", other.as_str())?.map(|placed| profile_in(&placed));
                let profile = profile.unwrap_or_default();
                if fits(&other, profile.displayname.as_deref()) {
                    found.push((other.clone(), profile));
                }
                known.insert(other);
            }
        }
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

impl Room {
    /// People of other servers who are joined, in the order of their names.
    pub(crate) fn remote_joined(&self) -> Result<Vec<OwnedUserId>, ReadError> {
        let view = self.core.shard.view();
        let mut found = Vec::new();
        for row in view.prefix(&MEMBER, self.core.domain(), &(self.no(), true), Direction::Forward) {
            let ((_, _, user), record) = row?;
            if record.membership == Membership::Join && found.len() < REMOTE_LOOK_MAX {
                // Ids that are none stand in rooms of old.
                found.extend(OwnedUserId::try_from(user).ok());
            }
        }
        Ok(found)
    }
}

impl Acquaintances<'_> {
    /// Whether `other`, who is local, shares a room with the user or is in a room that everybody may enter or read.
    pub fn contains(&mut self, other: &UserId) -> Result<bool, ReadError> {
        let joined = self.rooms.rooms_of(other)?;
        if self.contacts.is_in_any(&joined) {
            return Ok(true);
        }
        for no in joined {
            if self.is_open(no)? {
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
