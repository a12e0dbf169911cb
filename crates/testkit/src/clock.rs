//! The pretend time of day: tokio's paused clock, counted from a day in the past.
//!
//! Servers ask for the time through a plain function, so the moment at which a world began is kept for each thread: one
//! world at a time on each.

use std::cell::Cell;

use ruma_common::MilliSecondsSinceUnixEpoch;
use tokio::time::Instant;

/// When every world begins: 2026-01-01, in milliseconds.
const BEGINNING_MS: u64 = 1_767_225_600_000;

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// This thread's world began at this moment.
pub fn begin(at: Instant) {
    BEGAN.set(Some(at));
}

/// The time of day.
///
/// # Panics
/// Outside of a world.
pub fn now() -> MilliSecondsSinceUnixEpoch {
    let began = BEGAN.get().expect("the world of this thread has begun");
    let elapsed = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    MilliSecondsSinceUnixEpoch((BEGINNING_MS + elapsed).try_into().expect("no world lives that long"))
}
