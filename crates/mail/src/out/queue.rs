//! The queue: what waits for which destination, on disk, and nothing of it in memory.
//!
//! A mail to one recipient is a row, and its place in the order of its destination another. A destination that something
//! waits for has one row that says when it is tried next. So the next thing to do is the first row of a table, however
//! much waits, and starting reads nothing.

use koine_store::{CommitError, Direction, DomainId, KeyRange, StoreError, Txn, View};

use super::{
    Out,
    tables::{DEADLINE, DUE, FACT, ITEM, ItemRecord, LANE, LaneRecord, READY},
};

/// The destination of all mails where there is a smarthost. No domain has such a name.
pub(crate) const SMARTHOST: &str = "@smarthost";
/// Most mails of one destination that are looked at before the store is asked again.
pub(crate) const PAGE: usize = 32;
/// Where the next number stands.
const NEXT: &str = "next";

/// Puts a mail into the queue; its number.
pub(crate) fn put(txn: &mut Txn, domain: DomainId, item: &ItemRecord) -> Result<u64, StoreError> {
    let next = txn.get(&FACT, domain, NEXT)?;
    let id = next.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()).map_or(1, u64::from_be_bytes);
    txn.put(&FACT, domain, NEXT, &(id + 1).to_be_bytes().to_vec());
    enter(txn, domain, id, item)?;
    Ok(id)
}

/// Enters a mail at its destination.
fn enter(txn: &mut Txn, domain: DomainId, id: u64, item: &ItemRecord) -> Result<(), StoreError> {
    txn.put(&ITEM, domain, &id, item);
    txn.put(&READY, domain, &(item.lane.as_str(), item.next_ms, id), &());
    txn.put(&DEADLINE, domain, &(item.deadline_ms, id), &());
    let mut lane = match txn.get(&LANE, domain, item.lane.as_str())? {
        Some(lane) => lane,
        None => LaneRecord { due_ms: u64::MAX, ..LaneRecord::default() },
    };
    lane.waiting += 1;
    lane.puts += 1;
    // A destination that fails is left alone until its time.
    let due = if lane.failures > 0 { lane.due_ms } else { lane.due_ms.min(item.next_ms) };
    set_lane(txn, domain, &item.lane, lane, due);
    Ok(())
}

/// Says when a destination is tried next.
fn set_lane(txn: &mut Txn, domain: DomainId, name: &str, mut lane: LaneRecord, due_ms: u64) {
    if lane.due_ms != due_ms {
        txn.delete(&DUE, domain, &(lane.due_ms, name));
    }
    lane.due_ms = due_ms;
    txn.put(&DUE, domain, &(due_ms, name), &());
    txn.put(&LANE, domain, name, &lane);
}

fn drop_lane(txn: &mut Txn, domain: DomainId, name: &str, lane: &LaneRecord) {
    txn.delete(&DUE, domain, &(lane.due_ms, name));
    txn.delete(&LANE, domain, name);
}

/// Takes a mail out of the queue, whatever became of it; `None` if it is not there any more.
pub(crate) fn take(txn: &mut Txn, domain: DomainId, id: u64) -> Result<Option<ItemRecord>, StoreError> {
    let Some(item) = txn.get(&ITEM, domain, &id)? else { return Ok(None) };
    txn.delete(&ITEM, domain, &id);
    txn.delete(&READY, domain, &(item.lane.as_str(), item.next_ms, id));
    txn.delete(&DEADLINE, domain, &(item.deadline_ms, id));
    if let Some(mut lane) = txn.get(&LANE, domain, item.lane.as_str())? {
        lane.waiting = lane.waiting.saturating_sub(1);
        match lane.waiting {
            0 => drop_lane(txn, domain, &item.lane, &lane),
            _ => txn.put(&LANE, domain, item.lane.as_str(), &lane),
        }
    }
    Ok(Some(item))
}

/// Changes a mail that waits.
fn change(
    txn: &mut Txn,
    domain: DomainId,
    id: u64,
    edit: impl FnOnce(&mut ItemRecord),
) -> Result<Option<ItemRecord>, StoreError> {
    let Some(old) = txn.get(&ITEM, domain, &id)? else { return Ok(None) };
    let mut item = old.clone();
    edit(&mut item);
    if (item.lane.as_str(), item.next_ms) != (old.lane.as_str(), old.next_ms) {
        txn.delete(&READY, domain, &(old.lane.as_str(), old.next_ms, id));
        txn.put(&READY, domain, &(item.lane.as_str(), item.next_ms, id), &());
    }
    if item.deadline_ms != old.deadline_ms {
        txn.delete(&DEADLINE, domain, &(old.deadline_ms, id));
        txn.put(&DEADLINE, domain, &(item.deadline_ms, id), &());
    }
    txn.put(&ITEM, domain, &id, &item);
    Ok(Some(item))
}

/// A destination with something to do now.
pub(crate) struct Ready {
    pub(crate) lane: String,
}

impl Out {
    /// When the next destination is to be tried, of those that are not being served.
    pub(crate) fn next_lane_ms(&self, view: &View, busy: impl Fn(&str) -> bool) -> Result<Option<u64>, StoreError> {
        for row in view.scan(&DUE, self.domain(), .., Direction::Forward) {
            let ((due, lane), ()) = row?;
            if !busy(&lane) {
                return Ok(Some(due));
            }
        }
        Ok(None)
    }

    /// Destinations whose time has come, at most `most`, without those that `busy` names.
    pub(crate) fn ready_lanes(
        &self,
        now_ms: u64,
        most: usize,
        busy: impl Fn(&str) -> bool,
    ) -> Result<Vec<Ready>, StoreError> {
        let view = self.shard().view();
        let rows = view.scan(&DUE, self.domain(), KeyRange::all().through(&(now_ms,)), Direction::Forward);
        let mut found = Vec::new();
        for row in rows {
            if found.len() == most {
                break;
            }
            let ((_, lane), ()) = row?;
            if !busy(&lane) {
                found.push(Ready { lane });
            }
        }
        Ok(found)
    }

