//! What the writer counts, for whoever shows it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The writer's counters since the shard was opened, read at one moment (not atomically with each other).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Commands committed.
    pub commits: u64,
    /// Commands that failed, for whatever reason.
    pub failed: u64,
    /// Commands among `failed` that panicked: each is a bug.
    pub panicked: u64,
    /// Batches committed, each with one sync.
    pub groups: u64,
    /// Most commands in one group.
    pub group_max: u64,
    /// Log entries written.
    pub log_entries: u64,
    /// Bytes of keys and values handed to the engine.
    pub bytes_written: u64,
    /// Time spent inside the engine's commit, the sync included.
    pub sync_time: Duration,
    /// Time spent in commands on the writer's thread.
    pub build_time: Duration,
    /// Time spent in `on_durable` callbacks.
    pub hook_time: Duration,
    /// How long the engine has been at the present commit; zero if it is at none.
    pub committing: Duration,
    /// Commands waiting now.
    pub queue_depth: u64,
    /// Most commands that ever waited.
    pub queue_depth_max: u64,
}

/// The same, being counted.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) commits: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) panicked: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) group_max: AtomicU64,
    pub(crate) log_entries: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) sync_ns: AtomicU64,
    pub(crate) build_ns: AtomicU64,
    pub(crate) hook_ns: AtomicU64,
    pub(crate) queue_depth_max: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Relaxed);
}

pub(crate) fn add_time(counter: &AtomicU64, time: Duration) {
    add(counter, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

impl Meter {
    pub(crate) fn read(&self, queue_depth: u64, committing: Duration) -> Counters {
        let time = |counter: &AtomicU64| Duration::from_nanos(counter.load(Relaxed));
        Counters {
            commits: self.commits.load(Relaxed),
            failed: self.failed.load(Relaxed),
            panicked: self.panicked.load(Relaxed),
            groups: self.groups.load(Relaxed),
            group_max: self.group_max.load(Relaxed),
            log_entries: self.log_entries.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed),
            sync_time: time(&self.sync_ns),
            build_time: time(&self.build_ns),
            hook_time: time(&self.hook_ns),
            committing,
            queue_depth,
            queue_depth_max: self.queue_depth_max.load(Relaxed),
        }
    }
}
