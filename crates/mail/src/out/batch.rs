//! Lines that are collected until their author is silent, and then are one mail.
//!
//! Reactions to one message, and edits of one that was sent, are mails of their own kind. The first goes out at once, and what
//! its author adds soon after is collected like lines.

use std::sync::Arc;

use koine_room::{ReadError, Room, RoomNo};
use koine_store::{Direction, DomainId, KeyRange, StoreError, Txn, View};
use parking_lot::Mutex;
use ruma_common::{EventId, OwnedEventId, UserId};

use super::{
    Out,
    follow::FollowError,
    plan::{Limit, Plan},
    status::Status,
    tables::{BATCH, BATCH_DUE, BatchRecord, Heading, MAILED, MailedRecord, What},
};

/// Lines of one mail; with so many it goes out at once.
pub(crate) const LINES_MAX: usize = 100;
/// The same for reactions: as many as are taken from a mail.
const REACTIONS_MAX: usize = 8;
/// What one author may have collected at once in one room. Whoever answers more says the rest in one mail, and what they
/// react to or edit beyond that is not mailed.
const OPEN_MAX: usize = 200;
/// Mails begun in one go before the store is asked again.
const PAGE: usize = 32;

/// A line, and by what it is collected.
pub(crate) struct Said {
    pub domain: DomainId,
    pub room: RoomNo,
    pub author: String,
    /// What it answers: `t` and the root of a thread, `r` and an event, or nothing; `a` and what it reacts to, `e` and what it
    /// edits.
    pub key: String,
    pub event: String,
    pub now_ms: u64,
    pub silence_ms: u64,
    pub collect_ms: u64,
}

/// Adds a line to those that its author said just before.
pub(crate) fn add(txn: &mut Txn, said: Said) -> Result<(), StoreError> {
    let Said { domain, room, author, mut key, event, now_ms, silence_ms, collect_ms } = said;
    if key.is_empty() {
        // Whoever has begun an answer goes on with it.
        let open = txn.scan(&BATCH, domain, KeyRange::prefix(&(room, author.as_str())))?;
        let newest = open.into_iter().filter(|((_, _, key), _)| key.is_empty() || key.starts_with('r'));
        if let Some(((_, _, open), _)) = newest.max_by_key(|(_, batch)| batch.due_ms) {
            key = open;
        }
    }
    let row = (room, author.clone(), key.clone());
    let old = txn.get(&BATCH, domain, &row)?;
    if let Some(old) = &old {
        txn.delete(&BATCH_DUE, domain, &(old.due_ms, room, author.clone(), key.clone()));
    }
    let what = what(&key);
    let is_first = what != What::Lines && old.as_ref().is_none_or(|old| old.due_ms <= now_ms);
    let mut batch = old.unwrap_or_else(|| BatchRecord { first_ms: now_ms, ..BatchRecord::default() });
    if batch.events.is_empty() {
        batch.first_ms = now_ms;
    }
    if !batch.events.contains(&event) {
        batch.events.push(event);
    }
    batch.due_ms = match is_first || batch.events.len() >= most(what) {
        true => now_ms,
        false => (now_ms + silence_ms).min(batch.first_ms + collect_ms),
    };
    txn.put(&BATCH_DUE, domain, &(batch.due_ms, room, author, key), &());
    txn.put(&BATCH, domain, &row, &batch);
    Ok(())
}

/// Events of one mail.
fn most(what: What) -> usize {
    if what == What::Reaction { REACTIONS_MAX } else { LINES_MAX }
}

/// What a batch with this key becomes.
pub(crate) fn what(key: &str) -> What {
    match key.chars().next() {
        Some('a') => What::Reaction,
        Some('e') => What::Edit,
        _ => What::Lines,
    }
}

/// Takes a line back that is not mailed yet.
pub(crate) fn remove(
    txn: &mut Txn,
    domain: DomainId,
    (room, author): (RoomNo, &str),
    event: &str,
) -> Result<(), StoreError> {
    for (row, mut batch) in txn.scan(&BATCH, domain, KeyRange::prefix(&(room, author)))? {
        if !batch.events.iter().any(|known| known == event) {
            continue;
        }
        batch.events.retain(|known| known != event);
        match batch.events.is_empty() && what(&row.2) == What::Lines {
            true => drop_batch(txn, domain, &row, batch.due_ms),
            false => txn.put(&BATCH, domain, &row, &batch),
        }
    }
    Ok(())
}

fn drop_batch(txn: &mut Txn, domain: DomainId, row: &(RoomNo, String, String), due_ms: u64) {
    txn.delete(&BATCH_DUE, domain, &(due_ms, row.0, row.1.clone(), row.2.clone()));
    txn.delete(&BATCH, domain, row);
}

impl Out {
    /// Whether what somebody says may be collected under a key: it is already, or there is room for one more.
    pub(crate) fn may_open(&self, room: RoomNo, author: &str, key: &str) -> Result<bool, StoreError> {
        let view = self.shard().view();
        if view.get(&BATCH, self.domain(), &(room, author.to_owned(), key.to_owned()))?.is_some() {
            return Ok(true);
        }
        let open = view.prefix(&BATCH, self.domain(), &(room, author), Direction::Forward);
        Ok(open.take(OPEN_MAX).count() < OPEN_MAX)
    }

