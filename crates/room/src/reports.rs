//! What people report to the operator: events, rooms, people. [CS-API §reporting-content]
//!
//! Reports are numbered and kept until the operator has read them, the newest [`REPORTS_MAX`] of them: whoever may
//! report can write no more to the disk than that.

use koine_store::Direction;
use ruma_common::{EventId, RoomId, UserId};

use crate::{
    error::{CommandError, ReadError},
    registry::Rooms,
    tables::{REPORT, REPORT_NEXT, ReportRecord},
};

/// Most reports kept; the oldest make room.
pub const REPORTS_MAX: u64 = 10_000;
/// Longest reason kept, in bytes; what is longer is cut.
pub const REPORT_REASON_BYTES_MAX: usize = 4_096;

/// What is reported.
#[derive(Clone, Copy, Debug)]
pub enum Reported<'a> {
    /// An event of a room.
    Event(&'a RoomId, &'a EventId),
    /// A room.
    Room(&'a RoomId),
    /// Somebody.
    User(&'a UserId),
}

impl Rooms {
    /// Keeps a report for the operator.
    pub async fn report(&self, reporter: &UserId, what: Reported<'_>, reason: &str) -> Result<(), CommandError> {
        let mut reason = reason.to_owned();
        reason.truncate(reason.floor_char_boundary(REPORT_REASON_BYTES_MAX));
        let (room, event, user) = match what {
            Reported::Event(room, event) => (Some(room), Some(event), None),
            Reported::Room(room) => (Some(room), None, None),
            Reported::User(user) => (None, None, Some(user)),
        };
        let record = ReportRecord {
            ts: (self.core.config.now)().get().into(),
            reporter: reporter.to_string(),
            room_id: room.map(ToString::to_string),
            event_id: event.map(ToString::to_string),
            user_id: user.map(ToString::to_string),
            reason,
        };
        let domain = self.core.domain();
        self.core
            .shard
            .submit(move |txn| {
                let number = txn.get(&REPORT_NEXT, domain, &0).ok().flatten().unwrap_or(1);
                txn.put(&REPORT, domain, &number, &record);
                txn.put(&REPORT_NEXT, domain, &0, &(number + 1));
                if let Some(oldest) = number.checked_sub(REPORTS_MAX) {
                    txn.delete(&REPORT, domain, &oldest);
                }
            })
            .await?;
        tracing::warn!(user_id = %reporter, ?what, "somebody reports something to the operator");
        Ok(())
    }

    /// Reports with their numbers, oldest first: at most `limit` after number `after`.
    pub fn reports(&self, after: u64, limit: usize) -> Result<Vec<(u64, ReportRecord)>, ReadError> {
        let view = self.core.shard.view();
        let rows = view.scan(&REPORT, self.core.domain(), after + 1.., Direction::Forward).take(limit);
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
