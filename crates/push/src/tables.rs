//! What is kept about pushers. Nobody else reads or writes these tables.

use koine_store::{Space, Table, TableInfo, stored};
use serde::{Deserialize, Serialize};

/// By local part, application and push key.
pub(crate) const PUSHER: Table<PusherKey, PusherRecord> = Table::new("push.pusher", Space::Accounts, 0x70);

/// The same the other way round, for an application that moves to another account: application, push key, local part.
pub(crate) const PUSHER_AT: Table<PusherKey, ()> = Table::new("push.pusher_at", Space::Accounts, 0x71);

/// Pushers that were not told everything when our place was written down, with the oldest position they lack.
pub(crate) const BEHIND: Table<PusherKey, u64> = Table::new("push.behind", Space::Ephemeral, 0x72);

/// Our place in the log.
pub(crate) const CURSOR: &str = "push";

/// All of them, for the test that no two tables of the server share rows.
pub const ALL: &[TableInfo] = &[PUSHER.info(), PUSHER_AT.info(), BEHIND.info()];

pub(crate) type PusherKey = (String, String, String);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PusherRecord {
    pub(crate) app_display_name: String,
    pub(crate) device_display_name: String,
    pub(crate) profile_tag: Option<String>,
    pub(crate) lang: String,
    /// JSON.
    pub(crate) data: String,
    /// The device that it was set from: it goes with it.
    pub(crate) device_id: String,
    pub(crate) created_ms: u64,
}

stored!(PusherRecord);
