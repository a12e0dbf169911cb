//! How storage fails, and whose doing it is.

use std::sync::Arc;

use thiserror::Error;

use crate::{key::KeyError, log::Position, value::ValueError};

/// An engine's own trouble, in its own words: the disk, mostly.
#[derive(Debug, Clone, Error)]
#[error("{0}")]
pub struct EngineError(pub Arc<str>);

impl EngineError {
    /// Keeps the words of `error`.
    pub fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string().into())
    }
}

/// Why reading failed. "Not there" is `None` and no error.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// The engine could not read: a failing disk, or a file that changed under us.
    #[error("the store could not be read: {0}")]
    Engine(#[from] EngineError),
    /// A key does not have the type of its table: a damaged row, or a tag used twice.
    #[error("a key in table {table} is damaged: {error}")]
    Key {
        /// The table.
        table: &'static str,
        /// What is wrong.
        error: KeyError,
    },
    /// A value does not have the type of its table: a damaged row, or one written by a newer version.
    #[error("a row in table {table} cannot be used: {error}")]
    Value {
        /// The table.
        table: &'static str,
        /// What is wrong.
        error: ValueError,
    },
    /// The log does not reach back so far any more; the reader has to start over from the data itself.
    #[error("the log was asked for what follows {asked}, and now begins after {oldest}")]
    Trimmed {
        /// What the reader had seen last.
        asked: Position,
        /// The newest position that is gone.
        oldest: Position,
    },
    /// A scan inside a command met more rows than it may.
    #[error("a command scanned more than {0} rows")]
    TooManyRows(usize),
}

/// Why a command was not committed. Nothing of it is stored, now or later.
#[derive(Debug, Clone, Error)]
pub enum CommitError {
    /// The engine refused before writing anything; the disk is full. Reads go on, and later writes may succeed.
    #[error("the store refused to write: {0}")]
    Refused(Arc<str>),
    /// The command itself said no, through [`crate::Txn::refuse`].
    #[error("the command was withdrawn: {0}")]
    Withdrawn(Arc<str>),
    /// The command read something that could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The command panicked: a bug in it, contained to it.
    #[error("the command panicked: {0}")]
    Panicked(Arc<str>),
    /// A key is longer than [`crate::KEY_BYTES_MAX`].
    #[error("a key in table {table} has {bytes} bytes, at most {max} are allowed")]
    KeyTooLong {
        /// The table.
        table: &'static str,
        /// Length of the key.
        bytes: usize,
        /// Longest length.
        max: usize,
    },
    /// The command writes more than [`crate::COMMAND_BYTES_MAX`].
    #[error("a command writes {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// Bytes written up to then.
        bytes: usize,
        /// Most bytes of one command.
        max: usize,
    },
    /// The queue of commands is full. The caller should have waited, see [`crate::Shard::ready`].
    #[error("{waiting} commands are waiting already")]
    Overloaded {
        /// Commands in the queue.
        waiting: usize,
    },
    /// The engine broke; the process is on its way out.
    #[error("the store is broken: {0}")]
    Broken(Arc<str>),
    /// The shard was closed before the command's turn came.
    #[error("the store is closed")]
    Closed,
}

/// Why a shard could not be opened.
#[derive(Debug, Clone, Error)]
pub enum OpenError {
    /// What is there cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The first row could not be written.
    #[error("the store could not be initialised: {0}")]
    Commit(#[from] CommitError),
    /// The writer thread could not be started.
    #[error("the writer thread could not be started: {0}")]
    Thread(Arc<str>),
    /// Written by a newer version.
    #[error(
        "the data has layout {found}, and this version of Koine knows {known}: run the version that wrote it, or a \
         newer one. Nothing was changed"
    )]
    Newer {
        /// The layout found.
        found: u64,
        /// The layout this program knows.
        known: u64,
    },
    /// A restore from an archive did not run to its end.
    #[error("a restore into this store was begun and never finished: remove the data folder and restore again")]
    HalfRestored,
}
