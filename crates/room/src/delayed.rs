//! Events that are sent later, unless their sender changes their mind. [MSC4140]
//!
//! A call uses them to leave when its client falls silent: the event that says so is scheduled, and put off again and
//! again while the client lives. So scheduling is durable, and who knows the id may put off, send or cancel.
//!
//! An event is claimed in the store before it is sent and finished after; a crash between the two sends it with the next
//! start, and the transaction that its id makes keeps it from being there twice. What became of it can be asked for a day.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use koine_store::{Direction, StoreError, Txn};
use ruma_common::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use crate::{
    error::{CommandError, ReadError},
    registry::Rooms,
    send::Sender,
    tables::{DELAYED, DELAYED_DUE, DELAYED_OF, DelayedOutcome, DelayedRecord, Membership, TXN},
};

/// Longest delay.
pub const DELAY_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Most events that one account may have scheduled at once.
pub const DELAYED_PER_USER_MAX: usize = 100;
/// Most finished ones of one account that can be asked for; the oldest make room.
pub const DELAYED_DONE_MAX: usize = 100;
/// How long it can be asked what became of one.
const DONE_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Most events sent at the same time.
const AT_ONCE: usize = 64;
/// Longest sleep: the clock may be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// How long to wait when the store could not be read, or an event could be sent now but not kept.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// What is to be sent, and when.
#[derive(Clone, Copy, Debug)]
pub struct Delayed<'a> {
    /// The event's type.
    pub kind: &'a str,
    /// Set for a piece of state.
    pub state_key: Option<&'a str>,
    /// Its content.
    pub content: &'a RawValue,
    /// How long from now.
    pub delay: Duration,
}

/// A scheduled event, or one that was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayedEvent {
    /// By which it is known.
    pub delay_id: String,
    /// Whose it is.
    pub sender: OwnedUserId,
    /// Where to.
    pub room_id: OwnedRoomId,
    /// Its type.
    pub kind: String,
    /// Set for a piece of state.
    pub state_key: Option<String>,
    /// A JSON object.
    pub content: String,
    /// How long it waits, in milliseconds.
    pub delay_ms: u64,
    /// Since when, in milliseconds since the epoch.
    pub running_since: u64,
    /// What became of it, and when, in milliseconds since the epoch.
    pub done: Option<(Done, u64)>,
}

/// What became of a scheduled event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was sent.
    Sent(OwnedEventId),
    /// It was taken back.
    Cancelled,
    /// The room refused it.
    Failed(String),
}

/// Why a scheduled event is not, or is not changed.
#[derive(Debug, thiserror::Error)]
pub enum DelayError {
    /// Longer than [`DELAY_MAX`].
    #[error("an event can be delayed by at most {} seconds", DELAY_MAX.as_secs())]
    TooLong,
    /// More than [`DELAYED_PER_USER_MAX`].
    #[error("at most {DELAYED_PER_USER_MAX} events can be scheduled at once")]
    TooMany,
    /// No event has this id.
    #[error("no delayed event has this id")]
    Unknown,
    /// Too late: something else became of it.
    #[error("the delayed event was sent or cancelled before")]
    Finished,
    /// See there.
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl From<ReadError> for DelayError {
    fn from(error: ReadError) -> Self {
        Self::Command(error.into())
    }
}

impl From<StoreError> for DelayError {
    fn from(error: StoreError) -> Self {
        Self::Command(error.into())
    }
}

impl Rooms {
    /// The id of what was scheduled by an earlier request with the same transaction id.
    pub fn scheduled_before(
        &self,
        sender: Sender<'_>,
        room: &RoomId,
        kind: &str,
        txn: &str,
    ) -> Result<Option<String>, ReadError> {
        let Some(device) = sender.device else { return Ok(None) };
        let row = (sender.user.as_str(), device, &*request(room, kind), txn);
        Ok(self.core.shard.get(&TXN, self.core.domain(), &row)?)
    }

