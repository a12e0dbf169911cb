//! Lines that are collected until their author is silent, and then are one mail.

use koine_room::{ReadError, RoomNo};
use koine_store::{CommitError, Direction, DomainId, KeyRange, StoreError, Txn, View};
use ruma_common::{OwnedEventId, UserId};

use super::{
    Out,
    follow::FollowError,
    plan::{Limit, Plan},
    status::Status,
    tables::{BATCH, BATCH_DUE, BatchRecord, MAILED, MailedRecord, SPENT, SUPPRESSED, What},
};

/// Lines of one mail; with so many it goes out at once.
pub(crate) const LINES_MAX: usize = 100;
/// Mails begun in one go before the store is asked again.
const PAGE: usize = 32;

/// A line, and by what it is collected.
pub(crate) struct Said {
    pub domain: DomainId,
    pub room: RoomNo,
    pub author: String,
    /// What it answers: `t` and the root of a thread, `r` and an event, or nothing.
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
        let newest = open.into_iter().filter(|((_, _, key), _)| !key.starts_with('t'));
        if let Some(((_, _, open), _)) = newest.max_by_key(|(_, batch)| batch.due_ms) {
            key = open;
        }
    }
    let row = (room, author.clone(), key.clone());
    let old = txn.get(&BATCH, domain, &row)?;
    if let Some(old) = &old {
        txn.delete(&BATCH_DUE, domain, &(old.due_ms, room, author.clone(), key.clone()));
    }
    let mut batch = old.unwrap_or_else(|| BatchRecord { first_ms: now_ms, ..BatchRecord::default() });
    if !batch.events.contains(&event) {
        batch.events.push(event);
    }
    batch.due_ms = match batch.events.len() >= LINES_MAX {
        true => now_ms,
        false => (now_ms + silence_ms).min(batch.first_ms + collect_ms),
    };
    txn.put(&BATCH_DUE, domain, &(batch.due_ms, room, author, key), &());
    txn.put(&BATCH, domain, &row, &batch);
    Ok(())
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
        match batch.events.is_empty() {
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
        let recipients = self.addresses(row.0)?;
        let first = batch.events.first().and_then(|id| OwnedEventId::try_from(id.as_str()).ok());
        let heading = match first {
            Some(first) => self.heading(&room, author, &first, &row.2)?,
            None => super::tables::Heading::default(),
        };
        let plan = self.plan(What::Lines, row.0, author, batch.events.clone(), heading);
        let (refused, write) = self.admit(plan, recipients)?;
        let row = row.clone();
        let commit = self.shard().submit(move |txn| {
            // Another line may have come in between; then its time is another.
            if txn.get(&BATCH, domain, &row)?.is_none_or(|now| now.due_ms != due_ms) {
                return Ok(());
            }
            drop_batch(txn, domain, &row, due_ms);
            write(txn)
        });
        commit.await?;
        for (recipient, why) in refused {
            let status = Status { state: "failed", recipient: &recipient, code: Some(why.code()), text: &why.text() };
            self.tell(room.no(), &batch.events, &status).await;
        }
        self.wake();
        Ok(())
    }

    /// Queues a mail for those recipients who may have it: the others, and what to write.
    #[expect(clippy::type_complexity, reason = "a list and what to do")]
    fn admit(
        &self,
        plan: Plan,
        recipients: Vec<String>,
    ) -> Result<(Vec<(String, Limit)>, Box<dyn FnOnce(&mut Txn) -> Result<(), StoreError> + Send>), CommitError> {
        let domain = self.domain();
        // Those who have no account here share what one account may send, room by room.
        let payer = match <&UserId>::try_from(plan.author.as_str()) {
            Ok(author) if self.is_account(author) => plan.author.clone(),
            _ => format!("room {}", plan.room),
        };
        let spent = (plan.day, payer);
        let mut already = self.shard().get(&SPENT, domain, &spent)?.unwrap_or(0);
        let max = self.config().per_account_day;
        let (mut refused, mut admitted) = (Vec::new(), Vec::new());
        for recipient in recipients {
            if let Some(record) = self.shard().get(&SUPPRESSED, domain, recipient.as_str())? {
                refused.push((recipient, Limit::Suppressed(record.reason)));
            } else if already >= max {
                refused.push((recipient, Limit::Day(max)));
            } else {
                already += 1;
                admitted.push(recipient);
            }
        }
        let write = move |txn: &mut Txn| {
            if admitted.is_empty() {
                return Ok(());
            }
            txn.put(&SPENT, domain, &spent, &already);
            let first = plan.events.first().cloned().unwrap_or_default();
            let mut items = Vec::new();
            for recipient in admitted {
                items.push((plan.put(txn, &recipient)?, recipient));
            }
            for event in &plan.events {
                let mailed = MailedRecord { first: first.clone(), heading: plan.heading.clone(), items: items.clone() };
                txn.put(&MAILED, domain, event.as_str(), &mailed);
            }
            Ok(())
        };
        Ok((refused, Box::new(write)))
    }
}
