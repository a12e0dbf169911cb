//! Telling pushers: who is told of what, how often it is tried, and what happens when it works.
//!
//! A notification is sent until the gateway took it, one after the other for each pusher, with growing waits between
//! tries, for a day at most. Whether somebody still wants it is looked at once more right before: who has read meanwhile is
//! not disturbed. [PG-API §post_matrixpushv1notify]

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use koine_account::{Accounts, StoreUnavailable};
use koine_net::{Client, Error as NetError, Limits, WebRequest, bytes::Bytes, http::Method};
use koine_room::{Placed, ReadError, Room, RoomNo, Rooms};
use koine_store::{CommitError, DomainId, StoreError};
use parking_lot::Mutex;
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedUserId, UserId};
use tokio::sync::Semaphore;

use crate::{
    badge::Badges,
    gateway,
    line::{Line, Notice},
    pusher::{Book, Pusher, SetPusherError},
    rules::PushRules,
    verdict::Wanted,
};

/// Requests to gateways under way at the same time.
const SENDING_MAX: usize = 128;
/// How old a notification may get before nobody is told of it any more.
const AGE_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// How long and how large the answer of a gateway may be.
const LIMITS: Limits = Limits {
    headers: Duration::from_secs(30),
    stall: Duration::from_secs(15),
    total: Duration::from_secs(60),
    body_bytes_max: 256 * 1024,
};

/// What pushers are made of.
pub struct PusherCores {
    /// The tenant.
    pub domain: DomainId,
    /// People.
    pub accounts: Arc<Accounts>,
    /// Rooms.
    pub rooms: Arc<Rooms>,
    /// Who wants to be told of what.
    pub rules: Arc<PushRules>,
    /// Reaches gateways.
    pub web: Client,
    /// The time.
    pub now: fn() -> MilliSecondsSinceUnixEpoch,
}

/// The pushers of the accounts of one domain. Cloning it costs a counter.
#[derive(Clone)]
pub struct Pushers(Arc<Inner>);

pub(crate) struct WeakPushers(Weak<Inner>);

/// Whose pusher.
pub(crate) type LineKey = (OwnedUserId, String, String);

struct Inner {
    cores: PusherCores,
    book: Book,
    badges: Badges,
    lines: Mutex<HashMap<LineKey, Arc<Line>>>,
    sending: Semaphore,
}

impl WeakPushers {
    pub(crate) fn upgrade(&self) -> Option<Pushers> {
        self.0.upgrade().map(Pushers)
    }
}

impl Pushers {
    /// Reads the pushers there are. Nobody is told anything before [`start`](Self::start).
    pub fn open(cores: PusherCores) -> Result<Self, StoreError> {
        let book = Book::open(cores.rooms.shard().clone(), cores.domain, cores.accounts.clone())?;
        let (badges, lines, sending) = (Badges::default(), Mutex::default(), Semaphore::new(SENDING_MAX));
        Ok(Self(Arc::new(Inner { cores, book, badges, lines, sending })))
    }

    /// Begins to follow the log and to tell pushers. Needs a tokio runtime; ends with the last clone.
    pub fn start(&self) {
        crate::follow::start(self);
    }

    pub(crate) fn downgrade(&self) -> WeakPushers {
        WeakPushers(Arc::downgrade(&self.0))
    }

    /// The pushers of an account.
    pub fn of(&self, user: &UserId) -> Result<Vec<Arc<Pusher>>, StoreUnavailable> {
        self.0.book.of(user)
    }

    /// Sets a pusher, in the place of the one with the same application and key. Unless `append`, other accounts lose
    /// theirs with the same: the device is somebody else's now.
    pub async fn set(&self, user: &UserId, pusher: Pusher, append: bool) -> Result<(), SetPusherError> {
        self.0.book.set(user, pusher, append).await
    }

    /// Removes a pusher, if it is there.
    pub async fn delete(&self, user: &UserId, app_id: &str, pushkey: &str) -> Result<(), CommitError> {
        self.0.book.delete(user, app_id, pushkey).await
    }

    pub(crate) fn book(&self) -> &Book {
        &self.0.book
    }

    pub(crate) fn cores(&self) -> &PusherCores {
        &self.0.cores
    }

    pub(crate) fn badges(&self) -> &Badges {
        &self.0.badges
    }

    pub(crate) fn now_ms(&self) -> u64 {
        (self.0.cores.now)().get().into()
    }

    /// The lines there are, for writing down who is behind.
    pub(crate) fn lines(&self) -> Vec<(LineKey, Arc<Line>)> {
        self.0.lines.lock().iter().map(|(key, line)| (key.clone(), line.clone())).collect()
    }