    /// Schedules an event; its id. The same transaction id from the same device gives the same one.
    pub async fn schedule(
        &self,
        sender: Sender<'_>,
        room: &RoomId,
        wanted: Delayed<'_>,
        txn_id: Option<&str>,
    ) -> Result<String, DelayError> {
        if wanted.delay > DELAY_MAX {
            return Err(DelayError::TooLong);
        }
        if self.room(room)?.local_membership(sender.user) != Some(Membership::Join) {
            return Err(CommandError::NotJoined.into());
        }
        let max = koine_graph::event::EVENT_BYTES_MAX;
        if wanted.content.get().len() > max {
            return Err(CommandError::TooLarge { size: wanted.content.get().len(), max }.into());
        }
        let now = self.now_ms();
        let record = DelayedRecord {
            user: sender.user.to_string(),
            room_id: room.to_string(),
            kind: wanted.kind.to_owned(),
            state_key: wanted.state_key.map(ToOwned::to_owned),
            content: wanted.content.get().to_owned(),
            delay_ms: u64::try_from(wanted.delay.as_millis()).unwrap_or(u64::MAX),
            running_since: now,
            outcome: DelayedOutcome::Scheduled,
            done_ms: 0,
        };
        let transaction = txn_id.zip(sender.device);
        let transaction = transaction.map(|(id, device)| {
            (sender.user.to_string(), device.to_owned(), request(room, wanted.kind), id.to_owned())
        });
        let domain = self.core.domain();
        let delay_id = new_id(now);
        let commit = move |txn: &mut Txn| -> Result<String, DelayError> {
            if let Some(key) = &transaction
                && let Some(before) = txn.get(&TXN, domain, key)?
            {
                return Ok(before);
            }
            let own = koine_store::KeyRange::prefix(&(record.user.as_str(), false));
            if txn.scan(&DELAYED_OF, domain, own)?.len() >= DELAYED_PER_USER_MAX {
                return Err(DelayError::TooMany);
            }
            if let Some(key) = &transaction {
                txn.put(&TXN, domain, key, &delay_id);
            }
            txn.put(&DELAYED_OF, domain, &(record.user.clone(), false, delay_id.clone()), &());
            txn.put(&DELAYED_DUE, domain, &(record.due(), delay_id.clone()), &());
            txn.put(&DELAYED, domain, &delay_id, &record);
            Ok(delay_id)
        };
        let delay_id = self.change_delayed(commit).await?;
        self.delayed_bell.notify_one();
        Ok(delay_id)
    }

    /// What an account has scheduled, the oldest first.
    pub fn scheduled(&self, user: &UserId) -> Result<Vec<DelayedEvent>, ReadError> {
        let view = self.core.shard.view();
        let mut found = Vec::new();
        for row in view.prefix(&DELAYED_OF, self.core.domain(), &(user.as_str(), false), Direction::Forward) {
            let ((_, _, delay_id), ()) = row?;
            if let Some(record) = view.get(&DELAYED, self.core.domain(), delay_id.as_str())? {
                found.push(event(delay_id, record)?);
            }
        }
        Ok(found)
    }

    /// One event that is, or lately was, scheduled.
    pub fn delayed(&self, delay_id: &str) -> Result<Option<DelayedEvent>, ReadError> {
        let record = self.core.shard.get(&DELAYED, self.core.domain(), delay_id)?;
        record.map(|record| event(delay_id.to_owned(), record)).transpose()
    }

    /// Puts an event off: its delay begins again.
    pub async fn restart_delayed(&self, delay_id: &str) -> Result<(), DelayError> {
        let (domain, id, now) = (self.core.domain(), delay_id.to_owned(), self.now_ms());
        let commit = move |txn: &mut Txn| -> Result<(), DelayError> {
            let mut record = txn.get(&DELAYED, domain, &id)?.ok_or(DelayError::Unknown)?;
            if record.outcome != DelayedOutcome::Scheduled {
                return Err(DelayError::Finished);
            }
            txn.delete(&DELAYED_DUE, domain, &(record.due(), id.clone()));
            record.running_since = now;
            txn.put(&DELAYED_DUE, domain, &(record.due(), id.clone()), &());
            txn.put(&DELAYED, domain, &id, &record);
            Ok(())
        };
        self.change_delayed(commit).await
    }

    /// Takes an event back.
    pub async fn cancel_delayed(&self, delay_id: &str) -> Result<(), DelayError> {
        let (domain, id, now) = (self.core.domain(), delay_id.to_owned(), self.now_ms());
        let commit = move |txn: &mut Txn| -> Result<(), DelayError> {
            let record = txn.get(&DELAYED, domain, &id)?.ok_or(DelayError::Unknown)?;
            match record.outcome {
                DelayedOutcome::Scheduled => finish(txn, domain, &id, record, DelayedOutcome::Cancelled, now)?,
                DelayedOutcome::Cancelled => {}
                _ => return Err(DelayError::Finished),
            }
            Ok(())
        };
        self.change_delayed(commit).await
    }

    /// Sends an event now.
    pub async fn send_delayed(&self, delay_id: &str) -> Result<(), DelayError> {
        let Some(record) = self.claim(delay_id).await? else { return Ok(()) };
        self.send_claimed(delay_id, record).await
    }

