//! The tables of keys.
//!
//! Invariants: a row under a device exists only while the device does. The rows of [`ONE_TIME`] of one algorithm that
//! are waiting to be claimed have the numbers `first..next` of [`DEVICE_STATE`], without gaps; those just below `first`
//! are remembered as given out. Every row of [`CHANGED`] has exactly one row in [`CHANGED_AT`], at its position.
//! [`DEVICE_STATE`] knows how many messages and bytes of [`TO_DEVICE`] wait for the device.

use koine_store::{Space, Table, bytes::Bytes, stored};
use serde::{Deserialize, Serialize};

/// (local part, device id) → device keys, as canonical JSON.
pub(crate) const DEVICE_KEYS: Table<(String, String), String> = Table::new("keys.device", Space::Accounts, 0x50);
/// (local part, device id) → what changes often about the device's encryption, in one row because every sync reads it.
pub(crate) const DEVICE_STATE: Table<(String, String), DeviceStateRecord> =
    Table::new("keys.device_state", Space::Accounts, 0x51);
/// (local part, device id, algorithm, number) → one-time key. Numbers are in the order of uploading.
pub(crate) const ONE_TIME: Table<(String, String, String, u64), OneTimeRecord> =
    Table::new("keys.one_time", Space::Accounts, 0x52);
/// (local part, device id, algorithm, key id) → number of a one-time key.
pub(crate) const ONE_TIME_NO: Table<(String, String, String, String), u64> =
    Table::new("keys.one_time_no", Space::Accounts, 0x53);
/// (local part, device id, algorithm) → fallback key.
pub(crate) const FALLBACK: Table<(String, String, String), OneTimeRecord> =
    Table::new("keys.fallback", Space::Accounts, 0x54);
/// (local part, usage) → cross-signing key, as canonical JSON.
pub(crate) const CROSS_SIGNING: Table<(String, String), String> =
    Table::new("keys.cross_signing", Space::Accounts, 0x55);
/// (signed user, device id or public key, signing user, id of the signing key) → signature.
pub(crate) const SIGNATURE: Table<(String, String, String, String), String> =
    Table::new("keys.signature", Space::Accounts, 0x56);
/// (local part of whom alone it concerns or "", user) → position where the user's keys changed last.
pub(crate) const CHANGED: Table<(String, String), u64> = Table::new("keys.changed", Space::Accounts, 0x57);
/// (as before, position) → user.
pub(crate) const CHANGED_AT: Table<(String, u64), String> = Table::new("keys.changed_at", Space::Accounts, 0x58);
/// (local part, version) → backup.
pub(crate) const BACKUP: Table<(String, u64), BackupRecord> = Table::new("keys.backup", Space::Accounts, 0x59);
/// (local part, version, room id, session id) → room key.
pub(crate) const BACKUP_KEY: Table<(String, u64, String, String), BackupKeyRecord> =
    Table::new("keys.backup_key", Space::Accounts, 0x5a);
/// local part → newest version ever made: none is used twice.
pub(crate) const BACKUP_NEWEST: Table<String, u64> = Table::new("keys.backup_newest", Space::Accounts, 0x5b);
/// (local part, device id, position) → message to a device, as JSON.
pub(crate) const TO_DEVICE: Table<(String, String, u64), Bytes> = Table::new("keys.to_device", Space::Accounts, 0x5c);
/// (local part, device id) → who fills the postbox of a device for which much waits. No row: nothing was counted.
pub(crate) const TO_DEVICE_CROWD: Table<(String, String), CrowdRecord> =
    Table::new("keys.to_device_crowd", Space::Accounts, 0xb8);
/// (local part, device id) → transactions that the device sent lately.
pub(crate) const TO_DEVICE_TXN: Table<(String, String), TransactionsRecord> =
    Table::new("keys.to_device_txn", Space::Accounts, 0x5d);

/// local part → the newest change of the user's devices, as other servers follow them.
pub(crate) const DEVICE_STREAM: Table<String, DeviceStreamRecord> =
    Table::new("keys.device_stream", Space::Accounts, 0xb0);
/// user of another server → what is remembered of their keys.
pub(crate) const REMOTE_USER: Table<String, RemoteUserRecord> = Table::new("keys.remote_user", Space::Accounts, 0xb1);
/// (user of another server, device id) → device keys. Rows exist only beside one of [`REMOTE_USER`].
pub(crate) const REMOTE_DEVICE: Table<(String, String), RemoteDeviceRecord> =
    Table::new("keys.remote_device", Space::Accounts, 0xb2);
