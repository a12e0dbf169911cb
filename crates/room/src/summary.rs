//! How a room without a name is called: by the people in it. [CS-API §calculating-the-display-name-for-a-room]

use koine_store::Direction;
use ruma_common::{OwnedUserId, UserId};

use crate::{
    error::ReadError,
    room::Room,
    tables::{MEMBER, Membership, Order},
};

/// Most people who name a room.
pub const HEROES_MAX: usize = 5;
/// Most members looked at to find them. A room with more than these has other ways to be told.
const HEROES_LOOK_MAX: usize = 200;

impl Room {
    /// The first people of the room beside `user`: those joined or invited, else those who went. `None` where a name
    /// or a canonical alias names the room.
    pub fn heroes(&self, user: &UserId) -> Result<Option<Vec<OwnedUserId>>, ReadError> {
        if self.is_named("m.room.name", "name")? || self.is_named("m.room.canonical_alias", "alias")? {
            return Ok(None);
        }
        let mut here: Vec<(Order, String)> = Vec::new();
        let mut gone: Vec<(Order, String)> = Vec::new();
        let view = self.core.shard.view();
        let rows = view.prefix(&MEMBER, self.core.domain(), &(self.no(),), Direction::Forward);
        for row in rows.take(HEROES_LOOK_MAX) {
            let ((_, _, member), record) = row?;
            if member == user.as_str() {
                continue;
            }
            match record.membership {
                Membership::Join | Membership::Invite => here.push((record.order, member)),
                Membership::Leave | Membership::Ban => gone.push((record.order, member)),
                Membership::Knock => {}
            }
        }
        let mut heroes = if here.is_empty() { gone } else { here };
        heroes.sort_unstable();
        let heroes = heroes.into_iter().take(HEROES_MAX).filter_map(|(_, user)| OwnedUserId::try_from(user).ok());
        Ok(Some(heroes.collect()))
    }

    fn is_named(&self, kind: &str, field: &str) -> Result<bool, ReadError> {
        let event = self.current(kind, "")?;
        Ok(event.and_then(|event| event.event.content_field::<String>(field)).is_some_and(|name| !name.is_empty()))
    }
}