    /// Marks an event as being sent. `None`: it was sent before.
    async fn claim(&self, delay_id: &str) -> Result<Option<DelayedRecord>, DelayError> {
        let (domain, id) = (self.core.domain(), delay_id.to_owned());
        let commit = move |txn: &mut Txn| -> Result<Option<DelayedRecord>, DelayError> {
            let mut record = txn.get(&DELAYED, domain, &id)?.ok_or(DelayError::Unknown)?;
            match record.outcome {
                DelayedOutcome::Scheduled => {
                    record.outcome = DelayedOutcome::Sending;
                    txn.put(&DELAYED, domain, &id, &record);
                }
                DelayedOutcome::Sending => {}
                DelayedOutcome::Sent(_) => return Ok(None),
                DelayedOutcome::Cancelled | DelayedOutcome::Failed(_) => return Err(DelayError::Finished),
            }
            Ok(Some(record))
        };
        self.change_delayed(commit).await
    }

    async fn send_claimed(&self, delay_id: &str, record: DelayedRecord) -> Result<(), DelayError> {
        let sent = self.send_record(delay_id, &record).await;
        let (outcome, refused) = match sent {
            Ok(event_id) => (DelayedOutcome::Sent(event_id.to_string()), None),
            // Not the room's doing: it stays claimed, and is tried again.
            Err(
                error @ (CommandError::Commit(_)
                | CommandError::Store(_)
                | CommandError::Unsettled
                | CommandError::Damaged(_)),
            ) => return Err(error.into()),
            Err(error) => (DelayedOutcome::Failed(error.to_string()), Some(error)),
        };
        let (domain, id, now) = (self.core.domain(), delay_id.to_owned(), self.now_ms());
        self.change_delayed(move |txn: &mut Txn| Ok(finish(txn, domain, &id, record, outcome, now)?)).await?;
        refused.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn send_record(&self, delay_id: &str, record: &DelayedRecord) -> Result<OwnedEventId, CommandError> {
        let damaged = |what: &str| CommandError::Damaged(format!("delayed event {delay_id}: {what}"));
        let user = <&UserId>::try_from(record.user.as_str()).map_err(|_| damaged("its sender is none"))?;
        let room = <&RoomId>::try_from(record.room_id.as_str()).map_err(|_| damaged("its room is none"))?;
        let content = serde_json::from_str(&record.content).map_err(|_| damaged("its content is no JSON"))?;
        // No device has an empty id, so no client takes this for a transaction of its own.
        let sender = Sender { user, device: Some("") };
        match &record.state_key {
            Some(state_key) => self.set_state(sender, room, &record.kind, state_key, content).await,
            None => self.send(sender, room, &record.kind, content, Some(delay_id)).await,
        }
    }

    fn now_ms(&self) -> u64 {
        (self.core.config.now)().get().into()
    }

    async fn change_delayed<R: Send + 'static>(
        &self,
        build: impl FnOnce(&mut Txn) -> Result<R, DelayError> + Send + 'static,
    ) -> Result<R, DelayError> {
        let (told, answer) = tokio::sync::oneshot::channel();
        let commit = self.core.shard.submit(move |txn| {
            // Nobody may be waiting any more; the change is made all the same.
            let _ = told.send(build(txn));
        });
        commit.await.map_err(CommandError::from)?;
        answer.await.map_err(|_| CommandError::Damaged("the writer dropped a change it had accepted".into()))?
    }

    /// Sends what is due, and forgets what was finished long ago; how long until the next.
    async fn send_due(self: &Arc<Self>) -> Result<Duration, ReadError> {
        let now = self.now_ms();
        let (mut due, mut next) = (Vec::new(), None);
        for row in self.core.shard.view().scan(&DELAYED_DUE, self.core.domain(), .., Direction::Forward) {
            let ((at, id), ()) = row?;
            if at > now || due.len() >= AT_ONCE {
                next = Some(at);
                break;
            }
            due.push((at, id));
        }
        let mut sending = JoinSet::new();
        for (at, id) in due {
            match self.core.shard.get(&DELAYED, self.core.domain(), id.as_str())? {
                Some(record) if !record.outcome.is_done() => {
                    let rooms = self.clone();
                    sending.spawn(async move { (rooms.send_delayed(&id).await, id) });
                }
                record => self.forget_delayed(at, id, record),
            }
        }
        let mut has_failed = false;
        while let Some(sent) = sending.join_next().await {
            let Ok((Err(error), delay_id)) = sent else { continue };
            tracing::debug!(delay_id, reason = %error, "a delayed event was not sent");
            has_failed |= matches!(
                error,
                DelayError::Command(CommandError::Commit(_) | CommandError::Store(_) | CommandError::Unsettled)
            );
        }
        let wait = next.map_or(SLEEP_MAX, |at| Duration::from_millis(at.saturating_sub(self.now_ms())));
        Ok(if has_failed { AFTER_FAILURE } else { wait.min(SLEEP_MAX) })
    }

