//! `koine token create`: a word with which somebody may make an account where `registration = "token"`.

use std::fmt;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal};
use crate::program::Server;

/// Makes a registration token
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct TokenCreate {
    /// The token itself; made up if not given
    token: Option<String>,
    /// For how many accounts it is good; for any number if not given
    #[arg(long, value_name = "N")]
    uses: Option<u64>,
}

/// The token that was made.
#[derive(Serialize, Deserialize)]
pub struct Made {
    token: String,
}

impl Command for TokenCreate {
    type Answer = Made;

    async fn run(self, server: &Server) -> Result<Made, Refusal> {
        let made = server.accounts.create_registration_token(self.token, self.uses, None).await;
        Ok(Made { token: made.map_err(Refusal::because)? })
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.token)
    }
}
