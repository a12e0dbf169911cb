//! What a command does, on the writer's thread.
//!
//! A command sees the committed data and everything that earlier commands of the same group wrote, so that reading,
//! deciding and writing is exact. It shares one thread with every other command of the shard: keep what can be worked
//! out beforehand out of it.
//!
//! Commands fail alone: one that panics, reads something unreadable, writes too much or withdraws leaves nothing in
//! the batch, and the others of its group commit as if it had never come.

use std::{collections::BTreeMap, sync::Arc};

use bytes::{Bytes, BytesMut};

use crate::{
    COMMAND_BYTES_MAX, KEY_BYTES_MAX,
    batch::{Batch, Mark},
    engine::Snapshot,
    error::{CommitError, StoreError},
    key::{AsKey, Key},
    log::{CURSORS, LOG, LogEntry, Position},
    range::{IntoKeyRange, KeyRange},
    table::{DomainId, Table},
    value::Value,
    view::{Direction, decode_row, decode_value},
};

/// Most rows that one [`Txn::scan`] returns.
pub const TXN_SCAN_MAX: usize = 10_000;

/// Called on the writer's thread when the command is durable.
pub(crate) type Hook = Box<dyn FnOnce(Position) + Send>;

/// The hands of a command; see the module's text.
pub struct Txn {
    base: Arc<dyn Snapshot>,
    batch: Batch,
    /// Keys and values of the group stand here, one behind the other.
    arena: BytesMut,
    position: Position,
    oldest: Position,
    hooks: Vec<Hook>,
    /// The first reason not to commit the present command.
    failure: Option<CommitError>,
    mark: Mark,
    entries: u64,
}

/// What a command may return: nothing, or a result that withdraws it when it could not read.
pub trait Outcome {
    /// The reason not to commit.
    fn failure(self) -> Option<StoreError>;
}

impl Outcome for () {
    fn failure(self) -> Option<StoreError> {
        None
    }
}

impl Outcome for Result<(), StoreError> {
    fn failure(self) -> Option<StoreError> {
        self.err()
    }
}

/// A command that will be committed with its group.
pub(crate) struct Built {
    pub(crate) position: Position,
    pub(crate) hooks: Vec<Hook>,
}

/// A group ready to be committed.
pub(crate) struct Group {
    pub(crate) batch: Batch,
    pub(crate) position: Position,
    pub(crate) oldest: Position,
    pub(crate) entries: u64,
}

impl Txn {
    pub(crate) fn new(base: Arc<dyn Snapshot>, position: Position, oldest: Position, arena: BytesMut) -> Self {
        let mut batch = Batch::new();
        let mark = batch.mark();
        Self { base, batch, arena, position, oldest, hooks: Vec::new(), failure: None, mark, entries: 0 }
    }

