//! `koine user show NAME`: what is known of an account; and finding it, for the other commands.

use std::fmt;

use clap::Args;
use koine_account::UserInfo;
use ruma_common::OwnedUserId;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal};
use crate::program::Server;

/// Shows an account, its devices and its rooms
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct UserShow {
    /// Name or user id, as alice or @alice:example.org
    user: String,
}

/// An account, as all commands print it.
#[derive(Serialize, Deserialize)]
pub struct Account {
    /// Who.
    pub user_id: String,
    created_ms: u64,
    has_password: bool,
    is_admin: bool,
    is_locked: bool,
    is_suspended: bool,
    is_deactivated: bool,
}

/// An account with what it has.
#[derive(Serialize, Deserialize)]
pub struct Shown {
    #[serde(flatten)]
    account: Account,
    devices: Vec<ShownDevice>,
    rooms: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct ShownDevice {
    device_id: String,
    name: Option<String>,
}

impl From<UserInfo> for Account {
    fn from(user: UserInfo) -> Self {
        Self {
            user_id: user.user_id.into(),
            created_ms: user.created.get().into(),
            has_password: user.has_password,
            is_admin: user.is_admin,
            is_locked: user.is_locked,
            is_suspended: user.is_suspended,
            is_deactivated: user.is_deactivated,
        }
    }
}

impl Account {
    /// What is out of the ordinary, in words.
    pub fn condition(&self) -> String {
        let conditions = [
            (self.is_admin, "admin"),
            (self.is_locked, "locked"),
            (self.is_suspended, "suspended"),
            (self.is_deactivated, "deactivated"),
            (!self.has_password && !self.is_deactivated, "without password"),
        ];
        conditions.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
    }
}

/// The account of this name or id.
pub fn find(server: &Server, user: &str) -> Result<UserInfo, Refusal> {
    let id = match user.starts_with('@') {
        true => OwnedUserId::try_from(user),
        false => OwnedUserId::try_from(format!("@{user}:{}", server.config.server_name)),
    };
    let id = id.map_err(|error| Refusal::because(format!("{user} is no name of an account: {error}")))?;
    let found = server.accounts.user(&id).map_err(Refusal::because)?;
    found.ok_or_else(|| Refusal::because(format!("there is no account {id}; `koine user list` shows all")))
}

impl Command for UserShow {
    type Answer = Shown;

    async fn run(self, server: &Server) -> Result<Shown, Refusal> {
        let user = find(server, &self.user)?;
        let devices = server.accounts.devices(&user.user_id).map_err(Refusal::because)?;
        let rooms = server.rooms.joined(&user.user_id).map_err(Refusal::because)?;
        Ok(Shown {
            account: user.into(),
            devices: devices
                .into_iter()
                .map(|device| ShownDevice { device_id: device.device_id.into(), name: device.display_name })
                .collect(),
            rooms: rooms.into_iter().map(Into::into).collect(),
        })
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, devices, rooms } = self;
        writeln!(f, "{} {}", account.user_id, account.condition())?;
        for device in devices {
            writeln!(f, "  device {} {}", device.device_id, device.name.as_deref().unwrap_or_default())?;
        }
        for room in rooms {
            writeln!(f, "  room   {room}")?;
        }
        Ok(())
    }
}
