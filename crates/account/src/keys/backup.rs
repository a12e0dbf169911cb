//! Backups of room keys: versions of them, and in each the keys, encrypted with a key that the server has not.
//!
//! [CS-API §server-side-key-backups]. Keys go into the newest version only; what is kept of two copies of one key is
//! the specification's to say.

use std::collections::BTreeMap;

use koine_store::{Direction, DomainId, KeyRange, StoreError, Txn};
use ruma_common::UserId;

use super::tables::{BACKUP, BACKUP_KEY, BACKUP_NEWEST, BackupKeyRecord, BackupRecord};
use crate::{Accounts, StoreUnavailable};

/// How many versions a user may have at a time.
pub const BACKUP_VERSIONS_MAX: usize = 50;
/// How many keys a version may hold.
pub const BACKUP_KEYS_MAX: u64 = 500_000;
/// How many bytes of session data and ids a version may hold.
pub const BACKUP_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How large the data of one session may be.
pub const SESSION_DATA_BYTES_MAX: usize = 16 * 1024;
/// How large the algorithm and the data for authentication may be together.
const AUTH_DATA_BYTES_MAX: usize = 64 * 1024;
/// How long the ids of rooms and sessions may be.
const ID_BYTES_MAX: usize = 512;
/// How many keys are deleted in one command, so that others get their turn.
const DELETED_AT_ONCE: usize = 1_000;

/// A version of the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its number, which clients call it by.
    pub version: u64,
    /// How its keys are encrypted.
    pub algorithm: String,
    /// What belongs to the algorithm: a JSON object.
    pub auth_data: String,
    /// What its keys come to.
    pub state: BackupState,
}

/// What the keys of a backup come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupState {
    /// How many there are.
    pub count: u64,
    /// Differs after every change.
    pub etag: u64,
}

/// A room key, encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUpKey {
    /// From which message on it decrypts.
    pub first_message_index: u64,
    /// How often it was passed on.
    pub forwarded_count: u64,
    /// The device that backed it up had verified the device it came from.
    pub is_verified: bool,
    /// A JSON object.
    pub session_data: String,
}

/// Room keys by room id and session id.
pub type BackupKeys = BTreeMap<String, BTreeMap<String, BackedUpKey>>;

/// Which keys of a backup are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyScope<'a> {
    /// All of them.
    All,
    /// Those of a room.
    Room(&'a str),
    /// One.
    Session(&'a str, &'a str),
}

/// Why a backup was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no such version.
    #[error("there is no such version of the backup")]
    UnknownVersion,
    /// Keys go into the newest version only.
    #[error("keys go into version {current} of the backup")]
    NotNewest {
        /// The newest.
        current: u64,
    },
    /// A version keeps its algorithm.
    #[error("the algorithm of a version cannot change")]
    OtherAlgorithm,
    /// Something is larger than it may be.
    #[error("{what} has {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        max: usize,
    },
    /// The backup is full, or there are too many versions.
    #[error("more is not kept: at most {BACKUP_VERSIONS_MAX} versions, {BACKUP_KEYS_MAX} keys in each")]
    Full,
    /// There is no such account here.
    #[error("there is no such account")]
    UnknownUser,
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

impl Accounts {
    /// Begins a new version, which is the newest from now on; answers its number.
    /// [CS-API §post_matrixclientv3room_keysversion]
    pub async fn create_backup(
        &self,
        user_id: &UserId,
        algorithm: String,
        auth_data: String,
    ) -> Result<u64, BackupError> {
        check_auth_data(&algorithm, &auth_data)?;
        let localpart = self.key(user_id).ok_or(BackupError::UnknownUser)?.to_owned();
        let domain = self.domain;
        let commit = move |txn: &mut Txn| -> Result<u64, BackupError> {
            if txn.scan(&BACKUP, domain, KeyRange::prefix(&(localpart.as_str(),)))?.len() >= BACKUP_VERSIONS_MAX {
                return Err(BackupError::Full);
            }
            let version = txn.get(&BACKUP_NEWEST, domain, &localpart)?.unwrap_or_default() + 1;
            txn.put(&BACKUP_NEWEST, domain, &localpart, &version);
            let record = BackupRecord { algorithm, auth_data, count: 0, bytes: 0, etag: 0 };
            txn.put(&BACKUP, domain, &(localpart, version), &record);
            Ok(version)
        };
        self.change(commit).await?
    }

