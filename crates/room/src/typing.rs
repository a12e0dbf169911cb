//! Who is typing. Kept in memory alone: it is true for seconds. [CS-API §typing-notifications]

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use ruma_common::{OwnedUserId, RoomId, UserId};
use tokio::{sync::Notify, time::Instant};

use crate::{error::CommandError, registry::Rooms, room::Room, tables::Membership};

/// Longest time that one notification makes somebody a typist.
pub const TYPING_TIME_MAX: Duration = Duration::from_secs(120);
/// Most people who type in a room at the same time; the others are not shown.
pub const TYPING_USERS_MAX: usize = 100;

/// Who is typing in a room.
#[derive(Debug, Default)]
pub struct Typing {
    until: BTreeMap<OwnedUserId, Instant>,
    /// Mark of the last change, from the [`Hub`](crate::Hub); 0 when nobody ever typed.
    mark: u64,
    /// A task waits for the earliest deadline; there is one while `until` is not empty.
    waits: bool,
    /// Rung when a deadline may have become earlier.
    bell: Arc<Notify>,
}

impl Rooms {
    /// `user` types for the time given, or stopped. A time beyond [`TYPING_TIME_MAX`] is cut.
    ///
    /// # Errors
    /// `NotJoined`
    pub fn set_typing(&self, user: &UserId, room: &RoomId, time: Option<Duration>) -> Result<(), CommandError> {
        let room = self.room(room)?;
        if room.local_membership(user) != Some(Membership::Join) {
            return Err(CommandError::NotJoined);
        }
        let time = time.map(|time| time.min(TYPING_TIME_MAX));
        room.type_for(user, time);
        if let Some(elsewhere) = self.elsewhere.get() {
            elsewhere.typing(user, &room, time.is_some());
        }
        Ok(())
    }

    /// The same for somebody of another server, as that server told. Who is not in the room does not type there.
    pub fn typed_elsewhere(&self, user: &UserId, room: &RoomId, time: Option<Duration>) -> Result<(), CommandError> {
        let room = self.room(room)?;
        if user.server_name() == self.server_name() || !room.may_be_joined(user) {
            return Err(CommandError::NotJoined);
        }
        room.type_for(user, time.map(|time| time.min(TYPING_TIME_MAX)));
        Ok(())
    }
}

impl Room {
    /// People who type now, and the mark of the last change.
    pub fn typing(&self) -> (Vec<OwnedUserId>, u64) {
        let typing = self.typing.lock();
        let now = Instant::now();
        let users = typing.until.iter().filter(|(_, until)| **until > now).map(|(user, _)| user.clone());
        (users.collect(), typing.mark)
    }

    /// People who type now, if that changed after `mark`.
    pub fn typing_after(&self, mark: u64) -> Option<Vec<OwnedUserId>> {
        let (users, newest) = self.typing();
        (newest > mark).then_some(users)
    }

    /// Notes that `user` types for `time`, or no more, and tells the others if that is new.
    pub(crate) fn type_for(self: &Arc<Self>, user: &UserId, time: Option<Duration>) {
        let mut typing = self.typing.lock();
        let was = typing.until.contains_key(user);
        match time {
            Some(time) => {
                if !was && typing.until.len() >= TYPING_USERS_MAX {
                    return;
                }
                typing.until.insert(user.to_owned(), Instant::now() + time);
                if !typing.waits {
                    typing.waits = true;
                    tokio::spawn(expire(Arc::downgrade(self), typing.bell.clone()));
                }
            }
            None => {
                typing.until.remove(user);
            }
        }
        typing.bell.notify_one();
        if was != time.is_some() {
            self.tell_of_typing(&mut typing);
        }
    }

    /// Who leaves in the midst of a word types no more. Called when memberships changed.
    pub(crate) fn stop_typing_of_leavers(&self) {
        let mut typing = self.typing.lock();
        let before = typing.until.len();
        typing.until.retain(|user, _| {
            let is_local = user.server_name() == self.core.config.server_name;
            !is_local || self.local_membership(user) == Some(Membership::Join)
        });
        if typing.until.len() < before {
            self.tell_of_typing(&mut typing);
        }
    }

    /// Takes those off the list whose time is over; the next deadline.
    fn expire_typing(&self) -> Option<Instant> {
        let mut typing = self.typing.lock();
        let now = Instant::now();
        let before = typing.until.len();
        typing.until.retain(|_, until| *until > now);
        if typing.until.len() < before {
            self.tell_of_typing(&mut typing);
        }
        let next = typing.until.values().min().copied();
        typing.waits = next.is_some();
        next
    }

    fn tell_of_typing(&self, typing: &mut Typing) {
        let hub = &self.core.hub;
        typing.mark = self.for_local_joined(|joined| hub.deliver_fleeting(joined, self.no()));
        hub.tell_typed(self.no());
    }
}

/// Waits for deadlines until nobody types any more.
async fn expire(room: Weak<Room>, bell: Arc<Notify>) {
    while let Some(next) = room.upgrade().and_then(|room| room.expire_typing()) {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = bell.notified() => {}
        }
    }
}