    /// Drops what nobody can ask for any more. Nobody waits for it.
    fn forget_delayed(&self, at: u64, delay_id: String, record: Option<DelayedRecord>) {
        let domain = self.core.domain();
        drop(self.core.shard.submit(move |txn| {
            txn.delete(&DELAYED_DUE, domain, &(at, delay_id.clone()));
            if let Some(record) = record {
                txn.delete(&DELAYED, domain, &delay_id);
                txn.delete(&DELAYED_OF, domain, &(record.user, true, delay_id));
            }
        }));
    }
}

/// Starts the task that sends what is due; it ends when the last owner of `rooms` lets go.
pub(crate) fn start(rooms: &Arc<Rooms>) {
    let (weak, bell): (Weak<Rooms>, _) = (Arc::downgrade(rooms), rooms.delayed_bell.clone());
    tokio::spawn(async move {
        loop {
            let Some(rooms) = weak.upgrade() else { return };
            let wait = match rooms.send_due().await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(reason = %error, "delayed events cannot be read: they are sent later");
                    AFTER_FAILURE
                }
            };
            drop(rooms);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = bell.notified() => {}
            }
        }
    });
}

/// Writes down what became of an event.
fn finish(
    txn: &mut Txn,
    domain: koine_store::DomainId,
    delay_id: &str,
    mut record: DelayedRecord,
    outcome: DelayedOutcome,
    now: u64,
) -> Result<(), StoreError> {
    let id = delay_id.to_owned();
    txn.delete(&DELAYED_DUE, domain, &(record.due(), id.clone()));
    txn.delete(&DELAYED_OF, domain, &(record.user.clone(), false, id.clone()));
    let kept = u64::try_from(DONE_KEPT.as_millis()).unwrap_or(u64::MAX);
    txn.put(&DELAYED_DUE, domain, &(now.saturating_add(kept), id.clone()), &());
    txn.put(&DELAYED_OF, domain, &(record.user.clone(), true, id.clone()), &());
    let done = koine_store::KeyRange::prefix(&(record.user.as_str(), true));
    let done = txn.scan(&DELAYED_OF, domain, done)?;
    // Ids are in the order of their making.
    for ((user, _, oldest), ()) in done.iter().take(done.len().saturating_sub(DELAYED_DONE_MAX)) {
        txn.delete(&DELAYED, domain, oldest);
        txn.delete(&DELAYED_OF, domain, &(user.clone(), true, oldest.clone()));
    }
    record.outcome = outcome;
    record.done_ms = now;
    txn.put(&DELAYED, domain, &id, &record);
    Ok(())
}

impl DelayedRecord {
    fn due(&self) -> u64 {
        self.running_since.saturating_add(self.delay_ms)
    }
}

impl DelayedOutcome {
    fn is_done(&self) -> bool {
        !matches!(self, Self::Scheduled | Self::Sending)
    }
}

fn event(delay_id: String, record: DelayedRecord) -> Result<DelayedEvent, ReadError> {
    let damaged = |what: &str| ReadError::Damaged(format!("delayed event {delay_id}: {what}"));
    let sender = OwnedUserId::try_from(record.user).map_err(|_| damaged("its sender is none"))?;
    let room_id = OwnedRoomId::try_from(record.room_id).map_err(|_| damaged("its room is none"))?;
    let done = match record.outcome {
        DelayedOutcome::Scheduled | DelayedOutcome::Sending => None,
        DelayedOutcome::Sent(id) => {
            Some(Done::Sent(OwnedEventId::try_from(id).map_err(|_| damaged("it became no event"))?))
        }
        DelayedOutcome::Cancelled => Some(Done::Cancelled),
        DelayedOutcome::Failed(reason) => Some(Done::Failed(reason)),
    };
    Ok(DelayedEvent {
        sender,
        room_id,
        kind: record.kind,
        state_key: record.state_key,
        content: record.content,
        delay_ms: record.delay_ms,
        running_since: record.running_since,
        done: done.map(|done| (done, record.done_ms)),
        delay_id,
    })
}

/// What the transaction ids of scheduling are unique within.
fn request(room: &RoomId, kind: &str) -> String {
    format!("delay {room} {kind}")
}

/// A name that cannot be guessed, greater than those made before.
fn new_id(now_ms: u64) -> String {
    use rand::{Rng as _, distr::Alphanumeric};
    let random: String = rand::rng().sample_iter(Alphanumeric).take(24).map(char::from).collect();
    format!("{now_ms:012x}{random}")
}