    /// When the next lines become a mail.
    pub(crate) fn next_batch_ms(&self, view: &View) -> Result<Option<u64>, StoreError> {
        let first = view.scan(&BATCH_DUE, self.domain(), .., Direction::Forward).next().transpose()?;
        Ok(first.map(|((due, ..), ())| due))
    }

    /// Makes mails of the lines whose time has come.
    pub(crate) async fn close_batches(&self, now_ms: u64) -> Result<(), FollowError> {
        loop {
            let view = self.shard().view();
            let range = KeyRange::all().through(&(now_ms,));
            let mut due = Vec::new();
            for row in view.scan(&BATCH_DUE, self.domain(), range, Direction::Forward).take(PAGE) {
                let ((due_ms, room, author, key), ()) = row?;
                due.push((due_ms, (room, author, key)));
            }
            if due.is_empty() {
                return Ok(());
            }
            for (due_ms, row) in due {
                match self.close_batch(due_ms, &row).await {
                    Ok(()) => {}
                    Err(FollowError::Read(error)) => {
                        tracing::warn!(room = row.0, reason = %error, "lines could not be mailed");
                        let domain = self.domain();
                        self.shard().submit(move |txn| drop_batch(txn, domain, &row, due_ms)).await?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    async fn close_batch(&self, due_ms: u64, row: &(RoomNo, String, String)) -> Result<(), FollowError> {
        let domain = self.domain();
        let Some(batch) = self.shard().get(&BATCH, domain, row)? else {
            let (row, author) = (row.clone(), row.1.clone());
            self.shard().submit(move |txn| txn.delete(&BATCH_DUE, domain, &(due_ms, row.0, author, row.2))).await?;
            return Ok(());
        };
        let room = self.rooms().room_by_no(row.0)?;
        let author = <&UserId>::try_from(row.1.as_str()).map_err(|_| ReadError::Damaged("a batch of nobody".into()))?;
        let what = what(&row.2);
        let begun = self.begun(&room, author, row, &batch)?;
        let mail = begun
            .map(|(heading, recipients)| (self.plan(what, row.0, author, batch.events.clone(), heading), recipients));
        let now_ms = self.now_ms();
        // What follows soon after a reaction is collected.
        let rest_ms = if what == What::Lines { now_ms } else { now_ms + self.config().silence_s * 1_000 };
        let rests = what != What::Lines && mail.is_some();
        let refused = Arc::new(Mutex::new(Vec::new()));
        let (row, read, found) = (row.clone(), batch.clone(), refused.clone());
        let commit = self.shard().submit(move |txn| {
            // What came in between goes along, unless it is another mail by now.
            let now = txn.get(&BATCH, domain, &row)?;
            let Some(mut now) = now.filter(|now| now.events.first() == read.events.first()) else { return Ok(()) };
            drop_batch(txn, domain, &row, now.due_ms);
            let events = now.events.split_off(now.events.len().min(most(what)));
            if rests || !events.is_empty() {
                txn.put(&BATCH_DUE, domain, &(rest_ms, row.0, row.1.clone(), row.2.clone()), &());
                txn.put(&BATCH, domain, &row, &BatchRecord { events, first_ms: rest_ms, due_ms: rest_ms });
            }
            if let Some((mut plan, recipients)) = mail {
                plan.events = now.events;
                *found.lock() = admit(txn, domain, &plan, recipients)?;
            }
            Ok::<(), StoreError>(())
        });
        commit.await?;
        let refused = std::mem::take(&mut *refused.lock());
        // A reaction says too little for that.
        for (recipient, why) in refused.into_iter().filter(|_| what != What::Reaction) {
            let status = Status { state: "failed", recipient: &recipient, code: Some(why.code()), text: &why.text() };
            self.tell(room.no(), &batch.events, &status).await;
        }
        self.wake();
        Ok(())
    }

    /// How the mail of a batch begins, and who is to have it; `None` where there is nothing to say.
    fn begun(
        &self,
        room: &Room,
        author: &UserId,
        (_, _, key): &(RoomNo, String, String),
        batch: &BatchRecord,
    ) -> Result<Option<(Heading, Vec<String>)>, FollowError> {
        let Some(first) = batch.events.first() else { return Ok(None) };
        let kind = what(key);
        let target = key.get(1..).and_then(|id| <&EventId>::try_from(id).ok()).filter(|_| kind != What::Lines);
        let Some(target) = target else {
            let heading = match OwnedEventId::try_from(first.as_str()) {
                Ok(first) => self.heading(room, author, &first, key)?,
                Err(_) => Heading::default(),
            };
            return Ok(Some((heading, self.addresses(room.no())?)));
        };
        let Some(heading) = self.answer_to(room, target)? else { return Ok(None) };
        let recipients = match kind {
            What::Edit => self.have_it(target)?,
            _ => self.addresses(room.no())?,
        };
        Ok(Some((heading, recipients)))
    }
}

/// Queues what was collected; who does not get it.
fn admit(
    txn: &mut Txn,
    domain: DomainId,
    plan: &Plan,
    recipients: Vec<String>,
) -> Result<Vec<(String, Limit)>, StoreError> {
    let admitted = plan.admit(txn, recipients)?;
    if plan.what == What::Lines && !admitted.items.is_empty() {
        let first = plan.events.first().cloned().unwrap_or_default();
        for event in &plan.events {
            let items = admitted.items.clone();
            let mailed = MailedRecord { first: first.clone(), heading: plan.heading.clone(), items };
            txn.put(&MAILED, domain, event.as_str(), &mailed);
        }
    }
    Ok(admitted.refused)
}
