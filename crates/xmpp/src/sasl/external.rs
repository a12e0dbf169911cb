//! EXTERNAL for clients: whoever holds the key of a certificate is the account on whose list it is, or the one whose address it
//! has, where an authority that the operator named vouches for that. [XEP-0178 §2] [XEP-0257]
//!
//! That they hold the key is TLS's to check, in the handshake; who may change the list, `xep/certificates.rs` says.

use ruma_common::OwnedUserId;

use super::{Attempt, Failure, Proven, check_authzid, check_state, permit};
use crate::{core::Core, stream::tls::Presented};

/// The mechanism.
pub(crate) const EXTERNAL: &str = "EXTERNAL";

/// The certificate by which somebody came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CameBy {
    /// What it is known by.
    pub(crate) hash: koine_account::CertificateHash,
    /// It is on the account's list; else an authority vouched for it.
    pub(crate) is_listed: bool,
    /// Whether the list may be changed by whoever came in so.
    pub(crate) may_manage: bool,
}

/// Whom a certificate that was shown stands for, and how. It is offered to nobody else. [XEP-0178 §2]
pub(super) fn meant(core: &Core, presented: &Presented) -> Result<Vec<(OwnedUserId, CameBy)>, Failure> {
    let hash = presented.hash;
    let holders = core.accounts().holders(&hash).map_err(|error| {
        tracing::error!(reason = %error, "the lists of certificates cannot be read: nobody can log in by one");
        Failure::TemporaryAuthFailure
    })?;
    let listed =
        |holder: koine_account::Holder| (holder.user, CameBy { hash, is_listed: true, may_manage: holder.may_manage });
    let mut meant: Vec<_> = holders.into_iter().map(listed).collect();
    for user in presented.addresses.iter().filter_map(|address| core.user_of(address)) {
        if core.is_account(&user) && !meant.iter().any(|(other, _)| *other == user) {
            meant.push((user, CameBy { hash, is_listed: false, may_manage: true }));
        }
    }
    Ok(meant)
}

pub(super) fn check(message: &[u8], attempt: &Attempt<'_>) -> Result<Proven, Failure> {
    permit(attempt, None)?;
    let wanted = std::str::from_utf8(message).map_err(|_| Failure::MalformedRequest)?;
    let presented = attempt.security.certificate.as_ref().ok_or(Failure::NotAuthorized)?;
    let mut meant = meant(attempt.core, presented)?;
    if !wanted.is_empty() {
        meant.retain(|(user, _)| check_authzid(wanted, Some(user), attempt).is_ok());
    }
    // Somebody whom it is not for, or several and none of them named. [XEP-0178 §2]
    let (Some((user, came_by)), None) = (meant.pop(), meant.pop()) else { return Err(Failure::InvalidAuthzid) };
    let now_s = attempt.core.now_ms() / 1_000;
    if now_s > *presented.validity.end() {
        // [XEP-0257 §saslext] However much its owner wants it.
        return Err(Failure::CredentialsExpired);
    }
    if now_s < *presented.validity.start() {
        return Err(Failure::NotAuthorized);
    }
    check_state(&user, attempt)?;
    Ok(Proven { user, data: None, token: None, came_by: Some(came_by) })
}
