//! A shard: one engine, the one thread that writes to it, and the log.
//!
//! Commands queue up; the writer takes all that wait (up to a bound), lets each work on one batch, commits the batch
//! with one sync, runs the callbacks, publishes the new view, and only then acknowledges. A command on an idle shard
//! goes straight to the disk: no timer waits for company. Under load company gathers by itself while a sync runs.
//!
//! Back-pressure: [`Shard::submit`] never blocks. Who can wait should wait in [`Shard::ready`] before beginning a
//! command; it holds while more than [`ShardConfig::queue_high`] commands are queued. A queue of
//! [`ShardConfig::queue_max`] refuses, with [`CommitError::Overloaded`].

mod commit;
mod queue;
mod watchdog;
mod writer;

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

pub use self::commit::Commit;
use self::{
    queue::{Command, Queue},
    watchdog::Watchdog,
};
use crate::{
    engine::Engine,
    error::{CommitError, EngineError, OpenError, StoreError},
    key::{AsKey, Key},
    log::{FACTS, IDENTITY, LAYOUT, LAYOUT_KNOWN, LOG, LogEntry, Position, RESTORING},
    metrics::{Counters, Meter},
    table::{DomainId, Table},
    txn::{Outcome, Txn},
    value::Value,
    view::{Direction, View},
};

/// Log entries that one command of [`Shard::trim_log`] deletes, so that others get their turn.
const TRIM_STEP: usize = 1_000;

/// How a shard works. The default is right for a server.
#[derive(Clone)]
pub struct ShardConfig {
    /// Most commands in one group.
    pub group_commands: usize,
    /// A group of so many bytes takes no further command.
    pub group_bytes: usize,
    /// [`Shard::ready`] waits while more commands are queued.
    pub queue_high: usize,
    /// More commands than this are refused.
    pub queue_max: usize,
    /// A commit that takes longer counts as broken: the engine hangs, and every caller with it.
    pub stall: Duration,
    /// Called with one sentence when the engine broke: what is on disk is unknown, and only reopening tells. Must end
    /// the process; if it returns, every later command fails and reads go on.
    pub fatal: Arc<dyn Fn(&str) + Send + Sync>,
    /// No threads: a command is committed by whoever submits it, before [`Shard::submit`] returns. For simulations,
    /// which need one order of everything; a server would stand still at each sync.
    pub works_in_caller: bool,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            group_commands: 1_024,
            group_bytes: 4 * 1024 * 1024,
            queue_high: 4_096,
            queue_max: 65_536,
            stall: Duration::from_secs(120),
            fatal: Arc::new(last_word),
            works_in_caller: false,
        }
    }
}

impl std::fmt::Debug for ShardConfig {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ShardConfig").finish_non_exhaustive()
    }
}

/// The default for [`ShardConfig::fatal`].
fn last_word(reason: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!(reason, "stopping at once: the store is broken, and going on could lose what was promised");
    } else {
        eprintln!("koine: stopping at once, the store is broken: {reason}");
    }
    std::process::abort();
}

/// The handle; cloning it is cheap. When the last one goes, what is queued is still committed and the writer ends.
#[derive(Clone)]
pub struct Shard(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    identity: [u8; 8],
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Ends when this goes.
    _watchdog: Option<Watchdog>,
}

/// What the handles and the writer's thread have in common.
struct Shared {
    engine: Arc<dyn Engine>,
    config: ShardConfig,
    queue: Queue,
    /// The newest durable view whose callbacks have run.
    view: RwLock<View>,
    grown: watch::Sender<Position>,
    meter: Meter,
    /// Since when the engine has been at the present commit.
    committing: Mutex<Option<Instant>>,
    /// Held by whoever commits for all, where there is no thread of the writer's own.
    working: Mutex<()>,
}

impl Shard {
    /// Opens the shard that `engine` holds, or begins a new one.
    pub fn open(engine: Arc<dyn Engine>) -> Result<Self, OpenError> {
        Self::open_with(engine, ShardConfig::default())
    }

