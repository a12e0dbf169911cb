//! `koine user list`: every account.

use std::fmt;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal, user_show::Account};
use crate::program::Server;

/// Accounts fetched from the store at once.
const PAGE: usize = 500;

/// Lists all accounts
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct UserList {
    /// Also those that were deactivated
    #[arg(long)]
    all: bool,
}

/// The accounts, in the order of their names.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct List(Vec<Account>);

impl Command for UserList {
    type Answer = List;

    async fn run(self, server: &Server) -> Result<List, Refusal> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = server.accounts.users(after.as_deref(), PAGE).map_err(Refusal::because)?;
            let Some(last) = page.last() else { return Ok(List(found)) };
            after = Some(last.user_id.localpart().to_owned());
            found.extend(page.into_iter().filter(|user| self.all || !user.is_deactivated).map(Account::from));
        }
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for account in &self.0 {
            writeln!(f, "{:<40} {}", account.user_id, account.condition())?;
        }
        write!(f, "{} accounts", self.0.len())
    }
}
