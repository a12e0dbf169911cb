//! Devices that are connections: what speaks XMPP holds no access token, yet stands in the list of devices and can be logged
//! out there.
//!
//! Such a device is in the list while its session lasts, and beyond that while it holds a stream token, by which it comes
//! back without a password (XEP-0484). Of a stream token only its number, kind and end are kept: the token itself is made of
//! these and of a secret by the protocol.

use std::net::IpAddr;

use koine_store::{Direction, KeyRange, Space, Table, Txn, stored};
use ruma_common::{DeviceId, OwnedDeviceId, UserId};
use serde::{Deserialize, Serialize};

use crate::{
    Accounts, StartSessionError, StoreUnavailable,
    log::{self, Kind},
    secret,
    session::{DEVICE_NAME_CHARS_MAX, is_device_id},
    tables::{DEVICE, DeviceRecord, USER},
};

/// Stream tokens of one device; a client has one, and for a moment the next.
const STREAM_TOKENS_MAX: usize = 4;
/// How long the ids are that we make up.
const DEVICE_ID_LENGTH: usize = 10;
/// Devices of one account that hold stream tokens; past it the one whose token ends first is forgotten.
const DEVICES_WITH_TOKENS_MAX: usize = 100;

/// (local part, device id) → the device is a connection. Its row in [`DEVICE`] goes before or with this one.
pub(crate) const ATTACHED: Table<(String, String), AttachedRecord> =
    Table::new("account.attached", Space::Accounts, 0xa8);

/// What is kept of a device that is a connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct AttachedRecord {
    tokens: Vec<StreamToken>,
}

/// A token by which a device comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamToken {
    /// Unique for the device.
    pub serial: u64,
    /// For which mechanism it was given.
    pub mechanism: String,
    /// Until when it is good, in milliseconds since 1970.
    pub expires_ms: u64,
    /// The highest count of a use of it that was seen; uses count up, so none can be repeated.
    pub count: u64,
}

stored!(AttachedRecord);

/// A device that connects.
#[derive(Clone, Debug, Default)]
pub struct AttachDevice {
    /// Its id, if it is known by one.
    pub device_id: Option<String>,
    /// What to call it when it is new.
    pub name: Option<String>,
    /// Where from.
    pub address: Option<IpAddr>,
}

impl Accounts {
    /// Puts a device that is a connection into the list. One that is there already is seen again.
    pub async fn attach_device(
        &self,
        user_id: &UserId,
        wanted: AttachDevice,
    ) -> Result<OwnedDeviceId, StartSessionError> {
        let localpart = self.key(user_id).ok_or(StartSessionError::UnknownUser)?.to_owned();
        let device_id = match wanted.device_id {
            Some(id) if !is_device_id(&id) => return Err(StartSessionError::BadDeviceId),
            Some(id) => id,
            None => secret::new_name(DEVICE_ID_LENGTH, secret::UPPER_CASE, &mut rand::rng()),
        };
        let (domain, owner, now_ms) = (self.domain, user_id.to_owned(), self.now_ms());
        let name = wanted.name.map(|name| name.chars().take(DEVICE_NAME_CHARS_MAX).collect());
        let key = (localpart, device_id);
        let commit = move |txn: &mut Txn| -> Result<OwnedDeviceId, StartSessionError> {
            let unavailable = StoreUnavailable::from;
            let user = txn.get(&USER, domain, key.0.as_str()).map_err(unavailable)?;
            if user.ok_or(StartSessionError::UnknownUser)?.is_deactivated {
                return Err(StartSessionError::UserDeactivated);
            }
            let known = txn.get(&DEVICE, domain, &key).map_err(unavailable)?;
            let is_new = known.is_none();
            let mut device =
                known.unwrap_or_else(|| DeviceRecord { display_name: name, created_ms: now_ms, ..Default::default() });
            device.seen_ms = now_ms;
            device.seen_ip = wanted.address.map(|address| address.to_string());
            txn.put(&DEVICE, domain, &key, &device);
            if is_new {
                txn.put(&ATTACHED, domain, &key, &AttachedRecord::default());
                txn.append(log::entry(domain, &owner, Kind::Device, key.1.clone()));
            }
            Ok(key.1.into())
        };
        self.change(commit).await?
    }

