//! What an engine does: keep ordered bytes. This is the whole contract; [`crate::suite`] is its test.
//!
//! To add one: a crate `store-<name>` implements [`Engine`] and [`Snapshot`], runs every check of the suite against
//! itself, and gets one line in the server. Engines see keys of at most [`crate::KEY_BYTES_MAX`] bytes, never an empty
//! one, each at most once in a batch, and one commit at a time (the shard's writer); snapshots come from any thread.

use bytes::Bytes;

use crate::{batch::Batch, error::EngineError, table::Space, view::Direction};

/// Bytes from `start` up to, and without, `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByteRange {
    /// The first key that belongs to it.
    pub start: Vec<u8>,
    /// The first key behind it; `None` goes to the end.
    pub end: Option<Vec<u8>>,
}

impl ByteRange {
    /// Everything.
    pub fn all() -> Self {
        Self { start: Vec::new(), end: None }
    }

    /// Can hold no key. Engines answer such a range with no rows.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// Holds `key`.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_slice() && self.end.as_ref().is_none_or(|end| key < end.as_slice())
    }
}

/// Rows of a scan, key and value. Owns what it reads from, so it may outlive the snapshot.
pub type Rows = Box<dyn Iterator<Item = Result<(Bytes, Bytes), EngineError>> + Send>;

/// The data as it was at one moment. Holding one for long keeps old versions of rows alive.
pub trait Snapshot: Send + Sync + 'static {
    /// The value at `key`.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The values at `keys`, in the same order.
    fn multi_get(&self, space: Space, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, EngineError> {
        keys.iter().map(|key| self.get(space, key)).collect()
    }

    /// The rows of `range`, smallest key first or last. Reads as it goes.
    fn scan(&self, space: Space, range: ByteRange, direction: Direction) -> Rows;
}

/// Why a batch was not committed.
#[derive(Debug)]
pub enum CommitFailure {
    /// Not begun: nothing of the batch is or will ever be visible, and the engine goes on. A full disk, noticed early.
    Refused(String),
    /// Nobody knows what is on disk. The engine must not be written to again before it is reopened.
    Broken(EngineError),
}

/// Keeps ordered bytes in [`Space`]s.
pub trait Engine: Send + Sync + 'static {
    /// What it is, for logs.
    fn name(&self) -> &'static str;

    /// The newest committed data. Cheap: taken after every commit.
    fn snapshot(&self) -> Box<dyn Snapshot>;

    /// The newest committed value at `key`.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.snapshot().get(space, key)
    }

    /// The newest committed values at `keys`, of one moment.
    fn multi_get(&self, space: Space, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, EngineError> {
        self.snapshot().multi_get(space, keys)
    }

    /// Makes the whole batch durable and visible, or nothing of it.
    fn commit(&self, batch: Batch) -> Result<(), CommitFailure>;

    /// Bytes on disk, if it has one.
    fn disk_bytes(&self) -> Option<u64> {
        None
    }
}
