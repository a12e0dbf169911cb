//! One-time keys, each given out once, in the order of uploading; and fallback keys, for when there are none left.
//!
//! [CS-API §one-time-and-fallback-keys] [CS-API §post_matrixclientv3keysclaim]. A claim reads and writes within one
//! command of the shard's writer, so that no two get the same key however many ask at once. A key that was given out
//! is remembered for a while: the client that uploads it again, because it never heard that the upload had worked, does
//! not make it be given out twice.

use std::collections::BTreeMap;

use koine_store::{DomainId, Txn};
use ruma_common::{CanonicalJsonValue, OwnedDeviceId, OwnedUserId};

use super::{
    device_keys::UploadKeysError,
    tables::{AlgorithmRecord, DEVICE_STATE, DeviceStateRecord, FALLBACK, ONE_TIME, ONE_TIME_NO, OneTimeRecord},
};
use crate::{Accounts, StoreUnavailable};

/// How many one-time keys of one algorithm are kept for a device.
pub const ONE_TIME_KEYS_MAX: usize = 500;
/// How many algorithms a device may have keys of.
pub const ALGORITHMS_MAX: usize = 8;
/// How large one key may be.
pub const ONE_TIME_KEY_BYTES_MAX: usize = 8 * 1024;
/// How many keys one request may claim.
pub const CLAIMS_MAX: usize = 10_000;
/// How long the name of an algorithm and the id of a key may be.
const NAME_BYTES_MAX: usize = 255;
/// How many keys that were given out are remembered, for each algorithm of a device.
const GIVEN_OUT_MAX: u64 = 500;
/// How many keys are claimed in one command, so that others get their turn.
const CLAIMS_AT_ONCE: usize = 250;

/// Whose key is wanted.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Of whom.
    pub user_id: OwnedUserId,
    /// Of which device.
    pub device_id: OwnedDeviceId,
    /// Of which algorithm.
    pub algorithm: String,
}

/// A key that was given out.
#[derive(Debug, Clone)]
pub struct ClaimedKey {
    /// Of whom.
    pub user_id: OwnedUserId,
    /// Of which device.
    pub device_id: OwnedDeviceId,
    /// Algorithm and id, as `signed_curve25519:AAAAHg`.
    pub key_id: String,
    /// The key, as JSON.
    pub key: String,
}

/// Keys to be stored: (algorithm, id, canonical JSON).
#[derive(Debug, Default)]
pub(super) struct NewKeys {
    one_time: Vec<(String, OneTimeRecord)>,
    fallback: Vec<(String, OneTimeRecord)>,
}

/// Keys that may be stored, if there is room.
pub(super) fn checked(
    one_time: BTreeMap<String, CanonicalJsonValue>,
    fallback: BTreeMap<String, CanonicalJsonValue>,
) -> Result<NewKeys, UploadKeysError> {
    let parse = |keys: BTreeMap<String, CanonicalJsonValue>| -> Result<Vec<_>, UploadKeysError> {
        keys.into_iter().map(checked_key).collect()
    };
    let new = NewKeys { one_time: parse(one_time)?, fallback: parse(fallback)? };
    let repeats = new.fallback.windows(2).any(|pair| pair.first().map(|key| &key.0) == pair.last().map(|key| &key.0));
    if repeats {
        return Err(UploadKeysError::Malformed("more than one fallback key for an algorithm"));
    }
    Ok(new)
}

fn checked_key((name, key): (String, CanonicalJsonValue)) -> Result<(String, OneTimeRecord), UploadKeysError> {
    let split = name.split_once(':').filter(|(algorithm, id)| !algorithm.is_empty() && !id.is_empty());
    let (algorithm, id) = split.ok_or(UploadKeysError::Malformed("keys are named <algorithm>:<id>"))?;
    if name.len() > NAME_BYTES_MAX {
        return Err(UploadKeysError::TooLarge { bytes: name.len(), max: NAME_BYTES_MAX });
    }
    if !key.is_object() && !key.is_string() {
        return Err(UploadKeysError::Malformed("a key is an object or a text"));
    }
    let key = key.to_string();
    if key.len() > ONE_TIME_KEY_BYTES_MAX {
        return Err(UploadKeysError::TooLarge { bytes: key.len(), max: ONE_TIME_KEY_BYTES_MAX });
    }
    Ok((algorithm.to_owned(), OneTimeRecord { id: id.to_owned(), key }))
}

impl NewKeys {
    pub(super) fn is_empty(&self) -> bool {
        self.one_time.is_empty() && self.fallback.is_empty()
    }

