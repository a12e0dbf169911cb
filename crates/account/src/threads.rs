//! Threads that somebody follows. [MSC4306]
//!
//! A subscription is kept for each account and thread, with the position in the log where it changed last, so that
//! "what changed since?" costs what changed. Whether there is such a thread, and who may see it, the caller knows.

use koine_store::{Direction, KeyRange, Position, StoreError, Txn};
use ruma_common::{EventId, OwnedEventId, OwnedRoomId, RoomId, UserId};

use crate::{
    Accounts, StoreUnavailable,
    log::{self, Kind},
    tables::{THREAD_SUBSCRIPTION, THREAD_SUBSCRIPTION_AT, THREADS, ThreadKey, ThreadRecord, USER},
};

/// Most threads that one account is remembered to follow, or to have left; past it new ones are refused.
pub const THREAD_SUBSCRIPTIONS_MAX: u64 = 50_000;

/// What an account has to do with a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadSubscription {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event that the thread hangs on.
    pub root: OwnedEventId,
    /// Whether it is followed; if not, it was once.
    pub is_subscribed: bool,
    /// Whether the client followed it by itself, because its user was mentioned for example.
    pub is_automatic: bool,
    /// Where that changed last.
    pub position: Position,
}

/// Why a thread was not followed.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// There is no such account here.
    #[error("there is no such account")]
    UnknownUser,
    /// The user left the thread after the event for which a client wanted to follow it.
    #[error("the thread was left after this event")]
    LeftSince,
    /// More than [`THREAD_SUBSCRIPTIONS_MAX`].
    #[error("at most {THREAD_SUBSCRIPTIONS_MAX} threads can be followed")]
    TooMany,
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl From<StoreError> for SubscribeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

impl Accounts {
    /// What an account has to do with a thread; nothing if it never had.
    pub fn thread_subscription(
        &self,
        user_id: &UserId,
        room_id: &RoomId,
        root: &EventId,
    ) -> Result<Option<ThreadSubscription>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        let record =
            self.shard.get(&THREAD_SUBSCRIPTION, self.domain, &(localpart, room_id.as_str(), root.as_str()))?;
        Ok(record.map(|record| subscription(room_id.to_owned(), root.to_owned(), &record)))
    }

    /// Follows a thread. `cause` is where in the log the event stands for which a client does so by itself; such a one
    /// changes nothing where the user follows the thread already, and is refused where they left it since.
    pub async fn subscribe_thread(
        &self,
        user_id: &UserId,
        room_id: &RoomId,
        root: &EventId,
        cause: Option<Position>,
    ) -> Result<(), SubscribeError> {
        let localpart = self.key(user_id).ok_or(SubscribeError::UnknownUser)?.to_owned();
        let (domain, owner) = (self.domain, user_id.to_owned());
        let (room, root) = (room_id.to_string(), root.to_string());
        let commit = move |txn: &mut Txn| -> Result<(), SubscribeError> {
            if txn.get(&USER, domain, localpart.as_str())?.is_none_or(|user| user.is_deactivated) {
                return Err(SubscribeError::UnknownUser);
            }
            let count = txn.get(&THREADS, domain, localpart.as_str())?.unwrap_or(0);
            let key = (localpart, room, root);
            let old = txn.get(&THREAD_SUBSCRIPTION, domain, &key)?;
            match (&old, cause) {
                (Some(old), Some(_)) if old.is_subscribed => return Ok(()),
                (Some(old), Some(cause)) if old.position >= cause.0 => return Err(SubscribeError::LeftSince),
                (Some(old), None) if old.is_subscribed && !old.is_automatic => return Ok(()),
                (None, _) if count >= THREAD_SUBSCRIPTIONS_MAX => return Err(SubscribeError::TooMany),
                (None, _) => txn.put(&THREADS, domain, key.0.as_str(), &(count + 1)),
                _ => {}
            }
            let record = ThreadRecord { position: 0, is_subscribed: true, is_automatic: cause.is_some() };
            write(txn, domain, &owner, &key, old, &record);
            Ok(())
        };
        self.change(commit).await?
    }

    /// Leaves a thread. One that is not followed stays so.
    pub async fn unsubscribe_thread(
        &self,
        user_id: &UserId,
        room_id: &RoomId,
        root: &EventId,
    ) -> Result<(), StoreUnavailable> {
        let Some(localpart) = self.key(user_id).map(ToOwned::to_owned) else { return Ok(()) };
        let (domain, owner) = (self.domain, user_id.to_owned());
        let (room, root) = (room_id.to_string(), root.to_string());
        let commit = move |txn: &mut Txn| -> Result<(), StoreError> {
            let key = (localpart, room, root);
            let Some(old) = txn.get(&THREAD_SUBSCRIPTION, domain, &key)?.filter(|old| old.is_subscribed) else {
                return Ok(());
            };
            let record = ThreadRecord { position: 0, is_subscribed: false, is_automatic: false };
            write(txn, domain, &owner, &key, Some(old), &record);
            Ok(())
        };
        Ok(self.change(commit).await??)
    }

    /// What changed in `(after, up_to]`, newest first, at most `limit`; and whether there is more.
    pub fn thread_subscriptions(
        &self,
        user_id: &UserId,
        after: Option<Position>,
        up_to: Position,
        limit: usize,
    ) -> Result<(Vec<ThreadSubscription>, bool), StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok((Vec::new(), false)) };
        let view = self.shard.view();
        let mut range = KeyRange::prefix(&(localpart,)).through(&(localpart, up_to.0));
        if let Some(after) = after {
            range = range.after(&(localpart, after.0));
        }
        let mut found = Vec::new();
        for row in view.scan(&THREAD_SUBSCRIPTION_AT, self.domain, range, Direction::Backward) {
            if found.len() >= limit {
                return Ok((found, true));
            }
            let (_, key) = row?;
            let stored = (localpart, key.room.as_str(), key.root.as_str());
            let record = view.get(&THREAD_SUBSCRIPTION, self.domain, &stored)?;
            let record = record.ok_or_else(|| StoreUnavailable::damaged("a thread without a subscription"))?;
            let (Ok(room), Ok(root)) = (OwnedRoomId::try_from(key.room), OwnedEventId::try_from(key.root)) else {
                return Err(StoreUnavailable::damaged("a thread that is none"));
            };
            found.push(subscription(room, root, &record));
        }
        Ok((found, false))
    }
}

/// Writes a subscription where the log stands now.
fn write(
    txn: &mut Txn,
    domain: koine_store::DomainId,
    owner: &UserId,
    key: &(String, String, String),
    old: Option<ThreadRecord>,
    record: &ThreadRecord,
) {
    if let Some(old) = old {
        txn.delete(&THREAD_SUBSCRIPTION_AT, domain, &(key.0.clone(), old.position));
    }
    let position = txn.append(log::entry(domain, owner, Kind::ThreadSubscription, "")).0;
    txn.put(&THREAD_SUBSCRIPTION, domain, key, &ThreadRecord { position, ..record.clone() });
    let (localpart, room, root) = key.clone();
    txn.put(&THREAD_SUBSCRIPTION_AT, domain, &(localpart, position), &ThreadKey { room, root });
}

fn subscription(room_id: OwnedRoomId, root: OwnedEventId, record: &ThreadRecord) -> ThreadSubscription {
    ThreadSubscription {
        room_id,
        root,
        is_subscribed: record.is_subscribed,
        is_automatic: record.is_automatic,
        position: Position(record.position),
    }
}
