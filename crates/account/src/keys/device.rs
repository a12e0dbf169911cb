//! What a device's encryption comes to: how many keys and messages it has, and what goes when the device goes.

use koine_store::{DomainId, KeyRange, StoreError, Txn};
use ruma_common::{DeviceId, UserId};

use super::{
    changes::note_change,
    device_stream::note_device,
    tables::{
        DEVICE_KEYS, DEVICE_STATE, DeviceStateRecord, FALLBACK, ONE_TIME, ONE_TIME_NO, SIGNATURE, TO_DEVICE,
        TO_DEVICE_CROWD, TO_DEVICE_TXN,
    },
};
use crate::{Accounts, StoreUnavailable};

/// What every sync tells a device of itself. One row of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceState {
    /// Algorithms, with how many one-time keys wait to be claimed. Those without any are left out.
    pub one_time_keys: Vec<(String, u64)>,
    /// Algorithms with a fallback key that was not given out yet.
    pub unused_fallback_keys: Vec<String>,
    /// Messages wait in the postbox.
    pub has_messages: bool,
}

impl From<DeviceStateRecord> for DeviceState {
    fn from(record: DeviceStateRecord) -> Self {
        let has_messages = record.messages > 0;
        let (mut one_time_keys, mut unused_fallback_keys) = (Vec::new(), Vec::new());
        for algorithm in record.algorithms {
            if algorithm.has_fallback && !algorithm.is_fallback_used {
                unused_fallback_keys.push(algorithm.name.clone());
            }
            if algorithm.next > algorithm.first {
                one_time_keys.push((algorithm.name, algorithm.next - algorithm.first));
            }
        }
        Self { one_time_keys, unused_fallback_keys, has_messages }
    }
}

impl Accounts {
    /// How many keys and messages a device has.
    pub fn device_state(&self, user_id: &UserId, device_id: &DeviceId) -> Result<DeviceState, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(DeviceState::default()) };
        let record = self.shard.get(&DEVICE_STATE, self.domain, &(localpart, device_id.as_str()))?;
        Ok(record.map(DeviceState::from).unwrap_or_default())
    }
}

/// Deletes everything that belongs to a device that is being deleted. Its rows are bounded, each kind below what one
/// command may scan.
pub(crate) fn forget_device(
    txn: &mut Txn,
    domain: DomainId,
    user_id: &UserId,
    device_id: &str,
) -> Result<(), StoreError> {
    let localpart = user_id.localpart();
    let key = (localpart, device_id);
    if txn.get(&DEVICE_STATE, domain, &key)?.is_some() {
        txn.delete_range(&ONE_TIME, domain, KeyRange::prefix(&key))?;
        txn.delete_range(&ONE_TIME_NO, domain, KeyRange::prefix(&key))?;
        txn.delete_range(&FALLBACK, domain, KeyRange::prefix(&key))?;
        txn.delete_range(&TO_DEVICE, domain, KeyRange::prefix(&key))?;
        txn.delete(&TO_DEVICE_CROWD, domain, &key);
        txn.delete(&DEVICE_STATE, domain, &key);
    }
    txn.delete(&TO_DEVICE_TXN, domain, &key);
    if txn.get(&DEVICE_KEYS, domain, &key)?.is_some() {
        txn.delete(&DEVICE_KEYS, domain, &key);
        txn.delete_range(&SIGNATURE, domain, KeyRange::prefix(&(user_id.as_str(), device_id)))?;
        note_change(txn, domain, user_id, None)?;
    }
    note_device(txn, domain, user_id, device_id)
}

/// What a device is called changed. People see it beside its keys.
pub(crate) fn device_renamed(
    txn: &mut Txn,
    domain: DomainId,
    user_id: &UserId,
    device_id: &str,
) -> Result<(), StoreError> {
    if txn.get(&DEVICE_KEYS, domain, &(user_id.localpart(), device_id))?.is_some() {
        note_change(txn, domain, user_id, None)?;
    }
    note_device(txn, domain, user_id, device_id)
}