    /// A version, or the newest there is.
    pub fn backup(&self, user_id: &UserId, version: Option<u64>) -> Result<Option<Backup>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        let found = match version {
            Some(version) => {
                let record = self.shard.get(&BACKUP, self.domain, &(localpart, version))?;
                record.map(|record| (version, record))
            }
            None => {
                let view = self.shard.view();
                let mut rows = view.prefix(&BACKUP, self.domain, &(localpart,), Direction::Backward);
                rows.next().transpose()?.map(|((_, version), record)| (version, record))
            }
        };
        Ok(found.map(|(version, record)| Backup {
            version,
            state: state(&record),
            algorithm: record.algorithm,
            auth_data: record.auth_data,
        }))
    }

    /// Sets the data of a version. [CS-API §put_matrixclientv3room_keysversionversion]
    pub async fn update_backup(
        &self,
        user_id: &UserId,
        version: u64,
        algorithm: String,
        auth_data: String,
    ) -> Result<(), BackupError> {
        check_auth_data(&algorithm, &auth_data)?;
        let key = (self.key(user_id).ok_or(BackupError::UnknownUser)?.to_owned(), version);
        let domain = self.domain;
        let commit = move |txn: &mut Txn| -> Result<(), BackupError> {
            let mut record = txn.get(&BACKUP, domain, &key)?.ok_or(BackupError::UnknownVersion)?;
            if record.algorithm != algorithm {
                return Err(BackupError::OtherAlgorithm);
            }
            record.auth_data = auth_data;
            txn.put(&BACKUP, domain, &key, &record);
            Ok(())
        };
        self.change(commit).await?
    }

    /// Deletes a version with all its keys. [CS-API §delete_matrixclientv3room_keysversionversion]
    pub async fn delete_backup(&self, user_id: &UserId, version: u64) -> Result<(), BackupError> {
        let localpart = self.key(user_id).ok_or(BackupError::UnknownUser)?.to_owned();
        let (domain, key) = (self.domain, (localpart.clone(), version));
        let commit = move |txn: &mut Txn| -> Result<(), BackupError> {
            txn.get(&BACKUP, domain, &key)?.ok_or(BackupError::UnknownVersion)?;
            txn.delete(&BACKUP, domain, &key);
            Ok(())
        };
        self.change(commit).await??;
        // Nobody can see or add keys from here on, so they can go bit by bit.
        loop {
            let view = self.shard.view();
            let rows = view.prefix(&BACKUP_KEY, domain, &(localpart.as_str(), version), Direction::Forward);
            let keys = rows.take(DELETED_AT_ONCE).map(|row| row.map(|(key, _)| key));
            let keys = keys.collect::<Result<Vec<_>, StoreError>>()?;
            drop(view);
            if keys.is_empty() {
                return Ok(());
            }
            self.change(move |txn: &mut Txn| keys.iter().for_each(|key| txn.delete(&BACKUP_KEY, domain, key))).await?;
        }
    }

    /// Puts keys into the newest version, where they are better than those that are there.
    /// [CS-API §put_matrixclientv3room_keyskeys]
    pub async fn back_up_keys(
        &self,
        user_id: &UserId,
        version: u64,
        keys: BackupKeys,
    ) -> Result<BackupState, BackupError> {
        for (room_id, sessions) in &keys {
            check_size("a room id", room_id, ID_BYTES_MAX)?;
            for (session_id, key) in sessions {
                check_size("a session id", session_id, ID_BYTES_MAX)?;
                check_size("session_data", &key.session_data, SESSION_DATA_BYTES_MAX)?;
            }
        }
        let localpart = self.key(user_id).ok_or(BackupError::UnknownUser)?.to_owned();
        let domain = self.domain;
        self.change(move |txn| put_keys(txn, domain, localpart, version, keys)).await?
    }

    /// Keys of a version. [CS-API §get_matrixclientv3room_keyskeys]
    pub fn backed_up_keys(
        &self,
        user_id: &UserId,
        version: u64,
        scope: KeyScope<'_>,
    ) -> Result<BackupKeys, BackupError> {
        let localpart = self.key(user_id).ok_or(BackupError::UnknownUser)?;
        let view = self.shard.view();
        view.get(&BACKUP, self.domain, &(localpart, version))?.ok_or(BackupError::UnknownVersion)?;
        let mut keys = BackupKeys::new();
        for row in view.scan(&BACKUP_KEY, self.domain, range_of(localpart, version, scope), Direction::Forward) {
            let ((_, _, room_id, session_id), record) = row?;
            keys.entry(room_id).or_default().insert(session_id, key_of(record));
        }
        Ok(keys)
    }

    /// Deletes keys of a version. [CS-API §delete_matrixclientv3room_keyskeys]
    pub async fn delete_backed_up_keys(
        &self,
        user_id: &UserId,
        version: u64,
        scope: KeyScope<'_>,
    ) -> Result<BackupState, BackupError> {
        let localpart = self.key(user_id).ok_or(BackupError::UnknownUser)?;
        let (domain, backup) = (self.domain, (localpart.to_owned(), version));
        loop {
            let view = self.shard.view();
            let rows = view.scan(&BACKUP_KEY, domain, range_of(localpart, version, scope), Direction::Forward);
            let keys = rows.take(DELETED_AT_ONCE).map(|row| row.map(|(key, _)| key));
            let keys = keys.collect::<Result<Vec<_>, StoreError>>()?;
            drop(view);
            let is_last = keys.len() < DELETED_AT_ONCE;
            let backup = backup.clone();
            let commit = move |txn: &mut Txn| -> Result<BackupState, BackupError> {
                let mut record = txn.get(&BACKUP, domain, &backup)?.ok_or(BackupError::UnknownVersion)?;
                let before = record.count;
                for key in keys {
                    let Some(old) = txn.get(&BACKUP_KEY, domain, &key)? else { continue };
                    txn.delete(&BACKUP_KEY, domain, &key);
                    record.count = record.count.saturating_sub(1);
                    record.bytes = record.bytes.saturating_sub(size_of(&key.2, &key.3, &old));
                }
                if record.count != before {
                    record.etag += 1;
                    txn.put(&BACKUP, domain, &backup, &record);
                }
                Ok(state(&record))
            };
            let state = self.change(commit).await??;
            if is_last {
                return Ok(state);
            }
        }
    }

    /// The account is closed: its backups go.
    pub(crate) async fn erase_backups(&self, user_id: &UserId) -> Result<(), StoreUnavailable> {
        while let Some(backup) = self.backup(user_id, None)? {
            // Any other error means that it is gone already.
            if let Err(BackupError::Store(error)) = self.delete_backup(user_id, backup.version).await {
                return Err(error);
            }
        }
        Ok(())
    }
}

