//! `koine mail test`: how far a mail would come.

use std::fmt;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal, mail_of};
use crate::program::Server;

/// Says where a mail to an address would go, and whether it would be taken there; sends none
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct MailTest {
    /// The address
    address: String,
}

/// What was found, step by step.
#[derive(Serialize, Deserialize)]
pub struct Answer {
    steps: Vec<String>,
}

impl Command for MailTest {
    type Answer = Answer;

    async fn run(self, server: &Server) -> Result<Answer, Refusal> {
        Ok(Answer { steps: mail_of(server)?.test(&self.address).await })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.steps.join("\n"))
    }
}
