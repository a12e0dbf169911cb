//! Signatures that users put under keys: under their own devices, their own master key, and the master keys of others.
//!
//! [CS-API §post_matrixclientv3keyssignaturesupload]. What somebody signed of another's is theirs alone to see: whom they
//! have met is nobody else's business. [CS-API §key-and-signature-security]

use std::collections::BTreeMap;

use koine_store::{DomainId, StoreError, Txn};
use ruma_common::{CanonicalJsonObject, OwnedUserId, UserId};

use super::{
    changes::note_change,
    cross_signing::{Usage, public_key},
    device_stream::note_device,
    signed,
    tables::{CROSS_SIGNING, DEVICE_KEYS, REMOTE_USER, SIGNATURE},
};
use crate::{
    Accounts, StoreUnavailable,
    log::{self, Kind},
};

/// How many objects one request may bring.
pub const SIGNATURES_MAX: usize = 1000;

/// Signed objects by user and key id. [CS-API §post_matrixclientv3keyssignaturesupload]
pub type SignedObjects = BTreeMap<OwnedUserId, BTreeMap<String, CanonicalJsonObject>>;

/// Why one signed object was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRefused {
    /// No device or master key of this id.
    #[error("there is no such key")]
    UnknownKey,
    /// Something else was signed than what is stored.
    #[error("this is not the key that is stored")]
    OtherKey,
    /// The key that is to sign such things was never uploaded.
    #[error("you have no key to sign this with")]
    NoSigningKey,
    /// No signature by the right key, or one that does not hold.
    #[error("the signature is not valid")]
    InvalidSignature,
    /// More than [`SIGNATURES_MAX`].
    #[error("too many signatures at once, at most {SIGNATURES_MAX} are taken")]
    TooMany,
}

/// Everything that did not work, by user and key id.
type Failures = Vec<(OwnedUserId, String, SignatureRefused)>;

impl Accounts {
    /// Takes the signatures of `signer`; answers what was refused.
    pub async fn upload_signatures(
        &self,
        signer: &UserId,
        objects: SignedObjects,
    ) -> Result<Failures, StoreUnavailable> {
        let desk = Desk { domain: self.domain, server: self.server_name.to_string(), signer: signer.to_owned() };
        let commit = move |txn: &mut Txn| -> Result<Failures, StoreUnavailable> {
            let mut failures = Vec::new();
            let mut taken = 0;
            for (user_id, objects) in objects {
                let mut is_changed = false;
                for (key_id, object) in objects {
                    taken += 1;
                    let outcome = match taken > SIGNATURES_MAX {
                        true => Err(SignatureRefused::TooMany),
                        false => desk.take(txn, &user_id, &key_id, &object)?,
                    };
                    match outcome {
                        Ok(true) => {
                            is_changed = true;
                            desk.tell_others(txn, &user_id, &key_id)?;
                        }
                        Ok(false) => {}
                        Err(refused) => failures.push((user_id.clone(), key_id, refused)),
                    }
                }
                if is_changed {
                    let only = (user_id != desk.signer).then_some(&*desk.signer);
                    note_change(txn, desk.domain, &user_id, only)?;
                }
            }
            Ok(failures)
        };
        self.change(commit).await?
    }
}

/// Where signatures of one user are taken in.
struct Desk {
    domain: DomainId,
    server: String,
    signer: OwnedUserId,
}

/// A key that may sign.
struct SigningKey {
    id: String,
    public: String,
}

