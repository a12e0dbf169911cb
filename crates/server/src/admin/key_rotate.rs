//! `koine key rotate`

use std::fmt;

use clap::Args;
use ruma_common::MilliSecondsSinceUnixEpoch;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal};
use crate::{program::Server, signing_key};

/// Replaces the key that signs for this server, from the next start on; what the old one signed stays good
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct KeyRotate {}

/// Both keys.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rotated {
    old: String,
    new: String,
}

impl Command for KeyRotate {
    type Answer = Rotated;

    async fn run(self, server: &Server) -> Result<Rotated, Refusal> {
        let now = MilliSecondsSinceUnixEpoch::now();
        let (old, new) =
            signing_key::rotate(&server.config.data_dir, now, &mut rand::rng()).map_err(Refusal::because)?;
        Ok(Rotated { old, new })
    }
}

impl fmt::Display for Rotated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} signs in place of {} from the next start on: restart the server soon", self.new, self.old)
    }
}