    /// Lets one command work. On an error nothing of it is left.
    pub(crate) fn run(&mut self, build: impl FnOnce(&mut Self)) -> Result<Built, CommitError> {
        self.mark = self.batch.mark();
        let (position, oldest, entries) = (self.position, self.oldest, self.entries);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| build(self)));
        if let Err(panic) = ran {
            self.failure = Some(CommitError::Panicked(words(panic.as_ref()).into()));
        }
        let hooks = std::mem::take(&mut self.hooks);
        match self.failure.take() {
            None => Ok(Built { position: self.position, hooks }),
            Some(error) => {
                self.batch.rewind(self.mark);
                self.arena.clear();
                (self.position, self.oldest, self.entries) = (position, oldest, entries);
                Err(error)
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.batch.bytes()
    }

    pub(crate) fn finish(self) -> (Group, BytesMut) {
        let Self { batch, arena, position, oldest, entries, .. } = self;
        (Group { batch, position, oldest, entries }, arena)
    }

    /// Puts `value` at `key`.
    pub fn put<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        domain: DomainId,
        key: &(impl AsKey<K> + ?Sized),
        value: &V,
    ) {
        let Some(key) = self.key(table, domain, key) else { return };
        match value.encode(&mut self.arena) {
            Ok(value) => self.batch.put(table.space(), key, value),
            Err(error) => return self.fail(StoreError::Value { table: table.name(), error }),
        }
        let bytes = self.batch.bytes() - self.mark.bytes();
        if bytes > COMMAND_BYTES_MAX {
            self.fail(CommitError::TooLarge { bytes, max: COMMAND_BYTES_MAX });
        }
    }

    /// Deletes what is at `key`, if anything.
    pub fn delete<K: Key, V: Value>(&mut self, table: &Table<K, V>, domain: DomainId, key: &(impl AsKey<K> + ?Sized)) {
        if let Some(key) = self.key(table, domain, key) {
            self.batch.delete(table.space(), key);
        }
    }

    /// The value at `key`, with everything written before this line. A read that fails withdraws the command, whatever
    /// it does with the error.
    pub fn get<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        domain: DomainId,
        key: &(impl AsKey<K> + ?Sized),
    ) -> Result<Option<V>, StoreError> {
        let key = table.lookup(domain, key);
        let found = match self.batch.get(table.space(), &key) {
            Some(written) => Ok(written.cloned()),
            None => self.base.get(table.space(), &key).map_err(StoreError::from),
        };
        let found = found.and_then(|bytes| bytes.map(|bytes| decode_value(table, bytes)).transpose());
        self.noted(found)
    }

    /// The rows of a range, smallest key first, with everything written before this line. For few rows: more than
    /// [`TXN_SCAN_MAX`] withdraw the command.
    pub fn scan<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        domain: DomainId,
        range: impl IntoKeyRange<K>,
    ) -> Result<Vec<(K, V)>, StoreError> {
        let rows = self.raw_scan(table, domain, &range.into_key_range());
        let rows =
            rows.and_then(|rows| rows.into_iter().map(|(key, value)| decode_row(table.name(), &key, value)).collect());
        self.noted(rows)
    }

    /// Deletes the rows of a range and says how many there were. Bounded like [`Txn::scan`].
    pub fn delete_range<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        domain: DomainId,
        range: impl IntoKeyRange<K>,
    ) -> Result<usize, StoreError> {
        let rows = self.raw_scan(table, domain, &range.into_key_range());
        let rows = self.noted(rows)?;
        let count = rows.len();
        for (key, _) in rows {
            self.batch.delete(table.space(), key);
        }
        Ok(count)
    }

    /// Appends to the log; the entry will have the position returned.
    #[expect(clippy::needless_pass_by_value, reason = "an entry is made to be appended")]
    pub fn append(&mut self, entry: LogEntry) -> Position {
        self.position.0 += 1;
        self.entries += 1;
        let position = self.position;
        self.put(&LOG, DomainId::HOUSE, &position, &entry);
        position
    }

    /// Position of the newest entry so far, this command's own included.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Has `hook` called on the writer's thread once the command is durable, before anybody can see it in a view and
    /// before it is acknowledged; in the order of commands. It is given the position that [`crate::Commit`] will
    /// resolve to. Not called if the command fails. Keep it short, and never wait in it for another command.
    pub fn on_durable(&mut self, hook: impl FnOnce(Position) + Send + 'static) {
        self.hooks.push(Box::new(hook));
    }

    /// Withdraws this command: nothing of it is written, and its [`crate::Commit`] resolves to
    /// [`CommitError::Withdrawn`] with this reason.
    pub fn refuse(&mut self, reason: impl Into<Arc<str>>) {
        self.fail(CommitError::Withdrawn(reason.into()));
    }

    /// Says that the durable reader `name` is done with everything up to `position`. Names a new reader if need be.
    pub fn move_cursor(&mut self, name: &str, position: Position) {
        self.put(&CURSORS, DomainId::HOUSE, name, &position.0);
    }

    /// Forgets a durable reader: the log is no longer kept for it.
    pub fn forget_cursor(&mut self, name: &str) {
        self.delete(&CURSORS, DomainId::HOUSE, name);
    }

    /// Deletes the oldest log entries: at most `limit`, none that a durable reader still needs, none of the newest
    /// `keep`. Says how many went.
    pub(crate) fn trim(&mut self, keep: u64, limit: usize) -> Result<usize, StoreError> {
        let cursors = self.scan(&CURSORS, DomainId::HOUSE, ..)?;
        let slowest = cursors.iter().map(|(_, at)| *at).min().unwrap_or(u64::MAX);
        // The newest entry stays in any case: the next position is counted from it.
        let newest_to_go = self.position.0.saturating_sub(keep.max(1)).min(slowest);
        let through = newest_to_go.min(self.oldest.0.saturating_add(limit as u64));
        for position in self.oldest.0 + 1..=through {
            self.delete(&LOG, DomainId::HOUSE, &Position(position));
        }
        let gone = through.saturating_sub(self.oldest.0);
        self.oldest.0 += gone;
        Ok(usize::try_from(gone).unwrap_or(usize::MAX))
    }

    pub(crate) fn fail(&mut self, error: impl Into<CommitError>) {
        self.failure.get_or_insert(error.into());
    }

    fn noted<T>(&mut self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &read {
            self.fail(error.clone());
        }
        read
    }

    fn key<K: Key, V>(
        &mut self,
        table: &Table<K, V>,
        domain: DomainId,
        key: &(impl AsKey<K> + ?Sized),
    ) -> Option<Bytes> {
        let key = table.key(domain, key);
        if key.len() > KEY_BYTES_MAX {
            self.fail(CommitError::KeyTooLong { table: table.name(), bytes: key.len(), max: KEY_BYTES_MAX });
            return None;
        }
        self.arena.extend_from_slice(&key);
        Some(self.arena.split().freeze())
    }

    fn raw_scan<K: Key, V>(
        &self,
        table: &Table<K, V>,
        domain: DomainId,
        range: &KeyRange<K>,
    ) -> Result<BTreeMap<Bytes, Bytes>, StoreError> {
        let range = range.bytes(table, domain);
        let mut rows = BTreeMap::new();
        for row in self.base.scan(table.space(), range.clone(), Direction::Forward) {
            let (key, value) = row?;
            // One more may be gone from the batch's point of view; the bound is checked against what is read.
            if rows.len() >= TXN_SCAN_MAX {
                return Err(StoreError::TooManyRows(TXN_SCAN_MAX));
            }
            rows.insert(key, value);
        }
        for op in self.batch.within(table.space(), &range) {
            match &op.value {
                Some(value) => rows.insert(op.key.clone(), value.clone()),
                None => rows.remove(&op.key),
            };
        }
        Ok(rows)
    }
}

/// What a panic said.
pub(crate) fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(words), _) => words,
        (None, Some(words)) => words,
        (None, None) => "it gave no reason",
    }
}
