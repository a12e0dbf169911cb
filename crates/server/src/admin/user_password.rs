//! `koine user password NAME`: sets the password of an account.

use std::fmt;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal, prompt, user_show::find};
use crate::program::Server;

/// Sets the password of an account. Asks for it, or reads it from standard input
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct UserPassword {
    /// Name or user id, as alice or @alice:example.org
    user: String,
    /// Make up a password and print it
    #[arg(long)]
    generate: bool,
    /// Log the account out on all its devices
    #[arg(long)]
    log_out: bool,
    /// Never on the command line, where everybody on the machine sees it.
    #[arg(skip)]
    password: String,
}

/// The password is set.
#[derive(Serialize, Deserialize)]
pub struct Set {
    user_id: String,
    /// The password, if it was made up here.
    generated_password: Option<String>,
}

impl Command for UserPassword {
    type Answer = Set;

    fn complete(&mut self) -> Result<(), Refusal> {
        self.password = prompt::obtain(self.generate)?;
        Ok(())
    }

    async fn run(self, server: &Server) -> Result<Set, Refusal> {
        let user_id = find(server, &self.user)?.user_id;
        server.accounts.set_password(&user_id, self.password.as_str().into()).await.map_err(Refusal::because)?;
        if self.log_out {
            server.accounts.delete_devices_except(&user_id, None).await.map_err(Refusal::because)?;
        }
        Ok(Set { user_id: user_id.into(), generated_password: self.generate.then_some(self.password) })
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has a new password", self.user_id)?;
        match &self.generated_password {
            Some(password) => write!(f, ": {password}"),
            None => Ok(()),
        }
    }
}