    /// Opens with other settings.
    pub fn open_with(engine: Arc<dyn Engine>, config: ShardConfig) -> Result<Self, OpenError> {
        let view = newest_view(engine.as_ref())?;
        let begun = begun(&view)?;
        let shared = Arc::new(Shared {
            grown: watch::Sender::new(view.position()),
            queue: Queue::new(config.queue_high, config.queue_max),
            view: RwLock::new(view),
            meter: Meter::default(),
            committing: Mutex::default(),
            working: Mutex::default(),
            engine,
            config,
        });
        let identity = begun.unwrap_or_else(rand::random);
        let (writer, watchdog) = match shared.config.works_in_caller {
            true => (None, None),
            false => {
                let failed = |error: std::io::Error| OpenError::Thread(error.to_string().into());
                let thread = std::thread::Builder::new().name("koine-writer".to_owned());
                let writer = thread.spawn({
                    let shared = shared.clone();
                    move || writer::run(&shared)
                });
                (Some(writer.map_err(failed)?), Some(Watchdog::start(&shared).map_err(failed)?))
            }
        };
        let shard = Self(Arc::new(Inner { shared, identity, writer: Mutex::new(writer), _watchdog: watchdog }));
        if begun.is_none() {
            let first = shard.submit(move |txn| {
                let layout = Bytes::copy_from_slice(&LAYOUT_KNOWN.to_be_bytes());
                txn.put(&FACTS, DomainId::HOUSE, LAYOUT, &layout);
                txn.put(&FACTS, DomainId::HOUSE, IDENTITY, &Bytes::copy_from_slice(&identity));
            });
            first.wait()?;
        }
        Ok(shard)
    }

    /// Queues a command. It runs on the writer's thread, in the order of these calls, and commits in that order.
    /// Never blocks, and needs no runtime. The command goes ahead whether or not the [`Commit`] is kept.
    pub fn submit<R: Outcome>(&self, build: impl FnOnce(&mut Txn) -> R + Send + 'static) -> Commit {
        let build = Box::new(move |txn: &mut Txn| {
            if let Some(error) = build(txn).failure() {
                txn.fail(error);
            }
        });
        let (reply, commit) = Commit::pair();
        match self.0.shared.queue.push(Command { build, reply }) {
            Ok(()) => {
                if self.0.shared.config.works_in_caller {
                    writer::work_here(&self.0.shared);
                }
                commit
            }
            Err(error) => Commit::failed(error),
        }
    }

    /// Resolves when the queue is short. For callers that can wait before they begin a command.
    pub async fn ready(&self) {
        self.0.shared.queue.ready().await;
    }

    /// The newest durable position; 0 before the first entry. The callbacks of everything up to it have run.
    pub fn position(&self) -> Position {
        self.0.shared.view.read().position()
    }

