//! Rooms: the list, joining, leaving.

use matrix_sdk::{
    Room, RoomState,
    ruma::{OwnedServerName, RoomOrAliasId, ServerName},
};
use serde::Serialize;

use super::Done;
use crate::{
    failure::Failure,
    harmless,
    output::Output,
    session::{Session, name_of, no_room_address},
};

/// `koine-chat rooms`
#[derive(clap::Args)]
pub struct Args {
    /// Rooms that were left, too.
    #[arg(long)]
    pub left: bool,
}

/// `koine-chat join`
#[derive(clap::Args)]
pub struct JoinArgs {
    /// #name:server or !id:server.
    pub room: String,
    /// A server to join through, for rooms known by their id alone. May be repeated.
    #[arg(long, value_name = "SERVER")]
    pub via: Vec<String>,
}

/// `koine-chat leave`
#[derive(clap::Args)]
pub struct LeaveArgs {
    /// Id, address or name.
    pub room: String,
    /// Forget it, too: its history is no longer there for this account.
    #[arg(long)]
    pub forget: bool,
}

/// A room as scripts see it.
#[derive(Serialize)]
pub struct Line {
    r#type: &'static str,
    /// Its id.
    pub room_id: String,
    /// What it is called.
    pub name: String,
    /// joined, invited, left, knocked, banned.
    pub membership: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    /// true, false, or absent when it is not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted: Option<bool>,
    space: bool,
    direct: bool,
    unread: u64,
    highlights: u64,
    joined_members: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    inviter: Option<String>,
}

/// A room's line.
pub async fn line(room: &Room) -> Line {
    let state = room.encryption_state();
    let unread = room.unread_notification_counts();
    let inviter = match room.state() {
        RoomState::Invited => room.invite_details().await.ok().map(|invite| invite.inviter_id.to_string()),
        _ => None,
    };
    Line {
        r#type: "room",
        room_id: room.room_id().to_string(),
        name: name_of(room).await,
        membership: membership(room.state()),
        alias: room.canonical_alias().map(|alias| alias.to_string()),
        topic: room.topic(),
        encrypted: (!state.is_unknown()).then(|| state.is_encrypted()),
        space: room.is_space(),
        direct: room.is_direct().await.unwrap_or_default(),
        unread: unread.notification_count,
        highlights: unread.highlight_count,
        joined_members: room.joined_members_count(),
        inviter,
    }
}

/// A membership as a code.
pub fn membership(state: RoomState) -> &'static str {
    match state {
        RoomState::Joined => "joined",
        RoomState::Invited => "invited",
        RoomState::Left => "left",
        RoomState::Knocked => "knocked",
        RoomState::Banned => "banned",
    }
}

/// Lists rooms.
pub async fn run(args: &Args, session: &Session, out: &Output) -> Result<(), Failure> {
    session.catch_up().await?;
    let mut lines = Vec::new();
    for room in session.client.rooms() {
        if args.left || !matches!(room.state(), RoomState::Left | RoomState::Banned) {
            lines.push(line(&room).await);
        }
    }
    lines.sort_by(|a, b| (a.membership, &a.name, &a.room_id).cmp(&(b.membership, &b.name, &b.room_id)));
    for line in lines {
        out.say(&line, || {
            let encrypted = if line.encrypted == Some(true) { "🔒" } else { "  " };
            let unread = if line.unread > 0 { format!(" ({} unread)", line.unread) } else { String::new() };
            let state = if line.membership == "joined" { String::new() } else { format!(" [{}]", line.membership) };
            format!("{encrypted} {}{state}{unread}  {}", harmless::line(&line.name), line.room_id)
        })?;
    }
    Ok(())
}

/// Joins.
pub async fn join(args: &JoinArgs, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    session.catch_up().await?;
    let room = match RoomOrAliasId::parse(&args.room) {
        Ok(address) => {
            let via: Result<Vec<OwnedServerName>, _> = args.via.iter().map(ServerName::parse).collect();
            let via = via.map_err(|_| Failure::Usage("--via takes a server's name".to_owned()))?;
            session.client.join_room_by_id_or_alias(&address, &via).await?
        }
        Err(_) => {
            let room = session.room(&args.room).await.map_err(|failure| match failure {
                Failure::NotFound(_) => no_room_address(&args.room),
                other => other,
            })?;
            room.join().await?;
            room
        }
    };
    session.catch_up().await?;
    out.say(&Done::new("join").room(room.room_id()), || format!("Joined {}.", room.room_id()))
}

/// Leaves.
pub async fn leave(args: &LeaveArgs, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    session.catch_up().await?;
    let room = session.room(&args.room).await?;
    if !matches!(room.state(), RoomState::Left | RoomState::Banned) {
        room.leave().await?;
    }
    if args.forget {
        room.forget().await?;
    }
    out.say(&Done::new("leave").room(room.room_id()), || format!("Left {}.", room.room_id()))
}
