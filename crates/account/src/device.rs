//! Devices: what a user is logged in on. [CS-API §device-management]

use koine_store::{Direction, StoreError, Txn};
use ruma_common::{DeviceId, MilliSecondsSinceUnixEpoch, OwnedDeviceId, UserId};

use crate::{
    Accounts, StoreUnavailable, account_data,
    attached::ATTACHED,
    core::moment,
    dehydrated, keys,
    log::{self, Kind},
    secret::TokenHash,
    session::{DEVICE_NAME_CHARS_MAX, is_device_id},
    tables::{DEVICE, DeviceRecord, TOKEN},
};

/// Account data that is about a device, whose id follows. [MSC3890]
const NOTIFICATION_SETTINGS: [&str; 2] =
    ["m.local_notification_settings.", "org.matrix.msc3890.local_notification_settings."];

/// How many devices are deleted in one command: with each go thousands of rows, if its postbox was full.
const DELETED_AT_ONCE: usize = 8;

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id, unique for its user.
    pub device_id: OwnedDeviceId,
    /// What its user calls it.
    pub display_name: Option<String>,
    /// The address it was last seen at.
    pub last_seen_ip: Option<String>,
    /// When it was last seen, to some ten minutes.
    pub last_seen: MilliSecondsSinceUnixEpoch,
}

/// Why a device was not made.
#[derive(Debug, thiserror::Error)]
pub enum PutDeviceError {
    /// An id that none can have.
    #[error("this cannot be the id of a device")]
    BadDeviceId,
    /// Its name, or its user.
    #[error(transparent)]
    Name(#[from] RenameError),
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

/// Why a device was not renamed.
#[derive(Debug, thiserror::Error)]
pub enum RenameError {
    /// The user has no such device.
    #[error("there is no such device")]
    UnknownDevice,
    /// Longer than [`DEVICE_NAME_CHARS_MAX`].
    #[error("the name has {0} characters, at most {DEVICE_NAME_CHARS_MAX} are allowed")]
    NameTooLong(usize),
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl Accounts {
    /// All devices of a user.
    pub fn devices(&self, user_id: &UserId) -> Result<Vec<Device>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(Vec::new()) };
        let records = self.device_records(localpart)?;
        Ok(records.into_iter().map(|(device_id, record)| device(device_id, record)).collect())
    }

    /// One device of a user.
    pub fn device(&self, user_id: &UserId, device_id: &DeviceId) -> Result<Option<Device>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        let record = self.shard.get(&DEVICE, self.domain, &(localpart, device_id.as_str()))?;
        Ok(record.map(|record| device(device_id.to_string(), record)))
    }

    pub(crate) fn device_records(&self, localpart: &str) -> Result<Vec<(String, DeviceRecord)>, StoreUnavailable> {
        let view = self.shard.view();
        let rows = view.prefix(&DEVICE, self.domain, &(localpart,), Direction::Forward);
        rows.map(|row| row.map(|((_, device_id), record)| (device_id, record)).map_err(StoreUnavailable::from))
            .collect()
    }

    /// Names a device.
    pub async fn rename_device(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        display_name: String,
    ) -> Result<(), RenameError> {
        let length = display_name.chars().count();
        if length > DEVICE_NAME_CHARS_MAX {
            return Err(RenameError::NameTooLong(length));
        }
        let localpart = self.key(user_id).ok_or(RenameError::UnknownDevice)?.to_owned();
        let (domain, owner, device_id) = (self.domain, user_id.to_owned(), device_id.to_string());
        let commit = move |txn: &mut Txn| -> Result<(), RenameError> {
            let key = (localpart, device_id);
            let known = txn.get(&DEVICE, domain, &key).map_err(StoreUnavailable::from)?;
            let mut device = known.ok_or(RenameError::UnknownDevice)?;
            device.display_name = Some(display_name);
            txn.put(&DEVICE, domain, &key, &device);
            txn.append(log::entry(domain, &owner, Kind::Device, key.1.clone()));
            keys::device_renamed(txn, domain, &owner, &key.1).map_err(StoreUnavailable::from)?;
            Ok(())
        };
        self.change(commit).await?
    }

