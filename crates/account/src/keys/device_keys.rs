//! Device keys: by which a device is known to others, and how they are asked for.
//!
//! [CS-API §device-keys] [CS-API §post_matrixclientv3keysupload] [CS-API §post_matrixclientv3keysquery]

use std::collections::BTreeMap;

use koine_store::{Direction, KeyRange, StoreError, Txn, View};
use ruma_common::{CanonicalJsonObject, CanonicalJsonValue, DeviceId, UserId};

use super::{
    changes::note_change,
    cross_signing::Usage,
    device::DeviceState,
    device_stream::note_device,
    one_time::{self, NewKeys},
    signed,
    tables::{CROSS_SIGNING, DEVICE_KEYS, DEVICE_STATE, SIGNATURE},
};
use crate::{
    Accounts, StoreUnavailable,
    tables::{DEVICE, USER},
};

/// How large device keys may be.
pub const DEVICE_KEYS_BYTES_MAX: usize = 32 * 1024;

/// What a device publishes in one go.
#[derive(Debug, Default)]
pub struct KeyUpload {
    /// Its device keys.
    pub device_keys: Option<CanonicalJsonObject>,
    /// One-time keys by algorithm and id, as `signed_curve25519:AAAAHg`.
    pub one_time_keys: BTreeMap<String, CanonicalJsonValue>,
    /// Fallback keys likewise, one for an algorithm.
    pub fallback_keys: BTreeMap<String, CanonicalJsonValue>,
}

/// Why keys were not taken. None of those sent along were.
#[derive(Debug, thiserror::Error)]
pub enum UploadKeysError {
    /// Keys that say they are another device's.
    #[error("these are not the keys of this device")]
    NotYours,
    /// Not what the specification says keys are.
    #[error("these are not keys: {0}")]
    Malformed(&'static str),
    /// One key is too large.
    #[error("a key has {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What it may have.
        max: usize,
    },
    /// More keys than are kept for a device.
    #[error("that would make {count} {what}, at most {max} are kept")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there would be.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// There is another key of the same id.
    #[error("there is another one-time key with the id {0:?}")]
    IdInUse(String),
    /// The device was deleted meanwhile.
    #[error("there is no such device")]
    UnknownDevice,
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl From<StoreError> for UploadKeysError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

/// What is published about a user.
#[derive(Debug, Default)]
pub struct UserKeys {
    /// Device keys by device id, with signatures, and `unsigned` filled in.
    pub devices: Vec<(String, CanonicalJsonObject)>,
    /// Cross-signing key.
    pub master: Option<CanonicalJsonObject>,
    /// Cross-signing key.
    pub self_signing: Option<CanonicalJsonObject>,
    /// Cross-signing key; its owner alone gets to see it.
    pub user_signing: Option<CanonicalJsonObject>,
}

impl Accounts {
    /// Publishes keys of a device; answers what it has now.
    pub async fn upload_keys(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        upload: KeyUpload,
    ) -> Result<DeviceState, UploadKeysError> {
        let device_keys = upload.device_keys.map(|keys| checked(keys, user_id, device_id)).transpose()?;
        let one_time = one_time::checked(upload.one_time_keys, upload.fallback_keys)?;
        if device_keys.is_none() && one_time.is_empty() {
            return Ok(self.device_state(user_id, device_id)?);
        }
        let localpart = self.key(user_id).ok_or(UploadKeysError::UnknownDevice)?.to_owned();
        let (domain, owner, key) = (self.domain, user_id.to_owned(), (localpart, device_id.to_string()));
        let commit = move |txn: &mut Txn| -> Result<DeviceState, UploadKeysError> {
            if txn.get(&DEVICE, domain, &key)?.is_none() {
                return Err(UploadKeysError::UnknownDevice);
            }
            let mut state = txn.get(&DEVICE_STATE, domain, &key)?.unwrap_or_default();
            // First what may be refused: whatever was written before an error would be committed.
            if !one_time.is_empty() {
                NewKeys::store(one_time, txn, domain, &key, &mut state)?;
                txn.put(&DEVICE_STATE, domain, &key, &state);
            }
            if let Some(new) = device_keys {
                let old = txn.get(&DEVICE_KEYS, domain, &key)?;
                let json = signed::canonical(&new);
                if old.as_ref() != Some(&json) {
                    let old = old.and_then(|old| signed::parse(&old).ok());
                    if old.is_none_or(|old| signed::signed_part(&old) != signed::signed_part(&new)) {
                        // Whoever signed the old keys did not sign these.
                        let signatures = KeyRange::prefix(&(owner.as_str(), key.1.as_str()));
                        txn.delete_range(&SIGNATURE, domain, signatures)?;
                    }
                    txn.put(&DEVICE_KEYS, domain, &key, &json);
                    note_change(txn, domain, &owner, None)?;
                    note_device(txn, domain, &owner, &key.1)?;
                }
            }
            Ok(state.into())
        };
        self.change(commit).await?
    }

    /// What is published about a user of this server, as `asker` may see it: the devices named, or all of them if none
    /// is. `None`: there is no such user.
    pub fn user_keys(
        &self,
        asker: &UserId,
        user_id: &UserId,
        devices: &[String],
    ) -> Result<Option<UserKeys>, StoreUnavailable> {
        self.published(Some(asker), user_id, devices)
    }

