//! Certificates by which programs of an account come in without its password. [XEP-0257]
//!
//! A certificate is kept as it was given, under a name that the account gave it. Whether it is one at all, and still good, is for
//! the caller to say; whoever shows one must have proven that they hold its key.

use koine_store::{Direction, Space, StoreError, Table, Txn, stored};
use ruma_common::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Accounts, StoreUnavailable, tables::USER};

/// Most certificates of one account.
pub const CERTIFICATES_MAX: usize = 16;
/// Largest certificate.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;
/// Longest name of a certificate.
pub const CERTIFICATE_NAME_BYTES_MAX: usize = 256;

/// What a certificate is known by.
pub type CertificateHash = [u8; 32];

/// (local part, name) → certificate.
pub(crate) const CERTIFICATE: Table<(String, String), CertificateRecord> =
    Table::new("account.certificate", Space::Accounts, 0xa9);
/// (hash of a certificate, local part) → its name there. Each row of [`CERTIFICATE`] has one, and the other way round.
pub(crate) const CERTIFICATE_OF: Table<(CertificateHash, String), String> =
    Table::new("account.certificate_of", Space::Accounts, 0xaa);

/// What is kept of a certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CertificateRecord {
    der: Vec<u8>,
    may_manage: bool,
}

stored!(CertificateRecord);

/// A certificate of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What the account calls it.
    pub name: String,
    /// The certificate in DER.
    pub der: Vec<u8>,
    /// Whoever came in by it may change the list.
    pub may_manage: bool,
}

impl Certificate {
    /// What it is known by.
    pub fn hash(&self) -> CertificateHash {
        certificate_hash(&self.der)
    }
}

/// What a certificate in DER is known by.
pub fn certificate_hash(der: &[u8]) -> CertificateHash {
    Sha256::digest(der).into()
}

/// Somebody on whose list a certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Whose list.
    pub user: OwnedUserId,
    /// Its name there.
    pub name: String,
    /// Whoever came in by it may change the list.
    pub may_manage: bool,
}

/// Why a certificate was not kept.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// There is no such account here.
    #[error("there is no such account")]
    UnknownUser,
    /// More than [`CERTIFICATES_MAX`].
    #[error("at most {CERTIFICATES_MAX} certificates can be kept")]
    TooMany,
    /// Larger than [`CERTIFICATE_BYTES_MAX`] or [`CERTIFICATE_NAME_BYTES_MAX`] allow.
    #[error(
        "the certificate has {0} bytes, at most {CERTIFICATE_BYTES_MAX} are allowed, and {CERTIFICATE_NAME_BYTES_MAX} for its name"
    )]
    TooLarge(usize),
    /// Another has that name, or it is there under another one.
    #[error("a certificate of that name, or this one, is on the list already")]
    Listed,
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl From<StoreError> for CertificateError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

impl Accounts {
    /// Puts a certificate on an account's list.
    pub async fn add_certificate(&self, user_id: &UserId, wanted: Certificate) -> Result<(), CertificateError> {
        let localpart = self.key(user_id).ok_or(CertificateError::UnknownUser)?.to_owned();
        if wanted.der.len() > CERTIFICATE_BYTES_MAX || wanted.name.len() > CERTIFICATE_NAME_BYTES_MAX {
            return Err(CertificateError::TooLarge(wanted.der.len()));
        }
        let (domain, of) = (self.domain, (wanted.hash(), localpart.clone()));
        let commit = move |txn: &mut Txn| -> Result<(), CertificateError> {
            if txn.get(&USER, domain, localpart.as_str())?.is_none_or(|user| user.is_deactivated) {
                return Err(CertificateError::UnknownUser);
            }
            let range = koine_store::KeyRange::prefix(&(localpart.as_str(),));
            let listed = txn.scan(&CERTIFICATE, domain, range)?;
            let is_known = txn.get(&CERTIFICATE_OF, domain, &of)?.is_some();
            if is_known || listed.iter().any(|((_, name), _)| *name == wanted.name) {
                return Err(CertificateError::Listed);
            }
            if listed.len() >= CERTIFICATES_MAX {
                return Err(CertificateError::TooMany);
            }
            txn.put(&CERTIFICATE_OF, domain, &of, &wanted.name);
            let record = CertificateRecord { der: wanted.der, may_manage: wanted.may_manage };
            txn.put(&CERTIFICATE, domain, &(localpart, wanted.name), &record);
            Ok(())
        };
        self.change(commit).await?
    }

    /// The certificates of an account, in the order of their names.
    pub fn certificates(&self, user_id: &UserId) -> Result<Vec<Certificate>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(Vec::new()) };
        let view = self.shard.view();
        let rows = view.prefix(&CERTIFICATE, self.domain, &(localpart,), Direction::Forward);
        let certificate = |((_, name), record): ((String, String), CertificateRecord)| Certificate {
            name,
            der: record.der,
            may_manage: record.may_manage,
        };
        rows.map(|row| row.map(certificate).map_err(StoreUnavailable::from)).collect()
    }

    /// Takes a certificate off an account's list; what it was known by, if it was there.
    pub async fn remove_certificate(
        &self,
        user_id: &UserId,
        name: &str,
    ) -> Result<Option<CertificateHash>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        let (domain, key) = (self.domain, (localpart.to_owned(), name.to_owned()));
        let commit = move |txn: &mut Txn| -> Result<Option<CertificateHash>, StoreError> {
            let Some(record) = txn.get(&CERTIFICATE, domain, &key)? else { return Ok(None) };
            let hash = certificate_hash(&record.der);
            txn.delete(&CERTIFICATE, domain, &key);
            txn.delete(&CERTIFICATE_OF, domain, &(hash, key.0));
            Ok(Some(hash))
        };
        Ok(self.change(commit).await??)
    }

    /// On whose lists a certificate is.
    pub fn holders(&self, hash: &CertificateHash) -> Result<Vec<Holder>, StoreUnavailable> {
        let view = self.shard.view();
        let mut holders = Vec::new();
        for row in view.prefix(&CERTIFICATE_OF, self.domain, &(*hash,), Direction::Forward) {
            let ((_, localpart), name) = row?;
            let record = view.get(&CERTIFICATE, self.domain, &(localpart.as_str(), name.as_str()))?;
            let user = self.user_id(&localpart)?;
            holders.extend(record.map(|record| Holder { user, name, may_manage: record.may_manage }));
        }
        Ok(holders)
    }

    pub(crate) async fn erase_certificates(&self, user_id: &UserId) -> Result<(), StoreUnavailable> {
        for certificate in self.certificates(user_id)? {
            self.remove_certificate(user_id, &certificate.name).await?;
        }
        Ok(())
    }
}