    /// The mails of a destination whose time has come: the first [`PAGE`] of them.
    pub(crate) fn ready_items(&self, lane: &str, now_ms: u64) -> Result<Vec<(u64, ItemRecord)>, StoreError> {
        let view = self.shard().view();
        let range = KeyRange::all().from(&(lane,)).through(&(lane, now_ms));
        let mut found = Vec::new();
        for row in view.scan(&READY, self.domain(), range, Direction::Forward).take(PAGE) {
            let ((_, _, id), ()) = row?;
            if let Some(item) = view.get(&ITEM, self.domain(), &id)? {
                found.push((id, item));
            }
        }
        Ok(found)
    }

    /// A mail is tried again later.
    pub(crate) async fn put_off(&self, id: u64, next_ms: u64, reason: String) -> Result<(), CommitError> {
        let domain = self.domain();
        let commit = self.shard().submit(move |txn| {
            change(txn, domain, id, |item| {
                item.attempts += 1;
                item.next_ms = next_ms;
                item.last = reason;
            })?;
            Ok::<(), StoreError>(())
        });
        commit.await.map(drop)
    }

    /// Gives a mail another deadline, once its author was told that it is late.
    pub(crate) async fn told_late(&self, id: u64, deadline_ms: u64) -> Result<(), CommitError> {
        let domain = self.domain();
        let commit = self.shard().submit(move |txn| {
            change(txn, domain, id, |item| {
                item.told = true;
                item.deadline_ms = deadline_ms;
            })?;
            Ok::<(), StoreError>(())
        });
        commit.await.map(drop)
    }

    /// Moves a mail to another destination.
    pub(crate) async fn move_to(&self, id: u64, lane: String) -> Result<(), CommitError> {
        let domain = self.domain();
        let commit = self.shard().submit(move |txn| {
            let Some(mut item) = take(txn, domain, id)? else { return Ok(()) };
            item.lane = lane;
            // The number stays: bounces and events know it.
            enter(txn, domain, id, &item)
        });
        commit.await.map(drop)
    }

    /// Everything of a destination was tried that could be.
    pub(crate) async fn rest(&self, lane: &str, now_ms: u64) -> Result<(), CommitError> {
        let view = self.shard().view();
        let domain = self.domain();
        let Some(seen) = view.get(&LANE, domain, lane)? else { return Ok(()) };
        let first = view.prefix(&READY, domain, &(lane,), Direction::Forward).next().transpose()?;
        let name = lane.to_owned();
        let commit = self.shard().submit(move |txn| {
            let Some(mut lane) = txn.get(&LANE, domain, name.as_str())? else { return Ok(()) };
            // Something came in between: the next one to look sees it.
            let due = if lane.puts == seen.puts { first.map(|((_, next, _), ())| next) } else { Some(now_ms) };
            (lane.failures, lane.failing_since_ms) = (0, 0);
            lane.reason.clear();
            match due {
                Some(due) => set_lane(txn, domain, &name, lane, due),
                None => drop_lane(txn, domain, &name, &lane),
            }
            Ok::<(), StoreError>(())
        });
        commit.await.map(drop)
    }

    /// A destination could not be reached: nothing is tried there before `due_ms`, which `wait` works out of the failures
    /// in a row.
    pub(crate) async fn lane_failed(
        &self,
        lane: &str,
        now_ms: u64,
        reason: String,
        wait: fn(u32) -> u64,
    ) -> Result<(), CommitError> {
        let (domain, name) = (self.domain(), lane.to_owned());
        let commit = self.shard().submit(move |txn| {
            let Some(mut lane) = txn.get(&LANE, domain, name.as_str())? else { return Ok(()) };
            if lane.failures == 0 {
                lane.failing_since_ms = now_ms;
            }
            lane.failures = lane.failures.saturating_add(1);
            lane.reason = reason;
            let due = now_ms + wait(lane.failures);
            set_lane(txn, domain, &name, lane, due);
            Ok::<(), StoreError>(())
        });
        commit.await.map(drop)
    }

    /// Has a destination, or all of them, tried at once: how many that were.
    pub(crate) async fn hurry(&self, only: Option<String>, now_ms: u64) -> Result<u64, CommitError> {
        let domain = self.domain();
        let view = self.shard().view();
        let mut hurried = 0;
        for row in view.scan(&LANE, domain, .., Direction::Forward) {
            let (name, _) = row?;
            if only.as_ref().is_some_and(|only| *only != name) {
                continue;
            }
            hurried += 1;
            let items: Vec<u64> = view
                .prefix(&READY, domain, &(name.as_str(),), Direction::Forward)
                .map(|row| row.map(|((_, _, id), ())| id))
                .collect::<Result<_, _>>()?;
            for some in items.chunks(1_000) {
                let some = some.to_vec();
                let commit = self.shard().submit(move |txn| {
                    for id in some {
                        change(txn, domain, id, |item| item.next_ms = item.next_ms.min(now_ms))?;
                    }
                    Ok::<(), StoreError>(())
                });
                commit.await?;
            }
            let commit = self.shard().submit(move |txn| {
                let Some(mut lane) = txn.get(&LANE, domain, name.as_str())? else { return Ok(()) };
                lane.failures = 0;
                set_lane(txn, domain, &name, lane, now_ms);
                Ok::<(), StoreError>(())
            });
            commit.await?;
        }
        self.wake();
        Ok(hurried)
    }
}
