//! The reader of the log that writes down which words stand where.
//!
//! Its place in the log moves in the same commit as what it writes, so the index is never behind what it says it knows. If
//! its place is lost, the index is made anew: from then on it follows the log, and the rooms as they were are read once from
//! their end to their beginning, a piece at a time, beside everything else.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use koine_store::{LogEntry, Position};
use tokio::sync::{Notify, watch};

use super::{text, words};
use crate::{
    error::ReadError,
    log::{Kind, room_of},
    registry::Rooms,
    room::Placed,
    tables::{Order, RoomNo, SEARCH_ANEW, SEARCH_AT, SEARCH_WORD, WordsRecord},
};

/// Our place in the log. A change of what is written gets another name: then everything is read anew.
const CURSOR: &str = "search-1";
/// Most entries read from the log at once.
const BATCH: usize = 256;
/// Events of one room that are read at once when the index is made anew.
const ANEW_AT_ONCE: usize = 256;
/// How often our place is written down while there is nothing to write.
const SAVE_EVERY: Duration = Duration::from_secs(30);
/// The only row of [`SEARCH_ANEW`].
const HERE: u8 = 0;

/// How long what is said waits for more to be written with it. A commit costs a sync of the disk, as what was said itself did.
const GATHER: Duration = Duration::from_millis(250);

/// How far the log is known to the index.
pub(crate) struct Indexed {
    known: watch::Sender<Position>,
    /// Somebody wants to know what was said just now.
    wanted: Notify,
}

impl Default for Indexed {
    fn default() -> Self {
        Self { known: watch::Sender::new(Position(0)), wanted: Notify::new() }
    }
}

impl Rooms {
    /// Waits until the index knows what is in the log now, so that whoever said something finds it. Gives up after
    /// `patience`; what is found then lacks the newest.
    pub async fn until_indexed(&self, patience: Duration) {
        let newest = self.core.shard.position();
        let mut known = self.indexed.known.subscribe();
        if *known.borrow() < newest {
            self.indexed.wanted.notify_one();
        }
        // Late, or closing: the answer is what there is.
        let _ = tokio::time::timeout(patience, known.wait_for(|known| *known >= newest)).await;
    }
}

/// Starts the task; it ends when the last owner of `rooms` lets go.
pub(crate) fn start(rooms: &Arc<Rooms>) {
    let weak = Arc::downgrade(rooms);
    let mut grown = rooms.core.shard.watch();
    tokio::spawn(async move {
        let Some(mut reader) = Reader::open(&weak).await else { return };
        let mut save = tokio::time::interval(SAVE_EVERY);
        save.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // There may be something to read from the start.
        grown.mark_changed();
        loop {
            tokio::select! {
                changed = grown.changed() => if changed.is_err() || gather(&weak).await.is_none() { return },
                _ = save.tick() => if reader.save(&weak).await.is_none() { return },
                () = std::future::ready(()), if reader.is_anew => {}
            }
            if reader.follow(&weak).await.is_none() || reader.anew(&weak).await.is_none() {
                return;
            }
        }
    });
}

/// Waits for more to be said, unless somebody looks for it now.
async fn gather(weak: &Weak<Rooms>) -> Option<()> {
    let rooms = weak.upgrade()?;
    let indexed = rooms.indexed.clone();
    drop(rooms);
    // Late is as good as wanted.
    let _ = tokio::time::timeout(GATHER, indexed.wanted.notified()).await;
    Some(())
}

struct Reader {
    place: Position,
    saved: Position,
    /// Rooms are being read from their end to their beginning.
    is_anew: bool,
}

/// What is to be written about one event.
struct Entry {
    room: RoomNo,
    order: Order,
    words: BTreeSet<String>,
}

impl Entry {
    fn write(self, txn: &mut koine_store::Txn, domain: koine_store::DomainId) {
        let Self { room, order, words } = self;
        for word in &words {
            txn.put(&SEARCH_WORD, domain, &(room, word.as_str(), order), &());
        }
        txn.put(&SEARCH_AT, domain, &(room, order), &WordsRecord { words: words.into_iter().collect() });
    }
}

