//! When what is done: lines become mails, destinations are tried, authors are told that something is late or lost.
//!
//! The first row of each table says when there is something to do next; until then nothing happens.

use std::time::Duration;

use koine_store::{CommitError, Direction, KeyRange, StoreError};

use super::{
    Out,
    config::Deliver,
    follow::FollowError,
    status::Status,
    tables::{DEADLINE, ITEM, SPENT, SentRecord},
};

/// The first wait of a mail that was put off; each one after is twice as long.
const ITEM_WAIT_MIN_MS: u64 = 5 * 60 * 1_000;
/// The longest.
const ITEM_WAIT_MAX_MS: u64 = 4 * 60 * 60 * 1_000;
/// The same for a destination that cannot be reached.
const LANE_WAIT_MIN_MS: u64 = 60 * 1_000;
const LANE_WAIT_MAX_MS: u64 = 2 * 60 * 60 * 1_000;
/// How long nothing is looked at, if nothing is to be done.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How often what is old is forgotten.
const SWEEP_EVERY_MS: u64 = 60 * 60 * 1_000;
/// Deadlines that are looked at in one go.
const PAGE: usize = 64;

pub(crate) fn item_wait_ms(attempts: u32) -> u64 {
    doubled(ITEM_WAIT_MIN_MS, ITEM_WAIT_MAX_MS, attempts)
}

pub(crate) fn lane_wait_ms(failures: u32) -> u64 {
    doubled(LANE_WAIT_MIN_MS, LANE_WAIT_MAX_MS, failures)
}

fn doubled(min_ms: u64, max_ms: u64, times: u32) -> u64 {
    min_ms.saturating_mul(1 << times.saturating_sub(1).min(20)).min(max_ms)
}

/// Begins to work. Ends with the last owner.
pub(crate) fn start(out: &Out) {
    let weak = out.downgrade();
    tokio::spawn(async move {
        let mut swept_ms = 0;
        loop {
            let Some(out) = weak.upgrade() else { return };
            // Before looking: whoever comes in between is seen the next time.
            let woken = out.0.work.clone();
            let notified = woken.notified();
            if let Err(error) = out.work_due().await {
                tracing::error!(reason = %error, "mails could not be worked on");
            }
            if out.now_ms().saturating_sub(swept_ms) > SWEEP_EVERY_MS {
                swept_ms = out.now_ms();
                if let Err(error) = out.sweep().await {
                    tracing::warn!(reason = %error, "what was sent long ago could not be forgotten");
                }
            }
            let wait = out.wait();
            drop(out);
            let _ = tokio::time::timeout(wait, notified).await;
        }
    });
}

impl Out {
    /// Until when there is nothing to do.
    fn wait(&self) -> Duration {
        let view = self.shard().view();
        let busy = self.0.busy.lock().clone();
        let may_carry = busy.len() < self.config().connections_max.max(1) && self.config().deliver != Deliver::Nowhere;
        let deadline = view.scan(&DEADLINE, self.domain(), .., Direction::Forward).next();
        let next = [
            self.next_batch_ms(&view).ok().flatten(),
            deadline.and_then(Result::ok).map(|((due, _), ())| due),
            // Whoever is being served wakes us when that is done.
            self.next_lane_ms(&view, |lane: &str| busy.contains(lane)).ok().flatten().filter(|_| may_carry),
        ];
        let now_ms = self.now_ms();
        let next = next.into_iter().flatten().min().map(|next| next.saturating_sub(now_ms));
        // Whatever goes wrong again and again does so in its time.
        next.map_or(IDLE_MAX, |ms| Duration::from_millis(ms.max(100)).min(IDLE_MAX))
    }

    /// Begins everything whose time has come; mails are carried by tasks of their own.
    async fn work_due(&self) -> Result<(), FollowError> {
        let now_ms = self.now_ms();
        self.close_batches(now_ms).await?;
        self.look_at_deadlines(now_ms).await?;
        for lane in self.free_lanes(now_ms)? {
            let out = self.clone();
            tokio::spawn(async move {
                out.carry(&lane).await;
                out.wake();
            });
        }
        Ok(())
    }

