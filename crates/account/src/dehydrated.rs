//! Dehydrated devices: a device that lies here packed up, so that somebody who logs out everywhere can be written to.
//! [MSC3814]
//!
//! It is a device like others, with keys and a postbox, but without tokens: nobody can log in with it. The next client
//! of its owner unpacks it (only clients can: it is encrypted), reads its postbox, and puts a new one in its place.

use koine_store::{Position, StoreError, Txn};
use ruma_common::{DeviceId, OwnedDeviceId, UserId};

use crate::{
    Accounts, KeyUpload, StoreUnavailable, UploadKeysError,
    log::{self, Kind},
    session::{DEVICE_NAME_CHARS_MAX, is_device_id},
    tables::{DEHYDRATED, DEVICE, DehydratedRecord, DeviceRecord, USER},
};

/// How large the packed device may be.
pub const DEHYDRATED_BYTES_MAX: usize = 64 * 1024;

/// A packed device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DehydratedDevice {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// What its owner's clients need to unpack it, a JSON object.
    pub device_data: String,
}

/// Why a device was not kept.
#[derive(Debug, thiserror::Error)]
pub enum DehydrateError {
    /// There is no such account here.
    #[error("there is no such account")]
    UnknownUser,
    /// Empty, too long, or with characters that have no place in an id; or a device with this id is in use.
    #[error("this cannot be the id of a dehydrated device")]
    BadDeviceId,
    /// Larger than [`DEHYDRATED_BYTES_MAX`].
    #[error("the device has {0} bytes, at most {DEHYDRATED_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// A device that nobody can write to is of no use.
    #[error("the device has no keys")]
    NoKeys,
    /// See there.
    #[error(transparent)]
    Keys(#[from] UploadKeysError),
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl From<StoreError> for DehydrateError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

impl Accounts {
    /// The packed device of an account.
    pub fn dehydrated_device(&self, user_id: &UserId) -> Result<Option<DehydratedDevice>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        let record = self.shard.get(&DEHYDRATED, self.domain, localpart)?;
        Ok(record
            .map(|record| DehydratedDevice { device_id: record.device_id.into(), device_data: record.device_data }))
    }

    /// Keeps a packed device, with its keys, in place of the one before.
    pub async fn dehydrate_device(
        &self,
        user_id: &UserId,
        device: DehydratedDevice,
        display_name: Option<String>,
        keys: KeyUpload,
    ) -> Result<(), DehydrateError> {
        if !is_device_id(device.device_id.as_str()) {
            return Err(DehydrateError::BadDeviceId);
        }
        if device.device_data.len() > DEHYDRATED_BYTES_MAX {
            return Err(DehydrateError::TooLarge(device.device_data.len()));
        }
        if keys.device_keys.is_none() {
            return Err(DehydrateError::NoKeys);
        }
        let localpart = self.key(user_id).ok_or(DehydrateError::UnknownUser)?.to_owned();
        let before = self.dehydrated_device(user_id)?;
        let is_other = |before: &DehydratedDevice| before.device_id != device.device_id;
        if before.as_ref().is_none_or(is_other) && self.device(user_id, &device.device_id)?.is_some() {
            return Err(DehydrateError::BadDeviceId);
        }
        if let Some(before) = before {
            self.delete_devices(user_id, vec![before.device_id]).await?;
        }
        let (domain, owner, now_ms) = (self.domain, user_id.to_owned(), self.now_ms());
        let device_id = device.device_id.clone();
        let display_name = display_name.map(|name| name.chars().take(DEVICE_NAME_CHARS_MAX).collect());
        let commit = move |txn: &mut Txn| -> Result<(), DehydrateError> {
            let user = txn.get(&USER, domain, localpart.as_str())?;
            if user.is_none_or(|user| user.is_deactivated) {
                return Err(DehydrateError::UnknownUser);
            }
            let key = (localpart, device.device_id.to_string());
            if txn.get(&DEVICE, domain, &key)?.is_some() {
                return Err(DehydrateError::BadDeviceId);
            }
            let record = DeviceRecord { display_name, created_ms: now_ms, seen_ms: now_ms, ..DeviceRecord::default() };
            txn.put(&DEVICE, domain, &key, &record);
            let (localpart, device_id) = key;
            txn.append(log::entry(domain, &owner, Kind::Device, device_id.clone()));
            let record = DehydratedRecord { device_id, device_data: device.device_data };
            txn.put(&DEHYDRATED, domain, localpart.as_str(), &record);
            Ok(())
        };
        self.change(commit).await??;
        if let Err(refused) = self.upload_keys(user_id, &device_id, keys).await {
            // Without keys it is none.
            self.delete_devices(user_id, vec![device_id]).await?;
            return Err(refused.into());
        }
        Ok(())
    }

    /// Throws the packed device away, its postbox too; what it was.
    pub async fn delete_dehydrated_device(&self, user_id: &UserId) -> Result<Option<OwnedDeviceId>, StoreUnavailable> {
        let Some(device) = self.dehydrated_device(user_id)? else { return Ok(None) };
        self.delete_devices(user_id, vec![device.device_id.clone()]).await?;
        Ok(Some(device.device_id))
    }

    /// A page of what waits in the postbox of the packed device, after `known`; and where the next page begins. Nothing
    /// is thrown away: whoever unpacks it may fail half way, and others try later.
    pub fn dehydrated_postbox(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        known: Position,
        limit: usize,
    ) -> Result<(Vec<koine_store::bytes::Bytes>, Position), StoreUnavailable> {
        let now = self.shard.position();
        let postbox = self.postbox((user_id, device_id), known, now, limit)?;
        Ok((postbox.messages, postbox.more_after.unwrap_or(now)))
    }
}

/// What goes beside a device that is being deleted: that it was the packed one.
pub(crate) fn forget(
    txn: &mut Txn,
    domain: koine_store::DomainId,
    localpart: &str,
    device_id: &str,
) -> Result<(), StoreError> {
    if txn.get(&DEHYDRATED, domain, localpart)?.is_some_and(|record| record.device_id == device_id) {
        txn.delete(&DEHYDRATED, domain, localpart);
    }
    Ok(())
}
