//! How far people have read, as they say themselves. [CS-API §receipts]
//!
//! A receipt is written through the shard's writer like everything else: its newest form under (room, reader, type,
//! thread), and under the log position of its change, so that "what changed since" is one short scan.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use koine_store::{Direction, LogEntry, bytes::Bytes};
use ruma_common::{EventId, OwnedEventId, OwnedUserId, RoomId, UserId};

use crate::{
    error::{CommandError, ReadError},
    log::{Kind, room_subject},
    registry::Rooms,
    room::{Placed, Room},
    tables::{Membership, Order, RECEIPT, RECEIPT_AT, ReceiptKey, ReceiptRecord},
    unread,
};

/// Most receipts of a room told at once; of more, the newest.
pub const RECEIPTS_MAX: usize = 2_000;
/// The thread that stands for everything outside of threads.
pub const MAIN_THREAD: &str = "main";

/// Who may know of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReceiptType {
    /// `m.read`: everyone in the room.
    Read,
    /// `m.read.private`: the reader alone.
    ReadPrivate,
}

impl ReceiptType {
    /// The type that a word names.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "m.read" => Some(Self::Read),
            "m.read.private" => Some(Self::ReadPrivate),
            _ => None,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "m.read",
            Self::ReadPrivate => "m.read.private",
        }
    }
}

/// Somebody read up to an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Who.
    pub user: OwnedUserId,
    /// Who may know.
    pub kind: ReceiptType,
    /// `None`: in the whole room, threads or not; else the root of the thread, or `main`.
    pub thread: Option<String>,
    /// Up to and with this event.
    pub event_id: OwnedEventId,
    /// When, in milliseconds since the epoch.
    pub ts: u64,
}

impl Rooms {
    /// `user` has read up to `event`. A receipt never moves back: one for an older event than before changes nothing.
    ///
    /// # Errors
    /// `NotJoined`, `NoSuchEvent`, `InvalidParam` for a thread that the event is not related to.
    pub async fn set_receipt(
        &self,
        user: &UserId,
        room: &RoomId,
        kind: ReceiptType,
        event: &EventId,
        thread: Option<&str>,
    ) -> Result<(), CommandError> {
        let room = self.room(room)?;
        if room.local_membership(user) != Some(Membership::Join) {
            return Err(CommandError::NotJoined);
        }
        let placed = room.event(event)?.ok_or(CommandError::NoSuchEvent)?;
        room.check_thread(&placed.event, thread)?;
        let ts = u64::from((self.core.config.now)().get());
        let receipt = Receipt {
            user: user.to_owned(),
            kind,
            thread: thread.map(ToOwned::to_owned),
            event_id: event.to_owned(),
            ts,
        };
        self.write_receipt(room, receipt, placed.order).await
    }

    /// Somebody of another server has read up to an event, as that server told.
    ///
    /// # Errors
    /// `NotJoined`, `NoSuchEvent`, `InvalidParam` for a thread that the event is not related to.
    pub async fn read_elsewhere(&self, room: &RoomId, receipt: Receipt) -> Result<(), CommandError> {
        let room = self.room(room)?;
        if receipt.user.server_name() == self.server_name() || !room.may_be_joined(&receipt.user) {
            return Err(CommandError::NotJoined);
        }
        let placed = room.event(&receipt.event_id)?.filter(|placed| !placed.is_outlier());
        let placed = placed.ok_or(CommandError::NoSuchEvent)?;
        room.check_thread(&placed.event, receipt.thread.as_deref())?;
        self.write_receipt(room, receipt, placed.order).await
    }

    async fn write_receipt(&self, room: Arc<Room>, receipt: Receipt, order: Order) -> Result<(), CommandError> {
        let Receipt { user, kind, thread, event_id, ts } = receipt;
        let is_local = user.server_name() == self.server_name();
        let (domain, no) = (self.core.domain(), room.no());
        let (thread, event_id) = (thread.unwrap_or_default(), event_id.to_string());
        let key = (no, user.to_string(), kind.as_str().to_owned(), thread.clone());
        let commit = self.core.shard.submit(move |txn| {
            let old = txn.get(&RECEIPT, domain, &key)?;
            if old.as_ref().is_some_and(|old| old.order >= order) {
                return Ok(());
            }
            let log_kind = match kind {
                ReceiptType::Read => Kind::Receipt,
                ReceiptType::ReadPrivate => Kind::PrivateReceipt,
            };
            let body = Bytes::copy_from_slice(user.as_bytes());
            let position = txn.append(LogEntry { domain, subject: room_subject(no), kind: log_kind as u8, body }).0;
            if let Some(old) = old {
                txn.delete(&RECEIPT_AT, domain, &(no, old.position));
            }
            let (_, reader, kind, in_thread) = key.clone();
            txn.put(&RECEIPT_AT, domain, &(no, position), &ReceiptKey { user: reader, kind, thread: in_thread });
            txn.put(&RECEIPT, domain, &key, &ReceiptRecord { event_id, order, ts, position });
            if is_local {
                unread::write_read(txn, &room, &user, &thread, order)?;
            }
            txn.on_durable(move |_| {
                room.receipts_newest.fetch_max(position, Ordering::Release);
                if is_local {
                    room.unread.read(&user, &thread, order);
                }
            });
            Ok(())
        });
        commit.await?;
        Ok(())
    }
}

