//! `koine mail retry`: mails that wait are tried now.

use std::fmt;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal, mail_of};
use crate::program::Server;

/// Tries now to deliver what waits
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct MailRetry {
    /// Only what waits for this destination, as `koine mail queue` names it
    destination: Option<String>,
}

/// How many destinations that are.
#[derive(Serialize, Deserialize)]
pub struct Answer {
    destinations: u64,
}

impl Command for MailRetry {
    type Answer = Answer;

    async fn run(self, server: &Server) -> Result<Answer, Refusal> {
        let destinations = mail_of(server)?.retry(self.destination).await.map_err(Refusal::because)?;
        Ok(Answer { destinations })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} destinations are tried now", self.destinations)
    }
}
