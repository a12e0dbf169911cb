//! `koine mail records`: what DNS is to say so that mails of this domain are believed.

use std::fmt;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal, mail_of};
use crate::program::Server;

/// Prints the DNS records by which others believe mails of this domain; makes the keys if there are none
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct MailRecords {}

/// The records.
#[derive(Serialize, Deserialize)]
pub struct Answer {
    records: Vec<(String, String)>,
}

impl Command for MailRecords {
    type Answer = Answer;

    async fn run(self, server: &Server) -> Result<Answer, Refusal> {
        Ok(Answer { records: mail_of(server)?.records().await.map_err(Refusal::because)? })
    }
}

/// Longest string in a TXT record. [RFC 1035 §3.3.14]
const STRING_BYTES_MAX: usize = 255;

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, text)) in self.records.iter().enumerate() {
            let parts: Vec<String> = text
                .as_bytes()
                .chunks(STRING_BYTES_MAX)
                .map(|part| format!("\"{}\"", String::from_utf8_lossy(part)))
                .collect();
            let end = if at + 1 == self.records.len() { "" } else { "\n" };
            write!(f, "{name}. IN TXT {}{end}", parts.join(" "))?;
        }
        Ok(())
    }
}