impl Desk {
    /// Takes one signed object; whether that was something new.
    fn take(
        &self,
        txn: &mut Txn,
        user_id: &UserId,
        key_id: &str,
        object: &CanonicalJsonObject,
    ) -> Result<Result<bool, SignatureRefused>, StoreUnavailable> {
        let is_own = user_id == self.signer;
        let device = if is_own { self.device_keys(txn, key_id)? } else { None };
        let is_device = device.is_some();
        let stored = match device {
            Some(device) => Some(device),
            None => self.cross_signing(txn, user_id, Usage::Master)?.filter(|key| public_key(key) == Some(key_id)),
        };
        let Some(stored) = stored else { return Ok(Err(SignatureRefused::UnknownKey)) };
        if signed::signed_part(&stored) != signed::signed_part(object) {
            return Ok(Err(SignatureRefused::OtherKey));
        }
        let signers = match (is_own, is_device) {
            // Own devices are vouched for by the self-signing key,
            (true, true) => self.own_key(txn, Usage::SelfSigning)?.into_iter().collect(),
            // the own master key by devices,
            (true, false) => self.signing_devices(txn, object)?,
            // and other people by the user-signing key.
            (false, _) => self.own_key(txn, Usage::UserSigning)?.into_iter().collect::<Vec<_>>(),
        };
        if signers.is_empty() {
            return Ok(Err(SignatureRefused::NoSigningKey));
        }
        let mut valid = Vec::new();
        for signer in signers {
            let Some(signature) = signed::signature(object, self.signer.as_str(), &signer.id) else { continue };
            if !signed::is_signature(object, signature, &signer.public) {
                return Ok(Err(SignatureRefused::InvalidSignature));
            }
            valid.push((signer.id, signature.to_owned()));
        }
        if valid.is_empty() {
            return Ok(Err(SignatureRefused::InvalidSignature));
        }
        let mut is_new = false;
        for (signer, signature) in valid {
            let key = (user_id.to_string(), key_id.to_owned(), self.signer.to_string(), signer);
            is_new |= txn.get(&SIGNATURE, self.domain, &key)?.as_ref() != Some(&signature);
            txn.put(&SIGNATURE, self.domain, &key, &signature);
        }
        Ok(Ok(is_new))
    }

    /// Other servers are told of signatures that people put under what is their own.
    /// [SS-API §definition-mdevice_list_update]
    fn tell_others(&self, txn: &mut Txn, user_id: &UserId, key_id: &str) -> Result<(), StoreUnavailable> {
        if user_id != self.signer {
            return Ok(());
        }
        if txn.get(&DEVICE_KEYS, self.domain, &(user_id.localpart(), key_id))?.is_some() {
            note_device(txn, self.domain, user_id, key_id)?;
        } else {
            txn.append(log::entry(self.domain, user_id, Kind::SigningKeys, ""));
        }
        Ok(())
    }

    fn device_keys(&self, txn: &mut Txn, device_id: &str) -> Result<Option<CanonicalJsonObject>, StoreUnavailable> {
        let json = txn.get(&DEVICE_KEYS, self.domain, &(self.signer.localpart(), device_id))?;
        json.map(|json| signed::parse(&json)).transpose()
    }

    fn cross_signing(
        &self,
        txn: &mut Txn,
        user_id: &UserId,
        usage: Usage,
    ) -> Result<Option<CanonicalJsonObject>, StoreUnavailable> {
        if user_id.server_name().as_str() != self.server {
            // What is remembered of somebody else's: their client asked for it before its user signed it.
            let known = txn.get(&REMOTE_USER, self.domain, user_id.as_str())?;
            let master = known.and_then(|known| known.master).filter(|_| usage == Usage::Master);
            return master.map(|json| signed::parse(&json)).transpose();
        }
        let json: Result<_, StoreError> = txn.get(&CROSS_SIGNING, self.domain, &(user_id.localpart(), usage.as_str()));
        json?.map(|json| signed::parse(&json)).transpose()
    }

    fn own_key(&self, txn: &mut Txn, usage: Usage) -> Result<Option<SigningKey>, StoreUnavailable> {
        let key = self.cross_signing(txn, &self.signer, usage)?;
        let public = key.as_ref().and_then(public_key);
        Ok(public.map(|public| SigningKey { id: format!("ed25519:{public}"), public: public.to_owned() }))
    }

    /// Those of the signer's devices whose signatures the object carries.
    fn signing_devices(
        &self,
        txn: &mut Txn,
        object: &CanonicalJsonObject,
    ) -> Result<Vec<SigningKey>, StoreUnavailable> {
        let signatures =
            object.get("signatures").and_then(|all| all.as_object()?.get(self.signer.as_str())?.as_object());
        let mut devices = Vec::new();
        for id in signatures.into_iter().flat_map(|signatures| signatures.keys()).take(SIGNATURES_MAX) {
            let Some(device_id) = id.strip_prefix("ed25519:") else { continue };
            let Some(keys) = self.device_keys(txn, device_id)? else { continue };
            if let Some(public) = signed::key(&keys, id) {
                devices.push(SigningKey { id: id.clone(), public: public.to_owned() });
            }
        }
        Ok(devices)
    }
}
