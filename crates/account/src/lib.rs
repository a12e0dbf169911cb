//! People: credentials, sessions, devices, profiles, account data.

mod limit;
mod session;

use std::{net::IpAddr, sync::Arc, time::Duration};

pub use limit::{Class, LimitConfig, LimitExceeded, LimitKey, Limits, Rate};
pub use session::{AuthenticateError, Session};

/// The accounts of one domain.
pub struct Accounts {
    limits: Limits,
}

impl Accounts {
    /// Whose token this is.
    pub fn authenticate(&self, _token: &str, _address: Option<IpAddr>) -> Result<Arc<Session>, AuthenticateError> {
        Err(AuthenticateError::UnknownToken)
    }

    /// Takes one from what `key` may still do of this class.
    pub fn permit(&self, class: Class, key: LimitKey<'_>) -> Result<(), LimitExceeded> {
        self.limits.take(class, key, Duration::ZERO)
    }
}
