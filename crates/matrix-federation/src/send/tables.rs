//! What is kept about sending.

use koine_store::{Space, Table};
use serde::{Deserialize, Serialize};

/// server → the place in the log behind which not all was told to it. No row: it knows everything.
pub(crate) const BEHIND: Table<String, u64> = Table::new("federation.behind", Space::Index, 0x62);
/// event id → who tells other servers of this membership event, where it is not its sender's server. 0x63 was its
/// predecessor. Trimmed, see `teller.rs`.
pub(crate) const TELLER: Table<String, TellerRecord> = Table::new("federation.teller", Space::Index, 0x64);
/// The name of our place in the log.
pub(crate) const CURSOR: &str = "federation";

/// Who tells other servers of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TellerRecord {
    /// We do, although it is not of ours; else another server does, although it is.
    pub ours: bool,
    /// The place in the log when this was written: the event comes after it.
    pub position: u64,
    /// When it was written, in milliseconds since the epoch.
    pub written_ms: u64,
}

koine_store::stored!(TellerRecord);