fn put_keys(
    txn: &mut Txn,
    domain: DomainId,
    localpart: String,
    version: u64,
    keys: BackupKeys,
) -> Result<BackupState, BackupError> {
    let versions = txn.scan(&BACKUP, domain, KeyRange::prefix(&(localpart.as_str(),)))?;
    let newest = versions.into_iter().next_back().map(|((_, version), record)| (version, record));
    let (current, mut record) = newest.ok_or(BackupError::UnknownVersion)?;
    if current != version {
        return Err(BackupError::NotNewest { current });
    }
    let mut better = Vec::new();
    for (room_id, sessions) in keys {
        for (session_id, key) in sessions {
            let row = (localpart.clone(), version, room_id.clone(), session_id);
            let new = record_of(key);
            match txn.get(&BACKUP_KEY, domain, &row)? {
                Some(old) if !is_better(&new, &old) => continue,
                Some(old) => record.bytes = record.bytes.saturating_sub(size_of(&row.2, &row.3, &old)),
                None => record.count += 1,
            }
            record.bytes += size_of(&row.2, &row.3, &new);
            better.push((row, new));
        }
    }
    if better.is_empty() {
        return Ok(state(&record));
    }
    if record.count > BACKUP_KEYS_MAX || record.bytes > BACKUP_BYTES_MAX {
        return Err(BackupError::Full);
    }
    for (row, new) in better {
        txn.put(&BACKUP_KEY, domain, &row, &new);
    }
    record.etag += 1;
    txn.put(&BACKUP, domain, &(localpart, version), &record);
    Ok(state(&record))
}