    /// Does everything whose time has come, and returns when it is done. For tests, and for who wants to wait.
    pub async fn settle(&self) -> Result<(), String> {
        let words = |error: FollowError| error.to_string();
        self.follow().await.map_err(words)?;
        loop {
            let now_ms = self.now_ms();
            self.close_batches(now_ms).await.map_err(words)?;
            self.look_at_deadlines(now_ms).await.map_err(|error| error.to_string())?;
            let lanes = self.free_lanes(now_ms).map_err(|error| error.to_string())?;
            if lanes.is_empty() {
                return Ok(());
            }
            for lane in lanes {
                self.carry(&lane).await;
            }
        }
    }

    /// Destinations to be tried now, taken so that nobody else tries them.
    fn free_lanes(&self, now_ms: u64) -> Result<Vec<String>, StoreError> {
        if self.config().deliver == Deliver::Nowhere {
            return Ok(Vec::new());
        }
        let mut busy = self.0.busy.lock();
        let free = self.config().connections_max.max(1).saturating_sub(busy.len());
        let ready = self.ready_lanes(now_ms, free, |lane: &str| busy.contains(lane))?;
        let lanes: Vec<String> = ready.into_iter().map(|ready| ready.lane).collect();
        busy.extend(lanes.iter().cloned());
        Ok(lanes)
    }

    async fn carry(&self, lane: &str) {
        let served = self.serve_lane(lane).await;
        self.0.busy.lock().remove(lane);
        if let Err(error) = served {
            tracing::error!(peer = lane, reason = %error, "mails could not be carried on");
        }
    }

    /// Tells authors of mails that are late, and of those that are given up.
    async fn look_at_deadlines(&self, now_ms: u64) -> Result<(), CommitError> {
        loop {
            let view = self.shard().view();
            let range = KeyRange::all().through(&(now_ms,));
            let mut due = Vec::new();
            for row in view.scan(&DEADLINE, self.domain(), range, Direction::Forward).take(PAGE) {
                due.push(row?.0);
            }
            if due.is_empty() {
                return Ok(());
            }
            for (at_ms, id) in due {
                let Some(item) = view.get(&ITEM, self.domain(), &id)? else {
                    let domain = self.domain();
                    self.shard().submit(move |txn| txn.delete(&DEADLINE, domain, &(at_ms, id))).await?;
                    continue;
                };
                let end_ms = item.created_ms + self.config().retry_hours * 3_600_000;
                let reason = if item.last.is_empty() { self.lane_reason(&item.lane) } else { item.last.clone() };
                if now_ms >= end_ms {
                    let sent = SentRecord {
                        recipient: item.recipient,
                        room: item.room,
                        author: item.author,
                        events: item.events,
                        sent_ms: now_ms,
                    };
                    // [RFC 3463 §3.5] delivery time expired
                    self.failed(id, &sent, "550 5.4.7", &format!("it was tried for too long; last: {reason}"), false)
                        .await?;
                    continue;
                }
                if !item.told {
                    let status = Status { state: "delayed", recipient: &item.recipient, code: None, text: &reason };
                    self.tell(item.room, &item.events, &status).await;
                }
                self.told_late(id, end_ms).await?;
            }
        }
    }

    fn lane_reason(&self, lane: &str) -> String {
        let lane = self.shard().get(&super::tables::LANE, self.domain(), lane).ok().flatten();
        lane.map(|lane| lane.reason).unwrap_or_default()
    }

    async fn sweep(&self) -> Result<(), CommitError> {
        self.sweep_sent().await?;
        let (domain, today) = (self.domain(), self.now_ms() / super::plan::DAY_MS);
        let commit = self.shard().submit(move |txn| {
            // What accounts sent on days that are over; a scan that is too long withdraws itself, and comes again.
            txn.delete_range(&SPENT, domain, KeyRange::all().before(&(today,))).map(drop)
        });
        commit.await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound() {
        assert_eq!(item_wait_ms(1), ITEM_WAIT_MIN_MS);
        assert_eq!(item_wait_ms(2), 2 * ITEM_WAIT_MIN_MS);
        assert_eq!(item_wait_ms(u32::MAX), ITEM_WAIT_MAX_MS);
        assert_eq!(lane_wait_ms(1), LANE_WAIT_MIN_MS);
        // Five days of tries at the longest waits are no more than some thirty.
        let tries = std::iter::successors(Some((0, 1)), |(at, n)| Some((at + item_wait_ms(*n), n + 1)));
        let within = tries.take_while(|(at, _)| *at < 5 * 24 * 3_600_000).count();
        assert!((20..50).contains(&within), "{within}");
    }
}