    /// Makes a device that nobody is logged in on, as an application service wants one for a user of its; whether it is new.
    /// One that is there gets the name, if there is one. [AS-API §creating-devices]
    pub async fn put_device(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        display_name: Option<String>,
    ) -> Result<bool, PutDeviceError> {
        if let Some(length) = display_name.as_ref().map(|name| name.chars().count())
            && length > DEVICE_NAME_CHARS_MAX
        {
            return Err(RenameError::NameTooLong(length).into());
        }
        if !is_device_id(device_id.as_str()) {
            return Err(PutDeviceError::BadDeviceId);
        }
        if self.device(user_id, device_id)?.is_some() {
            if let Some(name) = display_name {
                self.rename_device(user_id, device_id, name).await?;
            }
            return Ok(false);
        }
        let localpart = self.key(user_id).ok_or(RenameError::UnknownDevice)?.to_owned();
        let (domain, owner, now_ms) = (self.domain, user_id.to_owned(), self.now_ms());
        let key = (localpart, device_id.to_string());
        let commit = move |txn: &mut Txn| -> Result<bool, StoreError> {
            if txn.get(&DEVICE, domain, &key)?.is_some() {
                return Ok(false);
            }
            let device = DeviceRecord { display_name, created_ms: now_ms, seen_ms: now_ms, ..DeviceRecord::default() };
            txn.put(&DEVICE, domain, &key, &device);
            txn.append(log::entry(domain, &owner, Kind::Device, key.1.clone()));
            keys::note_device(txn, domain, &owner, &key.1)?;
            Ok(true)
        };
        Ok(self.change(commit).await?.map_err(StoreUnavailable::from)?)
    }

    /// Deletes devices; their tokens are worth nothing from then on. Those that are not there are passed over.
    pub async fn delete_devices(
        &self,
        user_id: &UserId,
        device_ids: Vec<OwnedDeviceId>,
    ) -> Result<(), StoreUnavailable> {
        for few in device_ids.chunks(DELETED_AT_ONCE) {
            self.delete_few_devices(user_id, few.to_vec()).await?;
        }
        Ok(())
    }

    async fn delete_few_devices(
        &self,
        user_id: &UserId,
        device_ids: Vec<OwnedDeviceId>,
    ) -> Result<(), StoreUnavailable> {
        let Some(localpart) = self.key(user_id).map(ToOwned::to_owned) else { return Ok(()) };
        let (domain, owner, sessions) = (self.domain, user_id.to_owned(), self.sessions.clone());
        let commit = move |txn: &mut Txn| -> Result<Vec<TokenHash>, StoreError> {
            let mut revoked = Vec::new();
            for device_id in device_ids {
                let key = (localpart.clone(), device_id.to_string());
                let Some(device) = txn.get(&DEVICE, domain, &key)? else { continue };
                for token in &device.tokens {
                    txn.delete(&TOKEN, domain, token);
                }
                txn.delete(&DEVICE, domain, &key);
                txn.delete(&ATTACHED, domain, &key);
                txn.append(log::entry(domain, &owner, Kind::Device, key.1.clone()));
                keys::forget_device(txn, domain, &owner, &key.1)?;
                dehydrated::forget(txn, domain, &key.0, &key.1)?;
                // Settings of notifications on this device are of no use to others. [MSC3890]
                for prefix in NOTIFICATION_SETTINGS {
                    account_data::delete(txn, domain, &owner, "", &format!("{prefix}{}", key.1))?;
                }
                revoked.extend(device.tokens);
            }
            sessions.forget_when_durable(txn, revoked.clone());
            Ok(revoked)
        };
        let revoked = self.change(commit).await??;
        // Once more: a request may have read the store before it showed the deletion, and remembered what it read.
        self.sessions.forget(&revoked);
        Ok(())
    }

    /// Deletes all devices but, maybe, one.
    pub async fn delete_devices_except(
        &self,
        user_id: &UserId,
        kept: Option<&DeviceId>,
    ) -> Result<(), StoreUnavailable> {
        let others = self.devices(user_id)?.into_iter().map(|device| device.device_id);
        self.delete_devices(user_id, others.filter(|device_id| Some(&**device_id) != kept).collect()).await
    }
}

fn device(device_id: String, record: DeviceRecord) -> Device {
    Device {
        device_id: device_id.into(),
        display_name: record.display_name,
        last_seen_ip: record.seen_ip,
        last_seen: moment(record.seen_ms),
    }
}