    /// What the rules of `user` want of an event; nothing if they need not be told, or no longer.
    pub(crate) fn wanted(&self, user: &UserId, room: &Room, placed: &Placed) -> Result<Option<Wanted>, ReadError> {
        let unreadable = |error: StoreUnavailable| ReadError::Damaged(error.to_string());
        let cores = &self.0.cores;
        let sender = placed.event.sender();
        if sender == user || placed.redacted_by.is_some() {
            return Ok(None);
        }
        // [CS-API §ignoring-users]
        if cores.accounts.ignored_users(user).map_err(unreadable)?.contains(sender) {
            return Ok(None);
        }
        let wanted = cores.rules.wanted(user, placed, room).map_err(unreadable)?;
        if !wanted.notify || room.has_read(user, placed)? {
            return Ok(None);
        }
        Ok(Some(wanted))
    }

    /// Has a pusher told of something, now or as soon as it can be.
    pub(crate) fn tell(&self, user: &UserId, pusher: &Pusher, notice: Notice) {
        let key = (user.to_owned(), pusher.app_id.clone(), pusher.pushkey.clone());
        let line = self.0.lines.lock().entry(key.clone()).or_default().clone();
        if line.add(notice) {
            tokio::spawn(serve(self.downgrade(), key, line));
        }
    }

    async fn try_to_tell(&self, user: &UserId, pusher: &Pusher, notice: Notice) -> Result<(), NetError> {
        if self.now_ms().saturating_sub(notice.since_ms) > AGE_MAX_MS {
            return Ok(());
        }
        let body = match self.body(user, pusher, notice) {
            Ok(Some(body)) => body,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(user_id = %user, reason = %error, "somebody is not told of an event that cannot be read");
                return Ok(());
            }
        };
        let Some(url) = pusher.url() else { return Ok(()) };
        let _place = self.0.sending.acquire().await.expect("nobody closes this semaphore");
        let request = WebRequest::json(Method::POST, url, Bytes::from(body.to_string()), LIMITS);
        let answer = self.0.cores.web.web(request).await?.bytes().await?;
        // [PG-API §post_matrixpushv1notify] "Homeservers must cease sending notification requests for these pushkeys"
        if gateway::rejected(&answer).contains(&pusher.pushkey) {
            tracing::debug!(user_id = %user, app_id = pusher.app_id, "a push gateway knows a pusher no longer; it is removed");
            if let Err(error) = self.delete(user, &pusher.app_id, &pusher.pushkey).await {
                tracing::warn!(user_id = %user, reason = %error, "a rejected pusher could not be removed");
            }
        }
        Ok(())
    }

    fn body(&self, user: &UserId, pusher: &Pusher, notice: Notice) -> Result<Option<serde_json::Value>, ReadError> {
        let Some(no) = notice.room else {
            let unread = self.0.badges.total(&self.0.cores, user, None)?;
            return Ok(Some(gateway::of_count(pusher, unread)));
        };
        let Some((room, placed)) = self.event(no, notice.position)? else { return Ok(None) };
        let Some(wanted) = self.wanted(user, &room, &placed)? else { return Ok(None) };
        let unread = self.0.badges.total(&self.0.cores, user, Some(no))?;
        Ok(Some(gateway::of_event(pusher, user, (&room, &placed), &wanted, unread)))
    }

    /// The event that the log tells of at `position`.
    pub(crate) fn event(&self, no: RoomNo, position: u64) -> Result<Option<koine_room::InRoom>, ReadError> {
        let room = self.0.cores.rooms.room_by_no(no)?;
        let order = i64::try_from(position).unwrap_or(i64::MAX);
        let placed = room.event_at(order)?.filter(|placed| placed.order == order);
        Ok(placed.map(|placed| (room, placed)))
    }

    /// Forgets the pushers of a device that is gone.
    pub(crate) async fn forget_device(&self, user: &UserId, device: &ruma_common::DeviceId) {
        let orphans = match self.0.book.orphans(user, device) {
            Ok(orphans) => orphans,
            Err(error) => {
                tracing::warn!(user_id = %user, reason = %error, "the pushers of a device cannot be looked at");
                return;
            }
        };
        for pusher in orphans {
            if let Err(error) = self.delete(user, &pusher.app_id, &pusher.pushkey).await {
                tracing::warn!(user_id = %user, reason = %error, "a pusher of a device that is gone could not be removed");
            }
        }
    }

    /// The pusher of a line, if it is still there.
    pub(crate) fn pusher(&self, key: &LineKey) -> Option<Arc<Pusher>> {
        self.0.book.one(&key.0, &key.1, &key.2)
    }

    fn forget_line(&self, key: &LineKey) {
        self.0.lines.lock().remove(key);
    }
}

/// Tells one pusher what waits for it, until nothing does.
async fn serve(weak: WeakPushers, key: LineKey, line: Arc<Line>) {
    while let Some(notice) = line.first() {
        let Some(pushers) = weak.upgrade() else { return };
        let Some(pusher) = pushers.pusher(&key) else {
            pushers.forget_line(&key);
            return;
        };
        match pushers.try_to_tell(&key.0, &pusher, notice).await {
            Ok(()) => line.done(notice),
            Err(error) => {
                let wait = line.failed();
                tracing::debug!(user_id = %key.0, app_id = key.1, reason = %error, wait_s = wait.as_secs(), "a push gateway did not take a notification");
                drop(pushers);
                tokio::time::sleep(wait).await;
            }
        }
    }
}
