//! What one pusher still has to be told, in order, and when to try again.

use std::{collections::VecDeque, time::Duration};

use koine_room::RoomNo;
use parking_lot::Mutex;

/// What may wait for one pusher; the oldest give way, for a notification of yesterday is worth less than one of now.
const WAITING_MAX: usize = 200;
/// The first wait after a failure; doubled with every further one.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(60 * 60);

/// Something to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Where the log tells of it.
    pub(crate) position: u64,
    /// The room; `None` to say only how much is unread.
    pub(crate) room: Option<RoomNo>,
    /// When it began to wait, in milliseconds since 1970.
    pub(crate) since_ms: u64,
}

/// The notices of one pusher.
#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Notice>,
    is_served: bool,
    failures: u32,
}

impl Line {
    /// Puts a notice at the end. `true`: somebody has to begin to serve the line.
    pub(crate) fn add(&self, notice: Notice) -> bool {
        let mut inner = self.0.lock();
        // How much is unread goes with every notification, and once is enough.
        if notice.room.is_none() && !inner.waiting.is_empty() {
            return false;
        }
        inner.waiting.retain(|other| other.room.is_some());
        if inner.waiting.len() == WAITING_MAX {
            inner.waiting.pop_front();
        }
        inner.waiting.push_back(notice);
        !std::mem::replace(&mut inner.is_served, true)
    }

    /// The first of the line; with `None` whoever serves it is done.
    pub(crate) fn first(&self) -> Option<Notice> {
        let mut inner = self.0.lock();
        let first = inner.waiting.front().copied();
        inner.is_served = first.is_some();
        first
    }

    /// The first has been told, or never will be.
    pub(crate) fn done(&self, notice: Notice) {
        let mut inner = self.0.lock();
        inner.failures = 0;
        if inner.waiting.front() == Some(&notice) {
            inner.waiting.pop_front();
        }
    }

    /// Telling failed: how long to wait before the next try.
    pub(crate) fn failed(&self) -> Duration {
        let mut inner = self.0.lock();
        inner.failures = inner.failures.saturating_add(1);
        BACKOFF_MIN.saturating_mul(1_u32 << (inner.failures - 1).min(16)).min(BACKOFF_MAX)
    }

    /// The oldest position that was not told yet.
    pub(crate) fn behind_since(&self) -> Option<u64> {
        self.0.lock().waiting.front().map(|notice| notice.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(position: u64, room: Option<RoomNo>) -> Notice {
        Notice { position, room, since_ms: 0 }
    }

    #[test]
    fn a_line_is_served_by_one_at_a_time_and_in_order() {
        let line = Line::default();
        assert!(line.add(notice(1, Some(7))));
        assert!(!line.add(notice(2, Some(7))));
        assert_eq!(line.first(), Some(notice(1, Some(7))));
        line.done(notice(1, Some(7)));
        assert_eq!(line.behind_since(), Some(2));
        line.done(notice(2, Some(7)));
        assert_eq!(line.first(), None);
        assert!(line.add(notice(3, Some(7))), "the next one is served anew");
    }

    #[test]
    fn a_count_waits_for_nobody_and_alone() {
        let line = Line::default();
        line.add(notice(1, None));
        line.add(notice(2, Some(7)));
        line.add(notice(3, None));
        assert_eq!(line.first(), Some(notice(2, Some(7))));
        line.done(notice(2, Some(7)));
        assert_eq!(line.first(), None);
    }

    #[test]
    fn the_oldest_give_way_and_waits_grow_to_an_hour() {
        let line = Line::default();
        for position in 0..=WAITING_MAX as u64 {
            line.add(notice(position, Some(7)));
        }
        assert_eq!(line.behind_since(), Some(1));
        let waits: Vec<u64> = (0..20).map(|_| line.failed().as_secs()).collect();
        assert_eq!(waits[..4], [1, 2, 4, 8]);
        assert_eq!(waits[19], 3600);
    }
}
