//! Settings: of a room, and one's own name.

use matrix_sdk::ruma::events::StateEventType;
use serde_json::{Value, json};

use super::{Done, create::History};
use crate::{failure::Failure, output::Output, session::Session};

/// `koine-chat set`
#[derive(clap::Args)]
pub struct Args {
    /// Id, address or name of the room whose settings change.
    #[arg(required_unless_present = "display_name")]
    pub room: Option<String>,
    /// Your name, as others see it everywhere.
    #[arg(long, value_name = "NAME")]
    pub display_name: Option<String>,
    /// The room's name.
    #[arg(long, requires = "room")]
    pub name: Option<String>,
    /// What it is about.
    #[arg(long, requires = "room")]
    pub topic: Option<String>,
    /// Who may join.
    #[arg(long, requires = "room", value_enum)]
    pub join: Option<Join>,
    /// Who sees what was said before they came.
    #[arg(long, requires = "room", value_enum)]
    pub history: Option<History>,
    /// Encrypt from now on. There is no way back.
    #[arg(long, requires = "room")]
    pub encrypt: bool,
}

/// Who may join.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Join {
    /// Anybody.
    Public,
    /// Who was invited.
    Invite,
    /// Who asked and was let in.
    Knock,
}

/// Changes them.
pub async fn run(args: Args, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    session.catch_up().await?;
    if let Some(name) = &args.display_name {
        session.client.account().set_display_name(Some(name)).await?;
        out.say(&Done::new("display-name"), || "Your name is changed.".to_owned())?;
    }
    let Some(wanted) = &args.room else { return Ok(()) };
    let room = session.room(wanted).await?;
    let mut changes: Vec<(&str, StateEventType, Value)> = Vec::new();
    if let Some(name) = &args.name {
        changes.push(("name", StateEventType::RoomName, json!({ "name": name })));
    }
    if let Some(topic) = &args.topic {
        changes.push(("topic", StateEventType::RoomTopic, json!({ "topic": topic })));
    }
    if let Some(join) = args.join {
        let rule = match join {
            Join::Public => "public",
            Join::Invite => "invite",
            Join::Knock => "knock",
        };
        changes.push(("join", StateEventType::RoomJoinRules, json!({ "join_rule": rule })));
    }
    if let Some(history) = args.history {
        let content = json!({ "history_visibility": history.name() });
        changes.push(("history", StateEventType::RoomHistoryVisibility, content));
    }
    for (what, kind, content) in changes {
        let sent = room.send_state_event_raw(&kind.to_string(), "", content).await?;
        out.say(&Done::new(what).room(room.room_id()).event(&sent.event_id), || format!("{what} is changed."))?;
    }
    if args.encrypt {
        room.enable_encryption().await?;
        out.say(&Done::new("encrypt").room(room.room_id()), || "The room is encrypted from now on.".to_owned())?;
    }
    Ok(())
}
