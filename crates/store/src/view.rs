//! Reading: a consistent view of everything, and scans over it.

use std::{iter::FusedIterator, marker::PhantomData, sync::Arc};

use bytes::Bytes;

use crate::{
    engine::{Rows, Snapshot},
    error::StoreError,
    key::{AsKey, Key, PrefixOf, decode_all},
    log::{CURSORS, LOG, LogEntry, Position},
    range::{IntoKeyRange, KeyRange},
    table::{DomainId, KEY_HEAD, Table},
    value::Value,
};

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Forward,
    /// Greatest key first.
    Backward,
}

/// The data as it was right after one commit. Cheap to take and to clone; keep it for a request, not for hours.
#[derive(Clone)]
pub struct View {
    snapshot: Arc<dyn Snapshot>,
    position: Position,
    oldest: Position,
}

impl View {
    pub(crate) fn new(snapshot: Arc<dyn Snapshot>, position: Position, oldest: Position) -> Self {
        Self { snapshot, position, oldest }
    }

    pub(crate) fn snapshot(&self) -> &Arc<dyn Snapshot> {
        &self.snapshot
    }

    /// Position of the newest log entry in this view: what the view shows is the sum of the log exactly up to here.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The newest position that was trimmed away; 0 if the log is whole.
    pub fn trimmed(&self) -> Position {
        self.oldest
    }

    /// The value at `key`.
    pub fn get<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        domain: DomainId,
        key: &(impl AsKey<K> + ?Sized),
    ) -> Result<Option<V>, StoreError> {
        let found = self.snapshot.get(table.space(), &table.lookup(domain, key))?;
        found.map(|bytes| decode_value(table, bytes)).transpose()
    }

    /// Something stands at `key`.
    pub fn contains<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        domain: DomainId,
        key: &(impl AsKey<K> + ?Sized),
    ) -> Result<bool, StoreError> {
        Ok(self.snapshot.get(table.space(), &table.lookup(domain, key))?.is_some())
    }

    /// The values at `keys`, in the same order.
    pub fn get_many<K: Key, V: Value, Q: AsKey<K>>(
        &self,
        table: &Table<K, V>,
        domain: DomainId,
        keys: impl IntoIterator<Item = Q>,
    ) -> Result<Vec<Option<V>>, StoreError> {
        let keys: Vec<_> = keys.into_iter().map(|key| table.lookup(domain, &key)).collect();
        let found = self.snapshot.multi_get(table.space(), &keys)?;
        found.into_iter().map(|bytes| bytes.map(|bytes| decode_value(table, bytes)).transpose()).collect()
    }

    /// The rows of a range: `..`, `from..`, `from..to`, `from..=to` of keys or their leading parts, or a [`KeyRange`].
    pub fn scan<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        domain: DomainId,
        range: impl IntoKeyRange<K>,
        direction: Direction,
    ) -> Scan<K, V> {
        let range = range.into_key_range().bytes(table, domain);
        let rows = self.snapshot.scan(table.space(), range, direction);
        Scan { rows: Some(rows), table: table.name(), types: PhantomData }
    }

    /// The rows whose keys begin with `parts`.
    pub fn prefix<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        domain: DomainId,
        parts: &(impl PrefixOf<K> + ?Sized),
        direction: Direction,
    ) -> Scan<K, V> {
        self.scan(table, domain, KeyRange::prefix(parts), direction)
    }

    /// The entries that follow `position`, oldest first, at most `limit`.
    pub fn log_after(&self, position: Position, limit: usize) -> Result<Vec<(Position, LogEntry)>, StoreError> {
        if position < self.oldest {
            return Err(StoreError::Trimmed { asked: position, oldest: self.oldest });
        }
        if position >= self.position || limit == 0 {
            return Ok(Vec::new());
        }
        let range = KeyRange::all().after(&position).through(&self.position);
        self.scan(&LOG, DomainId::HOUSE, range, Direction::Forward).take(limit).collect()
    }

    /// How far the durable reader `name` has come; `None` if there is none of that name.
    pub fn cursor(&self, name: &str) -> Result<Option<Position>, StoreError> {
        Ok(self.get(&CURSORS, DomainId::HOUSE, name)?.map(Position))
    }

    /// All durable readers.
    pub fn cursors(&self) -> Result<Vec<(String, Position)>, StoreError> {
        let rows = self.scan(&CURSORS, DomainId::HOUSE, .., Direction::Forward);
        rows.map(|row| row.map(|(name, at)| (name, Position(at)))).collect()
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("View").field("position", &self.position).finish_non_exhaustive()
    }
}

/// Rows of one table, read as they are asked for. Ends after the first error.
pub struct Scan<K, V> {
    /// `None` once an error was given out.
    rows: Option<Rows>,
    table: &'static str,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Value> Iterator for Scan<K, V> {
    type Item = Result<(K, V), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.as_mut()?.next()?.map_err(StoreError::from);
        let row = row.and_then(|(key, value)| decode_row(self.table, &key, value));
        if row.is_err() {
            self.rows = None;
        }
        Some(row)
    }
}

impl<K: Key, V: Value> FusedIterator for Scan<K, V> {}

pub(crate) fn decode_value<K, V: Value>(table: &Table<K, V>, bytes: Bytes) -> Result<V, StoreError> {
    V::decode(bytes).map_err(|error| StoreError::Value { table: table.name(), error })
}

pub(crate) fn decode_row<K: Key, V: Value>(
    table: &'static str,
    key: &[u8],
    value: Bytes,
) -> Result<(K, V), StoreError> {
    let key = decode_all(key.get(KEY_HEAD..).unwrap_or_default()).map_err(|error| StoreError::Key { table, error })?;
    let value = V::decode(value).map_err(|error| StoreError::Value { table, error })?;
    Ok((key, value))
}