impl Room {
    /// [CS-API §post_matrixclientv3roomsroomidreceiptreceipttypeeventid] 400
    fn check_thread(&self, event: &koine_graph::Event, thread: Option<&str>) -> Result<(), CommandError> {
        let Some(thread) = thread.filter(|thread| *thread != MAIN_THREAD) else { return Ok(()) };
        let root = <&EventId>::try_from(thread).map_err(|_| {
            CommandError::InvalidParam(format!("thread_id {thread:?} is neither \"main\" nor an event"))
        })?;
        match self.leads_to(event, root)? {
            true => Ok(()),
            false => {
                Err(CommandError::InvalidParam(format!("{} is not related to the thread {root}", event.event_id())))
            }
        }
    }

    /// Receipts that changed after the place `after` of the log and up to the place `until`, as far as `reader` may
    /// know of them, oldest change first. Without `after` all of them, or the newest [`RECEIPTS_MAX`].
    pub fn receipts_after(
        &self,
        reader: &UserId,
        after: Option<Order>,
        until: Order,
    ) -> Result<Vec<Receipt>, ReadError> {
        let position = |place: Order| u64::try_from(place).unwrap_or(0);
        if after.is_some_and(|after| position(after) >= self.receipts_newest.load(Ordering::Acquire)) {
            return Ok(Vec::new());
        }
        let (view, domain, no) = (self.core.shard.view(), self.core.domain(), self.no());
        let (first, last) = (after.map_or(0, |after| position(after) + 1), position(until));
        if first > last {
            return Ok(Vec::new());
        }
        let rows = view.scan(&RECEIPT_AT, domain, (no, first)..=(no, last), Direction::Backward);
        let mut found = Vec::new();
        for row in rows.take(RECEIPTS_MAX) {
            let (_, ReceiptKey { user, kind, thread }) = row?;
            let Some(kind) = ReceiptType::parse(&kind) else { continue };
            if kind == ReceiptType::ReadPrivate && user != reader.as_str() {
                continue;
            }
            let key = (no, user, kind.as_str().to_owned(), thread);
            let Some(record) = view.get(&RECEIPT, domain, &key)? else { continue };
            let damaged = || ReadError::Damaged(format!("room {no}: a receipt names no user or no event"));
            found.push(Receipt {
                user: OwnedUserId::try_from(key.1).map_err(|_| damaged())?,
                kind,
                thread: (!key.3.is_empty()).then_some(key.3),
                event_id: OwnedEventId::try_from(record.event_id).map_err(|_| damaged())?,
                ts: record.ts,
            });
        }
        found.reverse();
        Ok(found)
    }

    /// Whether `user` has read this event, by their receipts.
    pub fn has_read(&self, user: &UserId, placed: &Placed) -> Result<bool, ReadError> {
        let (whole, threads) = self.read_positions(user)?;
        if placed.order <= whole {
            return Ok(true);
        }
        if threads.is_empty() {
            return Ok(false);
        }
        let thread = self.thread_of(&placed.event)?;
        let thread = thread.as_ref().map_or(MAIN_THREAD, |root| root.as_str());
        Ok(threads.get(thread).is_some_and(|read| placed.order <= *read))
    }

    /// How far `user` has read by their receipts: in the whole room, and in each thread.
    pub(crate) fn read_positions(&self, user: &UserId) -> Result<(Order, HashMap<String, Order>), ReadError> {
        let mut whole = Order::MIN;
        let mut threads: HashMap<String, Order> = HashMap::new();
        let view = self.core.shard.view();
        for row in view.prefix(&RECEIPT, self.core.domain(), &(self.no(), user.as_str()), Direction::Forward) {
            let ((_, _, _, thread), record) = row?;
            if thread.is_empty() {
                whole = whole.max(record.order);
            } else {
                let place = threads.entry(thread).or_insert(Order::MIN);
                *place = (*place).max(record.order);
            }
        }
        Ok((whole, threads))
    }
}