/// Notes the words of an event of history, in the commit that puts it there: the log does not mention it.
pub(crate) fn note_old(txn: &mut koine_store::Txn, domain: koine_store::DomainId, room: RoomNo, placed: &Placed) {
    if let Some(entry) = entry_of(room, placed) {
        entry.write(txn, domain);
    }
}

impl Reader {
    async fn open(weak: &Weak<Rooms>) -> Option<Self> {
        let rooms = weak.upgrade()?;
        let (shard, domain) = (&rooms.core.shard, rooms.core.domain());
        let view = shard.view();
        let cursor = view.cursor(CURSOR).ok()?.filter(|place| *place >= view.trimmed());
        let is_anew = view.get(&SEARCH_ANEW, domain, &HERE).ok()?.is_some();
        if let Some(place) = cursor {
            return Some(Self { place, saved: place, is_anew });
        }
        let place = view.position();
        drop(view);
        let begun = shard.submit(move |txn| {
            txn.put(&SEARCH_ANEW, domain, &HERE, &(0, Order::MAX));
            txn.move_cursor(CURSOR, place);
        });
        if let Err(error) = begun.await {
            tracing::error!(reason = %error, "the index of words cannot be begun: nothing is found");
            return None;
        }
        Some(Self { place, saved: place, is_anew: true })
    }

    /// Reads to the end of the log; `None` when the rooms are gone.
    async fn follow(&mut self, weak: &Weak<Rooms>) -> Option<()> {
        loop {
            let rooms = weak.upgrade()?;
            let entries = match rooms.core.shard.log_after(self.place, BATCH) {
                Ok(entries) => entries,
                Err(error) => {
                    tracing::error!(reason = %error, "the log cannot be read: what is new is not found");
                    return Some(());
                }
            };
            let Some((last, _)) = entries.last() else {
                rooms.indexed.known.send_replace(self.place);
                return Some(());
            };
            let last = *last;
            let (mut new, mut gone) = (Vec::new(), Vec::new());
            for (position, entry) in &entries {
                if let Err(error) = rooms.look_at(*position, entry, &mut new, &mut gone) {
                    tracing::error!(position = position.0, reason = %error, "an event cannot be read and is not found");
                }
            }
            if !new.is_empty() || !gone.is_empty() {
                let place = last;
                if let Err(error) = rooms.write_words(new, gone, move |txn, _| txn.move_cursor(CURSOR, place)).await {
                    tracing::error!(reason = %error, "the index of words cannot be written; tried again with what comes next");
                    return Some(());
                }
                self.saved = last;
            }
            self.place = last;
            rooms.indexed.known.send_replace(last);
        }
    }

    /// Reads another piece of the rooms as they were.
    async fn anew(&mut self, weak: &Weak<Rooms>) -> Option<()> {
        if !self.is_anew {
            return Some(());
        }
        let rooms = weak.upgrade()?;
        match rooms.index_a_piece().await {
            Ok(is_anew) => self.is_anew = is_anew,
            Err(error) => {
                tracing::error!(reason = %error, "the index of words cannot be made anew; what is older is not found until the next start");
                self.is_anew = false;
            }
        }
        tokio::task::yield_now().await;
        Some(())
    }

    async fn save(&mut self, weak: &Weak<Rooms>) -> Option<()> {
        let rooms = weak.upgrade()?;
        if self.place == self.saved {
            return Some(());
        }
        let place = self.place;
        match rooms.core.shard.submit(move |txn| txn.move_cursor(CURSOR, place)).await {
            Ok(_) => self.saved = place,
            Err(error) => tracing::warn!(reason = %error, "the place of the index of words was not written down"),
        }
        Some(())
    }
}

