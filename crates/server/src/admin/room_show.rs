//! `koine room show ROOM`: what is known of a room.

use std::fmt;

use clap::Args;
use ruma_common::{OwnedRoomAliasId, OwnedRoomId};
use serde::{Deserialize, Serialize};

use super::{Command, Refusal};
use crate::program::Server;

/// Shows a room and who is in it
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct RoomShow {
    /// Room id or alias, as !abc:example.org or #welcome:example.org
    room: String,
}

/// A room with its people.
#[derive(Serialize, Deserialize)]
pub struct Shown {
    room_id: String,
    version: String,
    name: Option<String>,
    topic: Option<String>,
    canonical_alias: Option<String>,
    join_rule: Option<String>,
    is_listed: bool,
    joined_members: Vec<String>,
}

impl Command for RoomShow {
    type Answer = Shown;

    async fn run(self, server: &Server) -> Result<Shown, Refusal> {
        let room_id = match self.room.starts_with('#') {
            true => {
                let alias = OwnedRoomAliasId::try_from(self.room.as_str()).map_err(Refusal::because)?;
                server.rooms.resolve_alias(&alias).map_err(Refusal::because)?
            }
            false => OwnedRoomId::try_from(self.room.as_str()).map_err(Refusal::because)?,
        };
        let room = server.rooms.room(&room_id).map_err(Refusal::because)?;
        let summary = room.summary().map_err(Refusal::because)?;
        let members = room.joined_members().map_err(Refusal::because)?;
        Ok(Shown {
            version: room.version().to_string(),
            name: summary.name,
            topic: summary.topic,
            canonical_alias: summary.canonical_alias,
            join_rule: summary.join_rule,
            is_listed: server.rooms.is_listed(&room_id).map_err(Refusal::because)?,
            joined_members: members.into_iter().map(|(user, _)| user.into()).collect(),
            room_id: room_id.into(),
        })
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = if self.is_listed { "yes" } else { "no" };
        writeln!(f, "{}", self.room_id)?;
        let facts = [
            ("name", self.name.as_deref()),
            ("topic", self.topic.as_deref()),
            ("alias", self.canonical_alias.as_deref()),
            ("version", Some(self.version.as_str())),
            ("join rule", self.join_rule.as_deref()),
            ("listed", Some(listed)),
        ];
        for (name, value) in facts {
            if let Some(value) = value {
                writeln!(f, "  {name:<10} {value}")?;
            }
        }
        for member in &self.joined_members {
            writeln!(f, "  {:<10} {member}", "member")?;
        }
        Ok(())
    }
}