/// Whether `new` replaces `old`. [CS-API §put_matrixclientv3room_keyskeysroomidsessionid]
fn is_better(new: &BackupKeyRecord, old: &BackupKeyRecord) -> bool {
    // If the keys have different values for is_verified, then it will keep the key that has is_verified set to true;
    if new.is_verified != old.is_verified {
        return new.is_verified;
    }
    // if they have the same values for is_verified, then it will keep the key with a lower first_message_index;
    if new.first_message_index != old.first_message_index {
        return new.first_message_index < old.first_message_index;
    }
    // and finally, if is_verified and first_message_index are equal, then it will keep the key with a lower
    // forwarded_count.
    new.forwarded_count < old.forwarded_count
}

fn range_of(localpart: &str, version: u64, scope: KeyScope<'_>) -> KeyRange<(String, u64, String, String)> {
    match scope {
        KeyScope::All => KeyRange::prefix(&(localpart, version)),
        KeyScope::Room(room_id) => KeyRange::prefix(&(localpart, version, room_id)),
        KeyScope::Session(room_id, session_id) => KeyRange::prefix(&(localpart, version, room_id, session_id)),
    }
}

fn size_of(room_id: &str, session_id: &str, key: &BackupKeyRecord) -> u64 {
    (room_id.len() + session_id.len() + key.session_data.len()) as u64
}

fn state(record: &BackupRecord) -> BackupState {
    BackupState { count: record.count, etag: record.etag }
}

fn record_of(key: BackedUpKey) -> BackupKeyRecord {
    BackupKeyRecord {
        first_message_index: key.first_message_index,
        forwarded_count: key.forwarded_count,
        is_verified: key.is_verified,
        session_data: key.session_data,
    }
}

fn key_of(record: BackupKeyRecord) -> BackedUpKey {
    BackedUpKey {
        first_message_index: record.first_message_index,
        forwarded_count: record.forwarded_count,
        is_verified: record.is_verified,
        session_data: record.session_data,
    }
}

fn check_auth_data(algorithm: &str, auth_data: &str) -> Result<(), BackupError> {
    check_size("algorithm and auth_data", &[algorithm, auth_data].concat(), AUTH_DATA_BYTES_MAX)
}

fn check_size(what: &'static str, text: &str, max: usize) -> Result<(), BackupError> {
    let bytes = text.len();
    if bytes > max { Err(BackupError::TooLarge { what, bytes, max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_of_two_keys_is_kept() {
        let key = |is_verified, first_message_index, forwarded_count| BackupKeyRecord {
            first_message_index,
            forwarded_count,
            is_verified,
            session_data: String::new(),
        };
        // From worst to best.
        let order =
            [key(false, 3, 0), key(false, 2, 9), key(false, 2, 1), key(true, 9, 9), key(true, 9, 1), key(true, 0, 5)];
        for (rank, old) in order.iter().enumerate() {
            for (other, new) in order.iter().enumerate() {
                assert_eq!(is_better(new, old), other > rank, "{new:?} for {old:?}");
            }
        }
    }
}