impl Rooms {
    fn look_at(
        &self,
        position: Position,
        entry: &LogEntry,
        new: &mut Vec<Entry>,
        gone: &mut Vec<(RoomNo, Order)>,
    ) -> Result<(), ReadError> {
        let is_event = entry.domain == self.core.domain() && Kind::of(entry.kind) == Some(Kind::Event);
        let Some(no) = room_of(&entry.subject).filter(|_| is_event) else { return Ok(()) };
        let room = match self.room_by_no(no) {
            // Purged meanwhile.
            Err(ReadError::NoSuchRoom) => return Ok(()),
            other => other?,
        };
        let order = Order::try_from(position.0).unwrap_or(Order::MAX);
        let Some(placed) = room.event_at(order)?.filter(|placed| placed.order == order) else { return Ok(()) };
        // What was redacted is not to be found any more.
        if placed.event.kind() == "m.room.redaction"
            && let Some(target) = placed.event.redacts(room.rules())
            && let Some(target) = room.event(&target)?
            && target.redacted_by.is_some()
        {
            gone.push((no, target.order));
        }
        new.extend(entry_of(no, &placed));
        Ok(())
    }

    /// One piece of the rooms as they were; `false` when there is nothing more.
    async fn index_a_piece(&self) -> Result<bool, ReadError> {
        let (shard, domain) = (&self.core.shard, self.core.domain());
        let Some((no, before)) = shard.get(&SEARCH_ANEW, domain, &HERE)? else { return Ok(false) };
        let failed = |error: koine_store::CommitError| ReadError::Damaged(error.to_string());
        let events = match no {
            0 => Vec::new(),
            no => self.core.timeline_backwards(no, Order::MIN, before, ANEW_AT_ONCE)?,
        };
        let new = events.iter().filter_map(|placed| entry_of(no, placed)).collect();
        let next = match events.last() {
            Some(oldest) => Some((no, oldest.order - 1)),
            None => self.list(no, 1)?.first().map(|(no, _)| (*no, Order::MAX)),
        };
        let write = move |txn: &mut koine_store::Txn, domain| match next {
            Some(next) => txn.put(&SEARCH_ANEW, domain, &HERE, &next),
            None => txn.delete(&SEARCH_ANEW, domain, &HERE),
        };
        self.write_words(new, Vec::new(), write).await.map_err(failed)?;
        Ok(next.is_some())
    }

    async fn write_words(
        &self,
        new: Vec<Entry>,
        gone: Vec<(RoomNo, Order)>,
        also: impl FnOnce(&mut koine_store::Txn, koine_store::DomainId) + Send + 'static,
    ) -> Result<(), koine_store::CommitError> {
        let domain = self.core.domain();
        self.core.shard.ready().await;
        let commit = self.core.shard.submit(move |txn| {
            for entry in new {
                entry.write(txn, domain);
            }
            for place in gone {
                forget(txn, domain, place)?;
            }
            also(txn, domain);
            Ok(())
        });
        commit.await.map(|_| ())
    }
}

/// Forgets the words of an event, in the commit that takes it or its content away.
pub(crate) fn forget(
    txn: &mut koine_store::Txn,
    domain: koine_store::DomainId,
    (room, order): (RoomNo, Order),
) -> Result<(), koine_store::StoreError> {
    let Some(record) = txn.get(&SEARCH_AT, domain, &(room, order))? else { return Ok(()) };
    for word in &record.words {
        txn.delete(&SEARCH_WORD, domain, &(room, word.as_str(), order));
    }
    txn.delete(&SEARCH_AT, domain, &(room, order));
    Ok(())
}

fn entry_of(room: RoomNo, placed: &Placed) -> Option<Entry> {
    if placed.redacted_by.is_some() {
        return None;
    }
    let (field, text) = text(placed)?;
    let letter = field.letter();
    let words: BTreeSet<String> = words::of_text(&text).into_iter().map(|word| format!("{letter}{word}")).collect();
    (!words.is_empty()).then_some(Entry { room, order: placed.order, words })
}
