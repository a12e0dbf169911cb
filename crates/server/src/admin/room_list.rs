//! `koine room list`: every room that this server is in.

use std::fmt;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal};
use crate::program::Server;

/// Rooms fetched from the store at once.
const PAGE: usize = 500;

/// Lists all rooms
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct RoomList {}

/// The rooms, oldest first.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct List(Vec<Line>);

#[derive(Serialize, Deserialize)]
struct Line {
    room_id: String,
    name: Option<String>,
    canonical_alias: Option<String>,
    joined_members: u64,
}

impl Command for RoomList {
    type Answer = List;

    async fn run(self, server: &Server) -> Result<List, Refusal> {
        let mut found = Vec::new();
        let mut after = 0;
        loop {
            let page = server.rooms.list(after, PAGE).map_err(Refusal::because)?;
            let Some((last, _)) = page.last() else { return Ok(List(found)) };
            after = *last;
            for (_, room_id) in page {
                let summary = server.rooms.room(&room_id).and_then(|room| room.summary()).map_err(Refusal::because)?;
                found.push(Line {
                    room_id: room_id.into(),
                    name: summary.name,
                    canonical_alias: summary.canonical_alias,
                    joined_members: summary.joined,
                });
            }
        }
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for room in &self.0 {
            let name = room.name.as_deref().or(room.canonical_alias.as_deref()).unwrap_or_default();
            writeln!(f, "{:<50} {:>5} joined  {name}", room.room_id, room.joined_members)?;
        }
        write!(f, "{} rooms", self.0.len())
    }
}
