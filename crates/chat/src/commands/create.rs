//! Making a room. Encrypted for invited people is what one gets without saying anything; `--plain` and `--public` say
//! otherwise.

use matrix_sdk::ruma::{
    UInt,
    api::client::room::{
        Visibility,
        create_room::v3::{CreationContent, Request, RoomPreset},
    },
    events::AnyInitialStateEvent,
    room::RoomType,
    serde::Raw,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::user;
use crate::{failure::Failure, harmless, output::Output, session::Session};

/// `koine-chat create`
#[derive(clap::Args, Default)]
pub struct Args {
    /// What it is called.
    pub name: Option<String>,
    /// What it is about.
    #[arg(long)]
    pub topic: Option<String>,
    /// The local part of its address: `tea` for #tea:server.
    #[arg(long, value_name = "LOCAL")]
    pub alias: Option<String>,
    /// Who is invited. May be repeated.
    #[arg(long, value_name = "USER")]
    pub invite: Vec<String>,
    /// Anybody may join, and the room is listed.
    #[arg(long)]
    pub public: bool,
    /// Not encrypted. This cannot be taken back later, other than by encrypting from then on.
    #[arg(long)]
    pub plain: bool,
    /// A conversation with the people invited, who all may do what you may.
    #[arg(long)]
    pub direct: bool,
    /// A space, which holds rooms.
    #[arg(long)]
    pub space: bool,
    /// Messages after which a new key is made.
    #[arg(long, value_name = "COUNT", conflicts_with = "plain")]
    pub rotation_msgs: Option<u64>,
    /// Milliseconds after which a new key is made.
    #[arg(long, value_name = "MS", conflicts_with = "plain")]
    pub rotation_ms: Option<u64>,
    /// Who sees what was said before they came: `joined`, `invited`, `shared` (all members everything) or `world`.
    #[arg(long, value_enum)]
    pub history: Option<History>,
    /// The room version, instead of the server's own choice.
    #[arg(long, value_name = "VERSION")]
    pub room_version: Option<String>,
}

/// [CS-API §room-history-visibility]
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum History {
    /// From joining on.
    Joined,
    /// From the invitation on.
    Invited,
    /// Everything.
    Shared,
    /// Everybody everything, members or not.
    World,
}

impl History {
    /// As it is written in the room's state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Invited => "invited",
            Self::Shared => "shared",
            Self::World => "world_readable",
        }
    }
}

#[derive(Serialize)]
struct Line {
    r#type: &'static str,
    room_id: String,
    encrypted: bool,
}

/// The request for what was asked.
pub fn request(args: Args) -> Result<Request, Failure> {
    let bad = |error: serde_json::Error| Failure::Local(error.to_string());
    let mut request = Request::new();
    let mut state: Vec<Value> = Vec::new();
    if !args.plain && !args.space {
        let mut content = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
        if let Some(count) = args.rotation_msgs {
            content["rotation_period_msgs"] = checked("--rotation-msgs", count)?.into();
        }
        if let Some(ms) = args.rotation_ms {
            content["rotation_period_ms"] = checked("--rotation-ms", ms)?.into();
        }
        state.push(json!({ "type": "m.room.encryption", "state_key": "", "content": content }));
    }
    if let Some(history) = args.history {
        let content = json!({ "history_visibility": history.name() });
        state.push(json!({ "type": "m.room.history_visibility", "state_key": "", "content": content }));
    }
    for event in &state {
        request.initial_state.push(Raw::<Value>::new(event).map_err(bad)?.cast_unchecked::<AnyInitialStateEvent>());
    }
    if args.space {
        let mut content = CreationContent::new();
        content.room_type = Some(RoomType::Space);
        request.creation_content = Some(Raw::new(&content).map_err(bad)?);
    }
    for invited in &args.invite {
        request.invite.push(user(invited)?);
    }
    if let Some(version) = args.room_version {
        let version = version.parse().map_err(|_| Failure::Usage("--room-version takes a room version".to_owned()))?;
        request.room_version = Some(version);
    }
    request.name = args.name;
    request.topic = args.topic;
    request.room_alias_name = args.alias;
    request.is_direct = args.direct;
    request.preset = Some(match (args.public, args.direct) {
        (true, _) => RoomPreset::PublicChat,
        (false, true) => RoomPreset::TrustedPrivateChat,
        (false, false) => RoomPreset::PrivateChat,
    });
    request.visibility = if args.public { Visibility::Public } else { Visibility::Private };
    Ok(request)
}

fn checked(what: &str, value: u64) -> Result<u64, Failure> {
    match value > 0 && UInt::try_from(value).is_ok() {
        true => Ok(value),
        false => Err(Failure::Usage(format!("{what} takes a number from 1 to 2^53-1"))),
    }
}

/// Makes it.
pub async fn run(args: Args, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    session.catch_up().await?;
    let encrypted = !args.plain && !args.space;
    let name = args.name.clone();
    let room = session.client.create_room(request(args)?).await?;
    session.catch_up().await?;
    let line = Line { r#type: "created", room_id: room.room_id().to_string(), encrypted };
    out.say(&line, || {
        let how = if encrypted { "encrypted" } else { "not encrypted" };
        format!("{} {} ({how})", line.room_id, harmless::line(name.as_deref().unwrap_or("")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(args: Args) -> Vec<Value> {
        let request = request(args).unwrap();
        request.initial_state.iter().map(|raw| serde_json::from_str(raw.json().get()).unwrap()).collect()
    }

    #[test]
    fn a_room_is_encrypted_unless_something_else_is_said() {
        let said_nothing = state(Args::default());
        assert_eq!(said_nothing[0]["type"], "m.room.encryption");
        assert!(state(Args { plain: true, ..Args::default() }).is_empty());
        assert!(state(Args { space: true, ..Args::default() }).is_empty());
    }

    #[test]
    fn renewal_of_keys_is_part_of_the_rooms_state() {
        let state = state(Args { rotation_msgs: Some(3), rotation_ms: Some(5000), ..Args::default() });
        assert_eq!(state[0]["content"]["rotation_period_msgs"], 3);
        assert_eq!(state[0]["content"]["rotation_period_ms"], 5000);
        assert!(request(Args { rotation_msgs: Some(0), ..Args::default() }).is_err());
    }
}
