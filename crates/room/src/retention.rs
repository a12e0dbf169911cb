//! Rooms that say how long their events are kept. [MSC1763]
//!
//! `max_lifetime` of `m.room.retention` is obeyed: what is older goes from this server, state excepted, which the room
//! stands on, and the newest event. Now and then, so an event may live a little longer than it should. `min_lifetime`
//! asks servers not to forget sooner, which this one never does by itself.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use koine_store::Direction;

use crate::{
    error::{CommandError, ReadError},
    purge::Purge,
    registry::Rooms,
    room::Room,
    tables::{Order, RETENTION, RoomNo},
};

/// The type of the state that says so.
pub(crate) const RETENTION_TYPE: &str = "m.room.retention";
/// How often what is too old is looked for.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// Rooms looked at in one go.
const BATCH: usize = 100;

impl Rooms {
    /// Deletes what is older than its room wants to keep; how many events went.
    pub async fn enforce_retention(&self) -> Result<u64, CommandError> {
        let (mut after, mut gone) = (0, 0);
        loop {
            let rooms = self.rooms_with_retention(after)?;
            let Some((last, _)) = rooms.last() else { return Ok(gone) };
            after = *last;
            for (no, done) in rooms {
                match self.enforce_in(no, done).await {
                    Ok(count) => gone += count,
                    Err(error) => {
                        tracing::warn!(room_no = no, reason = %error, "old events of a room were not deleted");
                    }
                }
            }
        }
    }

    fn rooms_with_retention(&self, after: RoomNo) -> Result<Vec<(RoomNo, Order)>, ReadError> {
        let view = self.core.shard.view();
        let rows = view.scan(&RETENTION, self.core.domain(), after + 1.., Direction::Forward).take(BATCH);
        Ok(rows.collect::<Result<_, _>>()?)
    }

    async fn enforce_in(&self, no: RoomNo, done: Order) -> Result<u64, CommandError> {
        let room = self.room_by_no(no)?;
        let Some(lifetime) = room.max_lifetime()? else { return Ok(0) };
        let now: u64 = (self.core.config.now)().get().into();
        let before = now.saturating_sub(lifetime);
        let purge = Purge { until: room.published().order, sent_before: Some(before), own_too: true };
        let gone = self.purge_after(&room, done, purge).await?;
        // Clocks of servers differ, so what stands behind the first event that stays is looked at again.
        let Some(kept) = room.first_sent_after(done, before)? else { return Ok(gone) };
        let domain = self.core.domain();
        self.core.shard.submit(move |txn| txn.put(&RETENTION, domain, &no, &(kept - 1))).await?;
        Ok(gone)
    }
}

impl Room {
    /// How long events are kept, in milliseconds, where the room says so.
    pub fn max_lifetime(&self) -> Result<Option<u64>, ReadError> {
        let event = self.current(RETENTION_TYPE, "")?;
        Ok(event.and_then(|event| event.event.content_field::<u64>("max_lifetime")).filter(|lifetime| *lifetime > 0))
    }

    /// Order of the first message above `after` that was not sent before a moment.
    fn first_sent_after(&self, after: Order, before: u64) -> Result<Option<Order>, ReadError> {
        let mut cursor = after;
        loop {
            let up_to = self.published().order;
            let page = self.core.timeline(self.no(), cursor, up_to, BATCH, Direction::Forward)?;
            let Some(last) = page.last() else { return Ok(None) };
            let found = page.iter().find(|placed| {
                let sent: u64 = placed.event.origin_server_ts().get().into();
                !placed.event.is_state() && sent >= before
            });
            if let Some(found) = found {
                return Ok(Some(found.order));
            }
            cursor = last.order;
        }
    }
}

/// Starts the task; it ends when the last owner of `rooms` lets go.
pub(crate) fn start(rooms: &Arc<Rooms>) {
    let weak: Weak<Rooms> = Arc::downgrade(rooms);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(EVERY).await;
            let Some(rooms) = weak.upgrade() else { return };
            match rooms.enforce_retention().await {
                Ok(0) => {}
                Ok(gone) => tracing::info!(events = gone, "events were deleted that their rooms no longer keep"),
                Err(error) => tracing::warn!(reason = %error, "rooms could not be asked how long they keep events"),
            }
        }
    });
}
