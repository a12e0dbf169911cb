//! Changes of users' devices, as other servers follow them: a chain for each user, in which each change names the one
//! before it. [SS-API §device-management]
//!
//! A change stands in the log; its position is its number in the chain. What the device is like is looked up when it is
//! told, so that nobody is told what is out of date. Who follows whom is not known here.

use koine_store::{Direction, DomainId, LogEntry, Position, StoreError, Txn};
use ruma_common::{CanonicalJsonObject, OwnedUserId, UserId};

use super::tables::{DEVICE_KEYS, DEVICE_STREAM, DeviceStreamRecord};
use crate::{
    Accounts, StoreUnavailable,
    log::{self, Kind},
    tables::DEVICE,
};

/// A link of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceChange {
    /// Its number.
    pub stream_id: u64,
    /// The number of the one before it; none if it is the first.
    pub previous: Option<u64>,
    /// The device.
    pub device_id: String,
}

/// A device as other servers are told of it.
#[derive(Debug, Default)]
pub struct ToldDevice {
    /// It is gone.
    pub is_deleted: bool,
    /// What its user calls it.
    pub display_name: Option<String>,
    /// Its keys, with the signatures of its user.
    pub keys: Option<CanonicalJsonObject>,
}

/// The devices of a user as other servers see them.
#[derive(Debug, Default)]
pub struct DeviceList {
    /// The newest change that is part of it.
    pub stream_id: u64,
    /// Devices that have keys.
    pub devices: Vec<(String, ToldDevice)>,
    /// Cross-signing key.
    pub master: Option<CanonicalJsonObject>,
    /// Cross-signing key.
    pub self_signing: Option<CanonicalJsonObject>,
}

/// Notes a change of a device.
pub(crate) fn note_device(
    txn: &mut Txn,
    domain: DomainId,
    user_id: &UserId,
    device_id: &str,
) -> Result<(), StoreError> {
    let previous = txn.get(&DEVICE_STREAM, domain, user_id.localpart())?.map(|record| record.newest);
    let mut body = previous.unwrap_or(0).to_be_bytes().to_vec();
    body.extend_from_slice(device_id.as_bytes());
    let newest = txn.append(log::entry(domain, user_id, Kind::DeviceList, body)).0;
    let record = DeviceStreamRecord { newest, previous, device_id: device_id.to_owned() };
    txn.put(&DEVICE_STREAM, domain, user_id.localpart(), &record);
    Ok(())
}

impl DeviceChange {
    /// The change that a log entry of the kind [`Kind::DeviceList`] tells of.
    pub fn of(position: Position, entry: &LogEntry) -> Option<Self> {
        let (previous, device_id) = entry.body.split_first_chunk::<8>()?;
        let previous = Some(u64::from_be_bytes(*previous)).filter(|previous| *previous > 0);
        let device_id = std::str::from_utf8(device_id).ok()?.to_owned();
        Some(Self { stream_id: position.0, previous, device_id })
    }
}

impl Accounts {
    /// The newest change of a user's devices.
    pub fn newest_device_change(&self, user_id: &UserId) -> Result<Option<DeviceChange>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        let record = self.shard.get(&DEVICE_STREAM, self.domain, localpart)?;
        Ok(record.map(|DeviceStreamRecord { newest, previous, device_id }| DeviceChange {
            stream_id: newest,
            previous,
            device_id,
        }))
    }

    /// A device as other servers are told of it.
    pub fn told_device(&self, user_id: &UserId, device_id: &str) -> Result<ToldDevice, StoreUnavailable> {
        let gone = ToldDevice { is_deleted: true, ..ToldDevice::default() };
        let Some(localpart) = self.key(user_id) else { return Ok(gone) };
        let Some(device) = self.shard.get(&DEVICE, self.domain, &(localpart, device_id))? else { return Ok(gone) };
        let keys = match self.shard.view().contains(&DEVICE_KEYS, self.domain, &(localpart, device_id))? {
            true => self.keys_for_servers(user_id, &[device_id.to_owned()])?,
            false => None,
        };
        let keys = keys.and_then(|keys| keys.devices.into_iter().next());
        Ok(ToldDevice { is_deleted: false, display_name: device.display_name, keys: keys.map(|(_, keys)| keys) })
    }

    /// Ids of all devices of a user, those without keys too.
    pub fn device_ids(&self, user_id: &UserId) -> Result<Vec<String>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(Vec::new()) };
        let view = self.shard.view();
        let rows = view.prefix(&DEVICE, self.domain, &(localpart,), Direction::Forward);
        Ok(rows.map(|row| row.map(|((_, device_id), _)| device_id)).collect::<Result<_, _>>()?)
    }

    /// The devices of a user as other servers see them. `None`: there is no such user.
    pub fn device_list(&self, user_id: &UserId) -> Result<Option<DeviceList>, StoreUnavailable> {
        // Read first: a change in between is told once more rather than never.
        let newest = self.newest_device_change(user_id)?;
        let Some(keys) = self.keys_for_servers(user_id, &[])? else { return Ok(None) };
        let mut list = DeviceList {
            stream_id: newest.map_or(0, |newest| newest.stream_id),
            devices: Vec::with_capacity(keys.devices.len()),
            master: keys.master,
            self_signing: keys.self_signing,
        };
        for (device_id, keys) in keys.devices {
            let name = self.device(user_id, device_id.as_str().into())?.and_then(|device| device.display_name);
            list.devices.push((device_id, ToldDevice { is_deleted: false, display_name: name, keys: Some(keys) }));
        }
        Ok(Some(list))
    }
}

/// Whose a log entry of ours is, if it is one that other servers are told of.
pub fn told_elsewhere(entry: &LogEntry) -> Option<(Kind, OwnedUserId)> {
    let kind = Kind::of(entry.kind)?;
    let is_told = matches!(kind, Kind::DeviceList | Kind::SigningKeys | Kind::Outgoing);
    is_told.then(|| Some((kind, log::user_of(&entry.subject)?))).flatten()
}
