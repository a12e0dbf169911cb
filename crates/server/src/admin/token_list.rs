//! `koine token list`: every registration token.

use std::fmt;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal};
use crate::program::Server;

/// Lists all registration tokens
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct TokenList {}

/// The tokens.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct List(Vec<Line>);

#[derive(Serialize, Deserialize)]
struct Line {
    token: String,
    uses_allowed: Option<u64>,
    completed: u64,
}

impl Command for TokenList {
    type Answer = List;

    async fn run(self, server: &Server) -> Result<List, Refusal> {
        let tokens = server.accounts.registration_tokens().map_err(Refusal::because)?;
        let lines = tokens.into_iter().map(|token| Line {
            token: token.token,
            uses_allowed: token.uses_allowed,
            completed: token.completed,
        });
        Ok(List(lines.collect()))
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.0 {
            let allowed = line.uses_allowed.map_or("any number".to_owned(), |uses| uses.to_string());
            writeln!(f, "{:<40} used {} times of {allowed}", line.token, line.completed)?;
        }
        write!(f, "{} tokens", self.0.len())
    }
}
