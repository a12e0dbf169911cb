//! `koine user create NAME`: makes an account, whatever the registration setting says.

use std::fmt;

use clap::Args;
use koine_account::NewAccount;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal, prompt};
use crate::program::Server;

/// Makes an account. Asks for its password, or reads it from standard input
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct UserCreate {
    /// The part before the colon, as alice
    name: String,
    /// May administer this server through clients
    #[arg(long)]
    admin: bool,
    /// Make up a password and print it
    #[arg(long)]
    generate: bool,
    /// Never on the command line, where everybody on the machine sees it.
    #[arg(skip)]
    password: String,
}

/// The account that was made.
#[derive(Serialize, Deserialize)]
pub struct Created {
    user_id: String,
    /// The password, if it was made up here.
    generated_password: Option<String>,
}

impl Command for UserCreate {
    type Answer = Created;

    fn complete(&mut self) -> Result<(), Refusal> {
        self.password = prompt::obtain(self.generate)?;
        Ok(())
    }

    async fn run(self, server: &Server) -> Result<Created, Refusal> {
        let account = NewAccount {
            name: Some(self.name),
            password: Some(self.password.as_str().into()),
            is_admin: self.admin,
            ..NewAccount::default()
        };
        let (user_id, _) = server.accounts.create(account).await.map_err(Refusal::because)?;
        Ok(Created { user_id: user_id.into(), generated_password: self.generate.then_some(self.password) })
    }
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "made {}", self.user_id)?;
        match &self.generated_password {
            Some(password) => write!(f, ", password: {password}"),
            None => Ok(()),
        }
    }
}
