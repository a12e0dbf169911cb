//! How much each member has not read, counted by rules that somebody else brings.
//!
//! What an event means for a reader (nothing, a notification, a highlight) is decided by [`UnreadRules`], which
//! `koine-push` implements. Here is the counting: lazily, when a reader asks, and so that each event is looked at once
//! for each reader. Counts live in memory ([`UnreadCounts`]); every [`CHECKPOINT_EVERY`] events they are also written,
//! so that after a restart little is counted again. They could be made anew from timeline and receipts at any time.
//! [CS-API §receiving-notifications]

use std::{cell::OnceCell, collections::HashMap, sync::Arc};

use koine_store::{StoreError, Txn};
use parking_lot::Mutex;
use ruma_common::{OwnedEventId, OwnedUserId, RoomId, UserId};

use crate::{
    error::ReadError,
    receipts::MAIN_THREAD,
    room::{Placed, Room},
    tables::{MembershipRecord, Order, ThreadUnread, UNREAD, UnreadRecord},
};

/// Most events that one question counts; what is older than the newest so many counts as read.
pub const COUNT_MAX: usize = 1_000;
/// Events counted since the last write after which the counts are written.
pub const CHECKPOINT_EVERY: i64 = 64;
/// Most threads with counts of their own for one reader of one room; past it those read up longest ago are forgotten.
pub const THREADS_MAX: usize = 200;
/// Most readers of one room whose counts are kept in memory.
const READERS_MAX: usize = 20_000;

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
        Self { room, user, display_name: OnceCell::new(), power_levels: OnceCell::new(), create: OnceCell::new() }
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

/// Unread events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That notify.
    pub notify: u64,
    /// That highlight.
    pub highlight: u64,
}

/// What a member has not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Outside of threads.
    pub main: Counts,
    /// In each thread where something is unread, by its root.
    pub threads: Vec<(OwnedEventId, Counts)>,
}

impl Unread {
    /// Threads or not.
    pub fn total(&self) -> Counts {
        self.threads.iter().fold(self.main, |sum, (_, counts)| Counts {
            notify: sum.notify + counts.notify,
            highlight: sum.highlight + counts.highlight,
        })
    }
}

/// Counts of the readers of one room, in memory.
#[derive(Debug, Default)]
pub struct UnreadCounts {
    of: Mutex<HashMap<OwnedUserId, Counted>>,
}

#[derive(Clone, Debug)]
struct Counted {
    record: UnreadRecord,
    /// `counted_up_to` of what is written.
    written: Order,
}

impl UnreadCounts {
    /// Told of a durable receipt.
    pub(crate) fn read(&self, user: &UserId, thread: &str, order: Order) {
        if let Some(counted) = self.of.lock().get_mut(user) {
            counted.record.read(thread, order);
        }
    }
}

/// Writes what a receipt does to the counts, in the commit of the receipt.
pub(crate) fn write_read(
    txn: &mut Txn,
    room: &Room,
    user: &UserId,
    thread: &str,
    order: Order,
) -> Result<(), StoreError> {
    let (domain, key) = (room.core.domain(), (room.no(), user.to_string()));
    if let Some(mut record) = txn.get(&UNREAD, domain, &key)? {
        record.read(thread, order);
        txn.put(&UNREAD, domain, &key, &record);
    }
    Ok(())
}

impl UnreadRecord {
    fn since(joined: Order) -> Self {
        Self { joined_at: joined, read_up_to: joined, counted_up_to: joined, threads: Vec::new() }
    }

    fn thread(&mut self, id: &str) -> &mut ThreadUnread {
        if let Some(found) = self.threads.iter().position(|thread| thread.id == id) {
            return &mut self.threads[found];
        }
        if self.threads.len() >= THREADS_MAX {
            let oldest = self.threads.iter().enumerate().filter(|(_, thread)| thread.id != MAIN_THREAD);
            if let Some((oldest, _)) = oldest.min_by_key(|(_, thread)| (thread.notify > 0, thread.read_up_to)) {
                self.threads.swap_remove(oldest);
            }
        }
        self.threads.push(ThreadUnread { id: id.to_owned(), read_up_to: Order::MIN, notify: 0, highlight: 0 });
        self.threads.last_mut().expect("one was pushed")
    }

    /// A receipt: `thread` is empty for one that disregards threads.
    fn read(&mut self, thread: &str, order: Order) {
        if thread.is_empty() {
            if order <= self.read_up_to {
                return;
            }
            self.read_up_to = order;
            if order >= self.counted_up_to {
                self.forget_counts();
                return;
            }
        } else {
            let read_up_to = self.read_up_to;
            let counted_up_to = self.counted_up_to;
            let thread = self.thread(thread);
            if order <= thread.read_up_to.max(read_up_to) {
                return;
            }
            thread.read_up_to = order;
            if order >= counted_up_to {
                (thread.notify, thread.highlight) = (0, 0);
                return;
            }
        }
        // In the midst of what was counted: count again from where nothing is unread.
        self.forget_counts();
        self.counted_up_to = self.read_up_to;
    }

