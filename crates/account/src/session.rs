//! Sessions: who holds which access token.

use ruma_common::{OwnedDeviceId, OwnedUserId};

/// Somebody's session on one device, proven by an access token.
#[derive(Debug)]
pub struct Session {
    /// Who.
    pub user_id: OwnedUserId,
    /// On which device.
    pub device_id: OwnedDeviceId,
}

/// Why an access token proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// Never issued, or revoked since.
    #[error("the access token is not known")]
    UnknownToken,
    /// The session is still there and can be refreshed.
    #[error("the access token has expired")]
    TokenExpired,
    /// An admin has locked the account.
    #[error("the account is locked")]
    UserLocked,
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(String),
}