    /// Stores the keys: all of them, or none and an error. `state` is for the caller to write.
    pub(super) fn store(
        self,
        txn: &mut Txn,
        domain: DomainId,
        device: &(String, String),
        state: &mut DeviceStateRecord,
    ) -> Result<(), UploadKeysError> {
        let mut wanted = Vec::new();
        let mut next = state.clone();
        for (algorithm, record) in self.one_time {
            let no_key = (device.0.as_str(), device.1.as_str(), algorithm.as_str(), record.id.as_str());
            if let Some(number) = txn.get(&ONE_TIME_NO, domain, &no_key)? {
                let key = (device.0.as_str(), device.1.as_str(), algorithm.as_str(), number);
                let is_same = txn.get(&ONE_TIME, domain, &key)?.is_some_and(|known| known.key == record.key);
                let is_waiting = algorithm_of(&mut next, &algorithm).first <= number;
                match (is_same, is_waiting) {
                    (true, _) => continue,
                    (false, true) => return Err(UploadKeysError::IdInUse(format!("{algorithm}:{}", record.id))),
                    // An id that is used anew, after the first key of that name was given out.
                    (false, false) => {}
                }
            }
            let known = algorithm_of(&mut next, &algorithm);
            let number = known.next;
            known.next += 1;
            let count = usize::try_from(known.next - known.first).unwrap_or(usize::MAX);
            if count > ONE_TIME_KEYS_MAX {
                return Err(UploadKeysError::TooMany { what: "one-time keys", count, max: ONE_TIME_KEYS_MAX });
            }
            wanted.push((algorithm, number, record));
        }
        let mut fallback = Vec::new();
        for (algorithm, record) in self.fallback {
            let key = (device.0.as_str(), device.1.as_str(), algorithm.as_str());
            let old = txn.get(&FALLBACK, domain, &key)?;
            if old.is_some_and(|old| old.id == record.id && old.key == record.key) {
                // The same once more: it stays used if it was.
                continue;
            }
            let known = algorithm_of(&mut next, &algorithm);
            (known.has_fallback, known.is_fallback_used) = (true, false);
            fallback.push((algorithm, record));
        }
        let count = next.algorithms.len();
        if count > ALGORITHMS_MAX {
            return Err(UploadKeysError::TooMany { what: "algorithms", count, max: ALGORITHMS_MAX });
        }
        for (algorithm, number, record) in wanted {
            let no_key = (device.0.as_str(), device.1.as_str(), algorithm.as_str(), record.id.as_str());
            txn.put(&ONE_TIME_NO, domain, &no_key, &number);
            txn.put(&ONE_TIME, domain, &(device.0.as_str(), device.1.as_str(), algorithm.as_str(), number), &record);
        }
        for (algorithm, record) in fallback {
            txn.put(&FALLBACK, domain, &(device.0.as_str(), device.1.as_str(), algorithm.as_str()), &record);
        }
        *state = next;
        Ok(())
    }
}

fn algorithm_of<'a>(state: &'a mut DeviceStateRecord, name: &str) -> &'a mut AlgorithmRecord {
    let at = state.algorithms.iter().position(|algorithm| algorithm.name == name).unwrap_or_else(|| {
        state.algorithms.push(AlgorithmRecord { name: name.to_owned(), ..AlgorithmRecord::default() });
        state.algorithms.len() - 1
    });
    &mut state.algorithms[at]
}

impl Accounts {
    /// Gives out a key for each claim that can be met, and leaves out the others: those of devices that have none left
    /// and no fallback key, are not there, or belong to other servers.
    pub async fn claim_keys(&self, claims: Vec<Claim>) -> Result<Vec<ClaimedKey>, StoreUnavailable> {
        let mut given = Vec::new();
        let domain = self.domain;
        let mut claims: Vec<_> = claims.into_iter().filter(|claim| self.is_local(&claim.user_id)).collect();
        while !claims.is_empty() {
            let later = claims.split_off(claims.len().min(CLAIMS_AT_ONCE));
            let now = std::mem::replace(&mut claims, later);
            let commit = move |txn: &mut Txn| -> Result<Vec<ClaimedKey>, StoreUnavailable> {
                let mut given = Vec::new();
                for claim in now {
                    given.extend(give_out(txn, domain, claim)?);
                }
                Ok(given)
            };
            given.extend(self.change(commit).await??);
        }
        Ok(given)
    }
}

fn give_out(txn: &mut Txn, domain: DomainId, claim: Claim) -> Result<Option<ClaimedKey>, StoreUnavailable> {
    let device = (claim.user_id.localpart().to_owned(), claim.device_id.to_string());
    let Some(mut state) = txn.get(&DEVICE_STATE, domain, &device)? else { return Ok(None) };
    let found = state.algorithms.iter_mut().find(|algorithm| algorithm.name == claim.algorithm);
    let Some(algorithm) = found else { return Ok(None) };
    let row = |number: u64| (device.0.clone(), device.1.clone(), claim.algorithm.clone(), number);
    let record = if algorithm.first < algorithm.next {
        let number = algorithm.first;
        algorithm.first += 1;
        if let Some(old) = number.checked_sub(GIVEN_OUT_MAX) {
            forget_given_out(txn, domain, &row(old))?;
        }
        let record = txn.get(&ONE_TIME, domain, &row(number))?;
        record.ok_or_else(|| StoreUnavailable::damaged("a one-time key that is counted and not there"))?
    } else if algorithm.has_fallback {
        algorithm.is_fallback_used = true;
        let record = txn.get(&FALLBACK, domain, &(&device.0, &device.1, &claim.algorithm))?;
        record.ok_or_else(|| StoreUnavailable::damaged("a fallback key that is counted and not there"))?
    } else {
        return Ok(None);
    };
    txn.put(&DEVICE_STATE, domain, &device, &state);
    let key_id = format!("{}:{}", claim.algorithm, record.id);
    Ok(Some(ClaimedKey { user_id: claim.user_id, device_id: claim.device_id, key_id, key: record.key }))
}

fn forget_given_out(
    txn: &mut Txn,
    domain: DomainId,
    row: &(String, String, String, u64),
) -> Result<(), StoreUnavailable> {
    let Some(old) = txn.get(&ONE_TIME, domain, row)? else { return Ok(()) };
    txn.delete(&ONE_TIME, domain, row);
    let no_key = (row.0.as_str(), row.1.as_str(), row.2.as_str(), old.id.as_str());
    if txn.get(&ONE_TIME_NO, domain, &no_key)? == Some(row.3) {
        txn.delete(&ONE_TIME_NO, domain, &no_key);
    }
    Ok(())
}