    /// Tells of every growth of the log. A receiver sees the newest position, perhaps skipping some.
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.0.shared.grown.subscribe()
    }

    /// Everything durable, at one moment. Costs two atomic operations.
    pub fn view(&self) -> View {
        self.0.shared.view.read().clone()
    }

    /// The newest durable value at `key`.
    pub fn get<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        domain: DomainId,
        key: &(impl AsKey<K> + ?Sized),
    ) -> Result<Option<V>, StoreError> {
        self.view().get(table, domain, key)
    }

    /// The newest durable values at `keys`, of one moment, in the same order.
    pub fn get_many<K: Key, V: Value, Q: AsKey<K>>(
        &self,
        table: &Table<K, V>,
        domain: DomainId,
        keys: impl IntoIterator<Item = Q>,
    ) -> Result<Vec<Option<V>>, StoreError> {
        self.view().get_many(table, domain, keys)
    }

    /// The durable entries that follow `position`, oldest first, at most `limit`.
    pub fn log_after(&self, position: Position, limit: usize) -> Result<Vec<(Position, LogEntry)>, StoreError> {
        self.view().log_after(position, limit)
    }

    /// Deletes log entries that no durable reader needs any more, except the newest `keep`, and says how many. Blocks
    /// until that is durable; works in small steps, so that other commands pass in between.
    pub fn trim_log(&self, keep: u64) -> Result<u64, CommitError> {
        let before = self.view().trimmed();
        loop {
            let (tell, told) = std::sync::mpsc::channel();
            let step = self.submit(move |txn| {
                // Nobody listens any more only if the caller's thread is gone.
                let _ = tell.send(txn.trim(keep, TRIM_STEP)?);
                Ok(())
            });
            step.wait()?;
            if told.recv().unwrap_or(0) < TRIM_STEP {
                return Ok(self.view().trimmed().0 - before.0);
            }
        }
    }

    /// The random id of this data, made on first open. Tokens that hold a position carry it, so that a token from
    /// another data folder, or from before a restore, is told from ours.
    pub fn identity(&self) -> [u8; 8] {
        self.0.identity
    }

    /// The writer's counters.
    pub fn counters(&self) -> Counters {
        let committing = self.0.shared.committing.lock().map_or(Duration::ZERO, |since| since.elapsed());
        self.0.shared.meter.read(self.0.shared.queue.len() as u64, committing)
    }

    /// The engine underneath.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.0.shared.engine
    }

    /// Takes no more commands, commits what is queued, and ends the writer. Reads go on. Blocks.
    pub fn close(&self) {
        self.0.close();
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shard").field("position", &self.position()).finish_non_exhaustive()
    }
}

impl Inner {
    fn close(&self) {
        self.shared.queue.close(CommitError::Closed);
        let Some(writer) = self.writer.lock().take() else { return };
        // A callback may hold the last handle; the writer cannot wait for itself, and ends by itself.
        if writer.thread().id() != std::thread::current().id() && writer.join().is_err() {
            tracing::error!("the writer of the store panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// The engine cannot be written to any more: has the process ended, and fails what is queued and what comes.
    fn give_up(&self, reason: Arc<str>) -> CommitError {
        (self.config.fatal)(&reason);
        // Still here: the process is ending in an orderly way, or this is a test.
        let error = CommitError::Broken(reason);
        self.queue.close(error.clone());
        while let Some(command) = self.queue.try_next() {
            writer::fail(self, command.reply, error.clone());
        }
        error
    }
}

/// What the engine holds, with the positions at both ends of the log.
fn newest_view(engine: &dyn Engine) -> Result<View, StoreError> {
    let view = View::new(engine.snapshot().into(), Position(0), Position(0));
    let end = |direction| {
        let row = view.scan(&LOG, DomainId::HOUSE, .., direction).next().transpose()?;
        Ok::<_, StoreError>(row.map(|(position, _)| position))
    };
    let newest = end(Direction::Backward)?.unwrap_or_default();
    let oldest = end(Direction::Forward)?.map_or(0, |first| first.0.saturating_sub(1));
    Ok(View::new(view.snapshot().clone(), newest, Position(oldest)))
}

/// The identity of a shard that was begun before, after checking that it can be used.
fn begun(view: &View) -> Result<Option<[u8; 8]>, OpenError> {
    if view.contains(&FACTS, DomainId::HOUSE, RESTORING)? {
        return Err(OpenError::HalfRestored);
    }
    let Some(layout) = view.get(&FACTS, DomainId::HOUSE, LAYOUT)? else { return Ok(None) };
    let layout = u64::from_be_bytes(fixed(&layout)?);
    if layout > LAYOUT_KNOWN {
        return Err(OpenError::Newer { found: layout, known: LAYOUT_KNOWN });
    }
    let identity = view.get(&FACTS, DomainId::HOUSE, IDENTITY)?.unwrap_or_default();
    Ok(Some(fixed(&identity)?))
}

fn fixed(bytes: &[u8]) -> Result<[u8; 8], StoreError> {
    let fixed = bytes.try_into();
    fixed.map_err(|_| StoreError::Engine(EngineError::new("what the shard knows about itself is damaged")))
}
