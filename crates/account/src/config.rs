//! Settings of accounts. The server's configuration file has these under `[accounts]`.

use serde::{Deserialize, Serialize};

use crate::{LimitConfig, password::PasswordConfig};

/// Settings of accounts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccountConfig {
    /// Who may make an account by themselves: "open" (everybody), "token" (who was given a registration token), "closed"
    /// (nobody; an admin makes accounts). Default: "closed". Needs a restart.
    pub registration: Registration,
    /// How long an access token is good for, in seconds, when the client can refresh it. Default: 3600. Clients that
    /// cannot get tokens that last until they log out. Needs a restart.
    pub access_token_lifetime_s: u64,
    /// How often something may be done by one user or from one address.
    pub limits: LimitConfig,
    /// What hashing a password costs.
    pub passwords: PasswordConfig,
}

impl Default for AccountConfig {
    fn default() -> Self {
        Self {
            registration: Registration::default(),
            access_token_lifetime_s: 3600,
            limits: LimitConfig::default(),
            passwords: PasswordConfig::default(),
        }
    }
}

/// Who may make an account by themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Everybody.
    Open,
    /// Who was given a registration token.
    Token,
    /// Nobody: an admin makes accounts.
    #[default]
    Closed,
}
