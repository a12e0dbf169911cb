//! `koine user deactivate NAME`: closes an account for ever.

use std::fmt;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal, user_show::find};
use crate::program::Server;

/// Closes an account for ever: it leaves its rooms, nobody can log in, its name stays taken
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct UserDeactivate {
    /// Name or user id, as alice or @alice:example.org
    user: String,
    /// Hide what it wrote from people who join later
    #[arg(long)]
    erase: bool,
}

/// The account is closed.
#[derive(Serialize, Deserialize)]
pub struct Closed {
    user_id: String,
}

impl Command for UserDeactivate {
    type Answer = Closed;

    async fn run(self, server: &Server) -> Result<Closed, Refusal> {
        let user_id = find(server, &self.user)?.user_id;
        server.accounts.deactivate(&user_id, self.erase).await.map_err(Refusal::because)?;
        server.rooms.leave_all(&user_id).await.map_err(Refusal::because)?;
        Ok(Closed { user_id: user_id.into() })
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is closed for ever", self.user_id)
    }
}