    fn forget_counts(&mut self) {
        for thread in &mut self.threads {
            (thread.notify, thread.highlight) = (0, 0);
        }
    }

    /// Nobody came back or read on in `other` without this one knowing.
    fn knows_marks_of(&self, other: &Self) -> bool {
        let mark =
            |id: &str| self.threads.iter().find(|thread| thread.id == id).map_or(Order::MIN, |own| own.read_up_to);
        other.joined_at <= self.joined_at
            && other.read_up_to <= self.read_up_to
            && other.threads.iter().all(|thread| thread.read_up_to <= mark(&thread.id).max(self.read_up_to))
    }

    fn unread(&self) -> Unread {
        let mut unread = Unread::default();
        for thread in &self.threads {
            let counts = Counts { notify: thread.notify, highlight: thread.highlight };
            if thread.id == MAIN_THREAD {
                unread.main = counts;
            } else if counts.notify > 0
                && let Ok(root) = OwnedEventId::try_from(thread.id.as_str())
            {
                unread.threads.push((root, counts));
            }
        }
        unread
    }
}

impl Room {
    /// What `user`, a member as `membership` says, has not read.
    pub fn unread(
        &self,
        user: &UserId,
        membership: &MembershipRecord,
        rules: &dyn UnreadRules,
    ) -> Result<Unread, ReadError> {
        let Some(joined) = membership.joined_at else { return Ok(Unread::default()) };
        let newest = self.published().order;
        let mut counted = self.counted(user, joined)?;
        if counted.record.counted_up_to >= newest {
            return Ok(counted.record.unread());
        }
        let before = counted.record.clone();
        self.count(user, &mut counted.record, newest, rules)?;
        if counted.record.counted_up_to - counted.written >= CHECKPOINT_EVERY {
            counted.written = counted.record.counted_up_to;
            self.write_counts(user, &counted.record);
        }
        let unread = counted.record.unread();
        // A receipt that came meanwhile makes this result old: then the next question counts again.
        if let Some(present) = self.unread.of.lock().get_mut(user).filter(|present| present.record == before) {
            *present = counted;
        }
        Ok(unread)
    }

    /// The counts so far: from memory, or as written, or none.
    fn counted(&self, user: &UserId, joined: Order) -> Result<Counted, ReadError> {
        // Who came back starts anew.
        let fits = |record: &UnreadRecord| record.joined_at == joined;
        // Held while reading: a receipt that becomes durable meanwhile finds the counts here afterwards.
        let mut all = self.unread.of.lock();
        if let Some(counted) = all.get(user).filter(|counted| fits(&counted.record)) {
            return Ok(counted.clone());
        }
        let stored = self.core.shard.get(&UNREAD, self.core.domain(), &(self.no(), user.as_str()))?;
        let record = match stored.filter(fits) {
            Some(record) => record,
            None => {
                let mut record = UnreadRecord::since(joined);
                let (whole, threads) = self.read_positions(user)?;
                record.read("", whole);
                for (thread, order) in threads {
                    record.read(&thread, order);
                }
                record.counted_up_to = record.read_up_to;
                record
            }
        };
        if all.len() >= READERS_MAX {
            all.clear();
        }
        let counted = Counted { written: record.counted_up_to, record };
        all.insert(user.to_owned(), counted.clone());
        Ok(counted)
    }

    fn count(
        &self,
        user: &UserId,
        record: &mut UnreadRecord,
        newest: Order,
        rules: &dyn UnreadRules,
    ) -> Result<(), ReadError> {
        let context = UnreadContext::new(self, user);
        let events = self.newest(record.counted_up_to.max(record.read_up_to), newest, COUNT_MAX)?;
        for placed in events.iter().rev() {
            let own = placed.event.sender() == user;
            let verdict = if own { Verdict::default() } else { rules.verdict(user, placed, &context) };
            if !own && !verdict.notify && !verdict.highlight {
                continue;
            }
            let thread = self.thread_of(&placed.event)?;
            let thread = record.thread(thread.as_ref().map_or(MAIN_THREAD, |root| root.as_str()));
            if placed.order <= thread.read_up_to {
                continue;
            }
            if own {
                // [CS-API §marking-notifications-as-read] by sending an event
                *thread = ThreadUnread {
                    read_up_to: placed.order,
                    notify: 0,
                    highlight: 0,
                    id: std::mem::take(&mut thread.id),
                };
            } else {
                thread.notify += 1;
                thread.highlight += u64::from(verdict.highlight);
            }
        }
        record.counted_up_to = newest;
        Ok(())
    }

    /// Keeps the counts, unless a receipt that they do not know of was written meanwhile. Nobody waits for it.
    fn write_counts(&self, user: &UserId, counted: &UnreadRecord) {
        let (domain, key) = (self.core.domain(), (self.no(), user.to_string()));
        let counted = counted.clone();
        drop(self.core.shard.submit(move |txn| {
            let present = txn.get(&UNREAD, domain, &key)?;
            if present.is_none_or(|present| counted.knows_marks_of(&present)) {
                txn.put(&UNREAD, domain, &key, &counted);
            }
            Ok(())
        }));
    }
}
