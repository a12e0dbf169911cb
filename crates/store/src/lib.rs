//! The storage contract and what every core crate keeps its facts with.
//!
//! * [`Engine`] and [`Snapshot`]: ordered byte keys, snapshots for reads, one atomic durable [`Batch`] for writes. An
//!   engine is a crate of its own; [`MemoryEngine`] is here for tests, and [`suite`] is what every engine has to pass.
//! * [`Table`]: typed rows over those bytes. A table is a key type, a value type, a name, a [`Space`] and a tag; every
//!   key begins with the [`DomainId`] it belongs to, so that a tenant is a few contiguous ranges.
//! * [`Shard`]: one engine, the one thread that writes to it (group commit: all waiting commands, one batch, one sync)
//!   and the log, an ordered record of what happened.
//!
//! Invariants: a command is acknowledged after its batch is durable and never before; commands commit in the order
//! they were submitted; log positions have no gaps; a [`View`] never shows half a command, and shows a command only
//! after its [`Txn::on_durable`] callbacks ran. The layout on disk is told in `docs/design/0001-storage-layout.md`.
//!
//! This crate knows nothing of rooms, accounts or protocols, nor which engine runs; it opens no files.
//!
//! ```
//! use std::sync::Arc;
//! use koine_store::{Direction, DomainId, MemoryEngine, Shard, Space, Table};
//!
//! const NICKNAMES: Table<(String, u64), String> = Table::new("nicknames", Space::Accounts, 0x7f);
//!
//! let shard = Shard::open(Arc::new(MemoryEngine::new()))?;
//! let domain = DomainId(1);
//! shard.submit(move |txn| txn.put(&NICKNAMES, domain, &("anna", 1), &"Annie".to_owned())).wait()?;
//! assert_eq!(shard.get(&NICKNAMES, domain, &("anna", 1))?.as_deref(), Some("Annie"));
//! let rows = shard.view().prefix(&NICKNAMES, domain, &("anna",), Direction::Forward).count();
//! assert_eq!(rows, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
mod batch;
mod engine;
mod error;
mod key;
mod log;
mod memory;
mod metrics;
mod range;
mod shard;
pub mod suite;
mod table;
mod txn;
mod value;
mod view;

pub use self::{
    archive::{ArchiveError, Summary, export, import, verify},
    batch::{Batch, Op},
    engine::{ByteRange, CommitFailure, Engine, Rows, Snapshot},
    error::{CommitError, EngineError, OpenError, StoreError},
    key::{AsKey, Begins, Key, KeyError, PrefixOf},
    log::{LogEntry, Position},
    memory::MemoryEngine,
    metrics::Counters,
    range::{IntoKeyRange, KeyRange},
    shard::{Commit, Shard, ShardConfig},
    table::{DomainId, Space, Table, TableInfo, first_clash},
    txn::{Outcome, TXN_SCAN_MAX, Txn},
    value::{Value, ValueError, decode_stored, encode_stored},
    view::{Direction, Scan, View},
};
pub use bytes;

/// Longest key, in bytes, with domain and tag. Engines may assume it.
pub const KEY_BYTES_MAX: usize = 8 * 1024;

/// Most bytes (keys and values) that one command may write; a bigger one is refused.
pub const COMMAND_BYTES_MAX: usize = 16 * 1024 * 1024;
