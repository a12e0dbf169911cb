//! What is kept about other servers' keys. Tags 0x60 and up in the index are federation's.

use koine_store::{Space, Table};
use serde::{Deserialize, Serialize};

/// (server, key id) → the key.
pub(crate) const KEY: Table<(String, String), KeyRecord> = Table::new("federation.key", Space::Index, 0x60);
/// server → its newest word about its keys, as it was signed; for those who ask us as a notary.
pub(crate) const WORD: Table<String, WordRecord> = Table::new("federation.key_word", Space::Index, 0x61);

/// A server's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// In base64.
    pub key: String,
    /// The server stands by it until then.
    pub valid_until_ms: u64,
    /// The server stopped using it then.
    pub expired_ms: Option<u64>,
}

/// What a server said of its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordRecord {
    /// The signed object.
    pub json: String,
    /// Until when it holds.
    pub valid_until_ms: u64,
    /// When it was fetched.
    pub fetched_ms: u64,
}

koine_store::stored!(KeyRecord, WordRecord);
