//! Cross-signing keys: a user's master key, and the two that it vouches for.
//!
//! [CS-API §cross-signing] [CS-API §post_matrixclientv3keysdevice_signingupload]

use koine_store::{DomainId, KeyRange, StoreError, Txn};
use ruma_common::{CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, UserId};

use super::{
    changes::note_change,
    device_keys::DEVICE_KEYS_BYTES_MAX,
    signed,
    tables::{CROSS_SIGNING, SIGNATURE},
};
use crate::{
    Accounts, StoreUnavailable,
    log::{self, Kind},
    tables::{DEVICE, USER},
};

/// What a cross-signing key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    Master,
    SelfSigning,
    UserSigning,
}

impl Usage {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::SelfSigning => "self_signing",
            Self::UserSigning => "user_signing",
        }
    }
}

/// Cross-signing keys to be published; those that stay are left out.
#[derive(Debug, Default)]
pub struct CrossSigningKeys {
    /// The key that vouches for the other two.
    pub master: Option<CanonicalJsonObject>,
    /// The key that vouches for the user's devices.
    pub self_signing: Option<CanonicalJsonObject>,
    /// The key that vouches for other users.
    pub user_signing: Option<CanonicalJsonObject>,
}

/// Why cross-signing keys were not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadCrossSigningError {
    /// Keys would be replaced: the user has to prove that they are who they are.
    #[error("keys would be replaced")]
    ProofNeeded,
    /// Neither sent nor stored.
    #[error("there is no master key")]
    NoMasterKey,
    /// Not what the specification says such a key is.
    #[error("not a {0} key: {1}")]
    Malformed(&'static str, &'static str),
    /// The master key did not sign this one.
    #[error("the {0} key is not signed by the master key")]
    InvalidSignature(&'static str),
    /// The public key is the id of one of the user's devices.
    #[error("the {0} key is called like a device of yours")]
    KeyIdInUse(&'static str),
    /// There is no such account here.
    #[error("there is no such account")]
    UnknownUser,
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl From<StoreError> for UploadCrossSigningError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

impl Accounts {
    /// Publishes cross-signing keys. Without `is_proven` only the first ones, and those that are there already.
    pub async fn upload_cross_signing(
        &self,
        user_id: &UserId,
        keys: CrossSigningKeys,
        is_proven: bool,
    ) -> Result<(), UploadCrossSigningError> {
        let named = [
            (Usage::Master, keys.master),
            (Usage::SelfSigning, keys.self_signing),
            (Usage::UserSigning, keys.user_signing),
        ];
        let mut new = Vec::new();
        for (usage, key) in named {
            if let Some(key) = key {
                new.push((usage, checked(key, user_id, usage)?));
            }
        }
        let upload = Upload { domain: self.domain, user_id: user_id.to_owned(), new };
        if self.key(user_id).is_none() {
            return Err(UploadCrossSigningError::UnknownUser);
        }
        self.change(move |txn| upload.write(txn, is_proven)).await?
    }
}

struct Upload {
    domain: DomainId,
    user_id: OwnedUserId,
    new: Vec<(Usage, CanonicalJsonObject)>,
}

impl Upload {
    fn write(self, txn: &mut Txn, is_proven: bool) -> Result<(), UploadCrossSigningError> {
        let user = txn.get(&USER, self.domain, self.user_id.localpart())?;
        if user.is_none_or(|user| user.is_deactivated) {
            return Err(UploadCrossSigningError::UnknownUser);
        }
        let old_master = self.stored(txn, Usage::Master)?;
        let mut is_new = false;
        for (usage, key) in &self.new {
            is_new |= self.stored(txn, *usage)?.is_none_or(|old| old.get("keys") != key.get("keys"));
        }
        if !is_new {
            // [CS-API §post_matrixclientv3keysdevice_signingupload] The same once more is done already. Nothing at all
            // without there being a master key is not.
            return if old_master.is_some() { Ok(()) } else { Err(UploadCrossSigningError::NoMasterKey) };
        }
        let new_master = self.new.iter().find(|(usage, _)| *usage == Usage::Master).map(|(_, key)| key);
        let master = new_master.or(old_master.as_ref()).ok_or(UploadCrossSigningError::NoMasterKey)?;
        self.check(txn, master)?;
        if old_master.is_some() && !is_proven {
            return Err(UploadCrossSigningError::ProofNeeded);
        }
        let is_other_master = old_master.as_ref().is_some_and(|old| old.get("keys") != master.get("keys"));
        if is_other_master {
            // What the old master key vouched for is worth nothing any more.
            for usage in [Usage::Master, Usage::SelfSigning, Usage::UserSigning] {
                self.remove(txn, usage)?;
            }
        }
        for (usage, key) in &self.new {
            let old = self.stored(txn, *usage)?;
            if old.is_some_and(|old| old.get("keys") != key.get("keys")) {
                self.remove(txn, *usage)?;
            }
            txn.put(&CROSS_SIGNING, self.domain, &self.key(*usage), &signed::canonical(key));
        }
        note_signing_keys(txn, self.domain, &self.user_id)?;
        Ok(())
    }

    /// Whether each new key is signed by the master key, and none is called like a device.
    fn check(&self, txn: &mut Txn, master: &CanonicalJsonObject) -> Result<(), UploadCrossSigningError> {
        let public = public_key(master).unwrap_or_default();
        let key_id = format!("ed25519:{public}");
        for (usage, key) in &self.new {
            let name = usage.as_str();
            if *usage != Usage::Master {
                let signature = signed::signature(key, self.user_id.as_str(), &key_id);
                if !signature.is_some_and(|signature| signed::is_signature(key, signature, public)) {
                    return Err(UploadCrossSigningError::InvalidSignature(name));
                }
            }
            let own = public_key(key).unwrap_or_default();
            if txn.get(&DEVICE, self.domain, &(self.user_id.localpart(), own))?.is_some() {
                return Err(UploadCrossSigningError::KeyIdInUse(name));
            }
        }
        Ok(())
    }

    fn key(&self, usage: Usage) -> (&str, &'static str) {
        (self.user_id.localpart(), usage.as_str())
    }

    fn stored(&self, txn: &mut Txn, usage: Usage) -> Result<Option<CanonicalJsonObject>, UploadCrossSigningError> {
        let json = txn.get(&CROSS_SIGNING, self.domain, &self.key(usage))?;
        Ok(json.map(|json| signed::parse(&json)).transpose()?)
    }

    fn remove(&self, txn: &mut Txn, usage: Usage) -> Result<(), StoreUnavailable> {
        remove(txn, self.domain, &self.user_id, usage).map(|_| ())
    }
}

/// Takes a cross-signing key away, with the signatures under it.
fn remove(txn: &mut Txn, domain: DomainId, user_id: &UserId, usage: Usage) -> Result<bool, StoreUnavailable> {
    let key = (user_id.localpart(), usage.as_str());
    let Some(json) = txn.get(&CROSS_SIGNING, domain, &key)? else { return Ok(false) };
    txn.delete(&CROSS_SIGNING, domain, &key);
    if let Some(public) = public_key(&signed::parse(&json)?) {
        txn.delete_range(&SIGNATURE, domain, KeyRange::prefix(&(user_id.as_str(), public)))?;
    }
    Ok(true)
}

impl Accounts {
    /// The account is closed: nobody is to take its keys for good any more.
    pub(crate) async fn erase_cross_signing(&self, user_id: &UserId) -> Result<(), StoreUnavailable> {
        let (domain, owner) = (self.domain, user_id.to_owned());
        let commit = move |txn: &mut Txn| -> Result<(), StoreUnavailable> {
            let mut is_changed = false;
            for usage in [Usage::Master, Usage::SelfSigning, Usage::UserSigning] {
                is_changed |= remove(txn, domain, &owner, usage)?;
            }
            if is_changed {
                note_signing_keys(txn, domain, &owner)?;
            }
            Ok(())
        };
        self.change(commit).await?
    }
}

/// Tells everybody who shares a room with the user, here and elsewhere.
pub(super) fn note_signing_keys(txn: &mut Txn, domain: DomainId, user_id: &UserId) -> Result<(), StoreError> {
    note_change(txn, domain, user_id, None)?;
    txn.append(log::entry(domain, user_id, Kind::SigningKeys, ""));
    Ok(())
}

/// The one public key of a cross-signing key, without padding: it is the key's name as well.
pub(super) fn public_key(key: &CanonicalJsonObject) -> Option<&str> {
    let keys = key.get("keys")?.as_object()?;
    keys.keys().next()?.strip_prefix("ed25519:")
}

/// [CS-API §definition-crosssigningkey]
pub(super) fn checked(
    mut key: CanonicalJsonObject,
    user_id: &UserId,
    usage: Usage,
) -> Result<CanonicalJsonObject, UploadCrossSigningError> {
    let malformed = |why| UploadCrossSigningError::Malformed(usage.as_str(), why);
    key.remove("unsigned");
    if signed::text(&key, "user_id") != Some(user_id.as_str()) {
        return Err(malformed("user_id is not yours"));
    }
    let usages = key.get("usage").and_then(CanonicalJsonValue::as_array).unwrap_or_default();
    if !usages.iter().any(|one| one.as_str() == Some(usage.as_str())) {
        return Err(malformed("usage does not say so"));
    }
    let keys = key.get("keys").and_then(CanonicalJsonValue::as_object).ok_or(malformed("keys is missing"))?;
    let mut pairs = keys.iter();
    let (Some((key_id, value)), None) = (pairs.next(), pairs.next()) else {
        return Err(malformed("keys must hold one key"));
    };
    let public = key_id.strip_prefix("ed25519:").ok_or(malformed("only ed25519 keys are known"))?;
    if value.as_str() != Some(public) || signed::public_key_of(public).is_none() {
        return Err(malformed("keys must name the key by itself"));
    }
    if signed::canonical(&key).len() > DEVICE_KEYS_BYTES_MAX {
        return Err(malformed("it is too large"));
    }
    Ok(key)
}
