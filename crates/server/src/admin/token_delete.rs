//! `koine token delete TOKEN`: nobody makes an account with it any more.

use std::fmt;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal};
use crate::program::Server;

/// Deletes a registration token; accounts made with it stay
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct TokenDelete {
    /// The token
    token: String,
}

/// The token is gone.
#[derive(Serialize, Deserialize)]
pub struct Deleted {
    token: String,
}

impl Command for TokenDelete {
    type Answer = Deleted;

    async fn run(self, server: &Server) -> Result<Deleted, Refusal> {
        let tokens = server.accounts.registration_tokens().map_err(Refusal::because)?;
        if !tokens.iter().any(|token| token.token == self.token) {
            return Err(Refusal::because("there is no such token; `koine token list` shows all"));
        }
        server.accounts.delete_registration_token(&self.token).await.map_err(Refusal::because)?;
        Ok(Deleted { token: self.token })
    }
}

impl fmt::Display for Deleted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is gone", self.token)
    }
}