    /// The connection is gone for good: the device leaves the list, unless it holds a token by which it comes back.
    pub async fn detach_device(&self, user_id: &UserId, device_id: &DeviceId) -> Result<(), StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(()) };
        let attached = self.shard.get(&ATTACHED, self.domain, &(localpart, device_id.as_str()))?;
        let now_ms = self.now_ms();
        match attached {
            Some(attached) if !attached.tokens.iter().any(|token| token.expires_ms > now_ms) => {
                self.delete_devices(user_id, vec![device_id.to_owned()]).await
            }
            _ => Ok(()),
        }
    }

    /// Devices that were connected when the program ended without a word leave the list. For the start.
    pub async fn detach_left_over(&self) -> Result<(), StoreUnavailable> {
        let now_ms = self.now_ms();
        let view = self.shard.view();
        let rows = view.scan(&ATTACHED, self.domain, KeyRange::all(), Direction::Forward);
        let mut left_over = Vec::new();
        for row in rows {
            let ((localpart, device_id), attached) = row?;
            if !attached.tokens.iter().any(|token| token.expires_ms > now_ms) {
                left_over.push((self.user_id(&localpart)?, OwnedDeviceId::from(device_id)));
            }
        }
        drop(view);
        for (user_id, device_id) in left_over {
            self.delete_devices(&user_id, vec![device_id]).await?;
        }
        Ok(())
    }

    /// Gives a device a stream token, good until `expires_ms`.
    pub async fn new_stream_token(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        mechanism: String,
        expires_ms: u64,
    ) -> Result<Option<StreamToken>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id).map(ToOwned::to_owned) else { return Ok(None) };
        self.make_room_for_tokens(user_id, device_id).await?;
        let serial = rand::random::<u64>();
        let token = StreamToken { serial, mechanism, expires_ms, count: 0 };
        let kept = token.clone();
        let is_kept = self.edit_attached(localpart, device_id, move |attached| {
            if attached.tokens.len() >= STREAM_TOKENS_MAX {
                attached.tokens.remove(0);
            }
            attached.tokens.push(kept);
        });
        Ok(is_kept.await?.then_some(token))
    }

    /// The stream tokens of a device.
    pub fn stream_tokens(&self, user_id: &UserId, device_id: &DeviceId) -> Result<Vec<StreamToken>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(Vec::new()) };
        let now_ms = self.now_ms();
        let attached = self.shard.get(&ATTACHED, self.domain, &(localpart, device_id.as_str()))?;
        let mut tokens = attached.map(|attached| attached.tokens).unwrap_or_default();
        tokens.retain(|token| token.expires_ms > now_ms);
        Ok(tokens)
    }

    /// A stream token was used for the `count`th time. `false` if that was seen before, or the token is gone.
    pub async fn use_stream_token(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        serial: u64,
        count: Option<u64>,
    ) -> Result<bool, StoreUnavailable> {
        let Some(localpart) = self.key(user_id).map(ToOwned::to_owned) else { return Ok(false) };
        let (told, used) = std::sync::mpsc::channel();
        let edited = self.edit_attached(localpart, device_id, move |attached| {
            let token = attached.tokens.iter_mut().find(|token| token.serial == serial);
            let is_good = token.is_some_and(|token| match count {
                Some(count) if count <= token.count => false,
                Some(count) => {
                    token.count = count;
                    true
                }
                None => true,
            });
            let _ = told.send(is_good);
        });
        edited.await?;
        Ok(used.try_recv().unwrap_or(false))
    }

    /// Takes stream tokens from a device: all that are not `keep`.
    pub async fn drop_stream_tokens(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        keep: Option<u64>,
    ) -> Result<(), StoreUnavailable> {
        let Some(localpart) = self.key(user_id).map(ToOwned::to_owned) else { return Ok(()) };
        self.edit_attached(localpart, device_id, move |attached| {
            attached.tokens.retain(|token| Some(token.serial) == keep);
        })
        .await?;
        Ok(())
    }

    async fn edit_attached(
        &self,
        localpart: String,
        device_id: &DeviceId,
        edit: impl FnOnce(&mut AttachedRecord) + Send + 'static,
    ) -> Result<bool, StoreUnavailable> {
        let (domain, key) = (self.domain, (localpart, device_id.to_string()));
        let commit = move |txn: &mut Txn| -> Result<bool, koine_store::StoreError> {
            // Not for a device that is gone, nor for one that is no connection.
            let Some(mut attached) = txn.get(&ATTACHED, domain, &key)? else { return Ok(false) };
            edit(&mut attached);
            txn.put(&ATTACHED, domain, &key, &attached);
            Ok(true)
        };
        Ok(self.change(commit).await??)
    }

    async fn make_room_for_tokens(&self, user_id: &UserId, newcomer: &DeviceId) -> Result<(), StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(()) };
        let view = self.shard.view();
        let mut held = Vec::new();
        for row in view.prefix(&ATTACHED, self.domain, &(localpart,), Direction::Forward) {
            let ((_, device_id), attached) = row?;
            let last = attached.tokens.iter().map(|token| token.expires_ms).max();
            held.extend(last.filter(|_| device_id != newcomer.as_str()).map(|last| (last, device_id)));
        }
        drop(view);
        if held.len() < DEVICES_WITH_TOKENS_MAX {
            return Ok(());
        }
        match held.into_iter().min() {
            Some((_, device_id)) => self.drop_stream_tokens(user_id, &OwnedDeviceId::from(device_id), None).await,
            None => Ok(()),
        }
    }
}