/// (server, position) → messages to devices of that server, on their way out.
pub(crate) const OUTGOING: Table<(String, u64), Bytes> = Table::new("keys.outgoing", Space::Accounts, 0xb3);
/// server → how much of [`OUTGOING`] is for it. No row: nothing.
pub(crate) const OUTGOING_STATE: Table<String, OutgoingRecord> =
    Table::new("keys.outgoing_state", Space::Accounts, 0xb4);
/// (server, message id) → number of the messages that came with it.
pub(crate) const RECEIVED: Table<(String, String), u64> = Table::new("keys.received", Space::Accounts, 0xb5);
/// (server, number) → message id: the other way round. The numbers are without gaps.
pub(crate) const RECEIVED_NO: Table<(String, u64), String> = Table::new("keys.received_no", Space::Accounts, 0xb6);
/// server → the number that its next messages will have.
pub(crate) const RECEIVED_STATE: Table<String, u64> = Table::new("keys.received_state", Space::Accounts, 0xb7);

/// What changes often about a device's encryption.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct DeviceStateRecord {
    pub(crate) algorithms: Vec<AlgorithmRecord>,
    /// Messages waiting.
    pub(crate) messages: u64,
    /// Bytes of them.
    pub(crate) bytes: u64,
}

/// Who sends to a device for which much waits.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CrowdRecord {
    pub(crate) senders: Vec<CrowdSenderRecord>,
}

/// What one of them sent since it is counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CrowdSenderRecord {
    /// A user of this server, or another server.
    pub(crate) sender: String,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// One-time and fallback keys of one algorithm.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct AlgorithmRecord {
    pub(crate) name: String,
    /// Number of the next key to be given out.
    pub(crate) first: u64,
    /// Number of the next key to be uploaded.
    pub(crate) next: u64,
    /// There is a fallback key.
    pub(crate) has_fallback: bool,
    /// It was given out.
    pub(crate) is_fallback_used: bool,
}

/// A one-time key, or a fallback key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OneTimeRecord {
    /// The part behind the algorithm.
    pub(crate) id: String,
    /// Canonical JSON.
    pub(crate) key: String,
}

/// A backup of room keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BackupRecord {
    pub(crate) algorithm: String,
    /// A JSON object.
    pub(crate) auth_data: String,
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    /// Grows with every change of the keys.
    pub(crate) etag: u64,
}

/// A room key in a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BackupKeyRecord {
    pub(crate) first_message_index: u64,
    pub(crate) forwarded_count: u64,
    pub(crate) is_verified: bool,
    /// A JSON object.
    pub(crate) session_data: String,
}

/// The newest change of a user's devices.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DeviceStreamRecord {
    /// Where in the log it stands.
    pub(crate) newest: u64,
    /// Where the one before it stands.
    pub(crate) previous: Option<u64>,
    pub(crate) device_id: String,
}

/// What is remembered of the keys of a user of another server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RemoteUserRecord {
    /// The newest change of the user's devices that is part of this, as their server counts them.
    pub(crate) stream: Option<u64>,
    /// The place in the log at which their server was asked.
    pub(crate) asked: u64,
    /// Something changed since, and it is not known what.
    pub(crate) is_stale: bool,
    /// Canonical JSON.
    pub(crate) master: Option<String>,
    /// Canonical JSON.
    pub(crate) self_signing: Option<String>,
}

/// A device of a user of another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemoteDeviceRecord {
    /// Canonical JSON.
    pub(crate) keys: String,
    pub(crate) name: Option<String>,
}

/// Messages on their way to a server.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct OutgoingRecord {
    pub(crate) units: u64,
    pub(crate) bytes: u64,
}

/// Hashes of transactions, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct TransactionsRecord {
    pub(crate) hashes: std::collections::VecDeque<[u8; 16]>,
}

stored!(
    DeviceStateRecord,
    CrowdRecord,
    OneTimeRecord,
    BackupRecord,
    BackupKeyRecord,
    TransactionsRecord,
    DeviceStreamRecord,
    RemoteUserRecord,
    RemoteDeviceRecord,
    OutgoingRecord,
);
