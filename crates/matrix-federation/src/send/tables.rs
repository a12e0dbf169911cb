//! What is kept about sending.

use koine_store::{Space, Table};

/// server → the place in the log behind which not all was told to it. No row: it knows everything.
pub(crate) const BEHIND: Table<String, u64> = Table::new("federation.behind", Space::Index, 0x62);
/// event id → nothing: an event of another server that is ours to tell the others of.
pub(crate) const RELAY: Table<String, ()> = Table::new("federation.relay", Space::Index, 0x63);
/// The name of our place in the log.
pub(crate) const CURSOR: &str = "federation";
