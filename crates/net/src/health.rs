//! The book of back-off, shared: with a clock, and a bell for those who wait.

use std::{pin::pin, sync::Arc, time::Duration, time::Instant};

use parking_lot::Mutex;
use ruma_common::ServerName;
use tokio::sync::Notify;
use tracing::debug;

use crate::{
    backoff::{Backoff, Policy},
    error::{Error, Fault},
};

/// Tells the time. Another one than the system's is for tests.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

pub struct Health {
    book: Mutex<Backoff>,
    /// Rung whenever a server that was being left alone is back.
    bell: Notify,
    clock: Clock,
}

impl Health {
    pub fn new(policy: Policy, clock: Clock) -> Self {
        Self { book: Mutex::new(Backoff::new(policy)), bell: Notify::new(), clock }
    }

    pub fn now(&self) -> Instant {
        (self.clock)()
    }

    pub fn ready_at(&self, server: &ServerName) -> Option<Instant> {
        self.book.lock().ready_at(server, self.now())
    }

    /// Notes a failure, if it is one of those that say that a server is away.
    pub fn failed(&self, server: &ServerName, began: Instant, error: &Error) {
        if error.fault() == Fault::Away {
            self.failed_surely(server, began, error);
        }
    }

    /// Notes a failure, whatever it is.
    pub fn failed_surely(&self, server: &ServerName, began: Instant, error: &Error) {
        let now = self.now();
        let until = self.book.lock().failed(server, (began, now), asked(error), &mut rand::rng());
        let pause_ms = until.saturating_duration_since(now).as_millis() as u64;
        debug!(peer = %server, reason = %error, pause_ms, "a server is left alone");
    }

    /// Notes that a server works. Returns whether that is news.
    pub fn recovered(&self, server: &ServerName) -> bool {
        let news = self.book.lock().recovered(server, self.now());
        if news {
            debug!(peer = %server, "a server is back");
            self.bell.notify_waiters();
        }
        news
    }

    pub async fn until_ready(&self, server: &ServerName) {
        loop {
            let mut rung = pin!(self.bell.notified());
            // Before looking: what rings after the look is heard.
            rung.as_mut().enable();
            let Some(until) = self.ready_at(server) else { return };
            tokio::select! {
                () = rung => {}
                () = tokio::time::sleep(until.saturating_duration_since(self.now())) => {}
            }
        }
    }

    pub fn sweep(&self) {
        let now = self.now();
        self.book.lock().sweep(now);
    }

    pub fn failing(&self) -> usize {
        self.book.lock().len()
    }
}

/// `Retry-After` in seconds; its other form, a date, is not used between servers.
fn asked(error: &Error) -> Option<Duration> {
    let Error::Status { headers, .. } = error else { return None };
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