    /// The same as other servers may see it: with the owner's signatures alone.
    /// [SS-API §post_matrixfederationv1userkeysquery]
    pub fn keys_for_servers(&self, user_id: &UserId, devices: &[String]) -> Result<Option<UserKeys>, StoreUnavailable> {
        self.published(None, user_id, devices)
    }

    fn published(
        &self,
        asker: Option<&UserId>,
        user_id: &UserId,
        devices: &[String],
    ) -> Result<Option<UserKeys>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        let view = self.shard.view();
        if view.get(&USER, self.domain, localpart)?.is_none() {
            return Ok(None);
        }
        let library = Library { accounts: self, view: &view, asker, user_id };
        let mut keys = UserKeys::default();
        if devices.is_empty() {
            for row in view.prefix(&DEVICE_KEYS, self.domain, &(localpart,), Direction::Forward) {
                let ((_, device_id), json) = row?;
                keys.devices.push(library.device(device_id, &json)?);
            }
        }
        for device_id in devices {
            if let Some(json) = view.get(&DEVICE_KEYS, self.domain, &(localpart, device_id.as_str()))? {
                keys.devices.push(library.device(device_id.clone(), &json)?);
            }
        }
        keys.master = library.cross_signing(Usage::Master)?;
        keys.self_signing = library.cross_signing(Usage::SelfSigning)?;
        if asker == Some(user_id) {
            keys.user_signing = library.cross_signing(Usage::UserSigning)?;
        }
        Ok(Some(keys))
    }
}

/// One look into what a user has published.
struct Library<'a> {
    accounts: &'a Accounts,
    view: &'a View,
    /// Another server if it is nobody.
    asker: Option<&'a UserId>,
    user_id: &'a UserId,
}

impl Library<'_> {
    fn device(&self, device_id: String, json: &str) -> Result<(String, CanonicalJsonObject), StoreUnavailable> {
        let mut keys = signed::parse(json)?;
        self.add_signatures(&mut keys, &device_id)?;
        let record = self.view.get(&DEVICE, self.accounts.domain, &(self.user_id.localpart(), device_id.as_str()))?;
        let mut unsigned = CanonicalJsonObject::new();
        if let Some(name) = record.and_then(|record| record.display_name) {
            unsigned.insert("device_display_name".to_owned(), name.into());
        }
        keys.insert("unsigned".to_owned(), CanonicalJsonValue::Object(unsigned));
        Ok((device_id, keys))
    }

    fn cross_signing(&self, usage: Usage) -> Result<Option<CanonicalJsonObject>, StoreUnavailable> {
        let key = (self.user_id.localpart(), usage.as_str());
        let Some(json) = self.view.get(&CROSS_SIGNING, self.accounts.domain, &key)? else { return Ok(None) };
        let mut key = signed::parse(&json)?;
        if let Some(public) = super::cross_signing::public_key(&key).map(ToOwned::to_owned) {
            self.add_signatures(&mut key, &public)?;
        }
        Ok(Some(key))
    }

    /// Signatures that came after the key: the owner's are for everybody, others' for who made them.
    fn add_signatures(&self, object: &mut CanonicalJsonObject, id: &str) -> Result<(), StoreUnavailable> {
        let other = self.asker.filter(|asker| *asker != self.user_id);
        for signer in std::iter::once(self.user_id).chain(other) {
            let key = (self.user_id.as_str(), id, signer.as_str());
            for row in self.view.prefix(&SIGNATURE, self.accounts.domain, &key, Direction::Forward) {
                let ((_, _, signer, key_id), signature) = row?;
                signed::add_signature(object, signer, key_id, signature);
            }
        }
        Ok(())
    }
}

/// Device keys that are those of this device, without what others are to fill in.
fn checked(
    mut keys: CanonicalJsonObject,
    user_id: &UserId,
    device_id: &DeviceId,
) -> Result<CanonicalJsonObject, UploadKeysError> {
    use UploadKeysError::Malformed;
    keys.remove("unsigned");
    let owner = signed::text(&keys, "user_id").ok_or(Malformed("user_id is missing"))?;
    let device = signed::text(&keys, "device_id").ok_or(Malformed("device_id is missing"))?;
    if owner != user_id.as_str() || device != device_id.as_str() {
        return Err(UploadKeysError::NotYours);
    }
    let algorithms = keys.get("algorithms").and_then(CanonicalJsonValue::as_array);
    let algorithms = algorithms.ok_or(Malformed("algorithms is missing"))?;
    if !algorithms.iter().all(CanonicalJsonValue::is_string) {
        return Err(Malformed("algorithms are texts"));
    }
    let public = keys.get("keys").and_then(CanonicalJsonValue::as_object).ok_or(Malformed("keys is missing"))?;
    if !public.values().all(CanonicalJsonValue::is_string) {
        return Err(Malformed("keys are texts"));
    }
    let signatures = keys.get("signatures").ok_or(Malformed("signatures is missing"))?;
    let signatures = signatures.as_object().ok_or(Malformed("signatures is no object"))?;
    if !signatures.values().all(CanonicalJsonValue::is_object) {
        return Err(Malformed("signatures are objects by user"));
    }
    let bytes = signed::canonical(&keys).len();
    if bytes > DEVICE_KEYS_BYTES_MAX {
        return Err(UploadKeysError::TooLarge { bytes, max: DEVICE_KEYS_BYTES_MAX });
    }
    Ok(keys)
}
