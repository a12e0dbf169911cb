//! Saying something, and about what was said: messages, reactions, removals, receipts. Each waits until the server has it.

use std::io::Read;

use matrix_sdk::{
    Room, RoomState,
    deserialized_responses::TimelineEvent,
    room::Receipts,
    ruma::{OwnedEventId, events::AnySyncTimelineEvent},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Done, event_id};
use crate::{failure::Failure, identity, output::Output, session::Session, stumble};

/// Bytes of one message: events are bounded to 65,536 bytes, and encryption adds a third.
const MESSAGE_MAX: usize = 40_000;

/// `koine-chat send`
#[derive(clap::Args)]
pub struct Args {
    /// Id, address or name.
    pub room: String,
    /// What to say; `-` takes it from standard input.
    pub message: String,
    /// As a notice, the way programs speak.
    #[arg(long, conflicts_with = "emote")]
    pub notice: bool,
    /// As an action: "* alice waves".
    #[arg(long)]
    pub emote: bool,
    /// In answer to this message.
    #[arg(long, value_name = "EVENT")]
    pub reply: Option<String>,
    /// In the thread that begins with this message.
    #[arg(long, value_name = "EVENT")]
    pub thread: Option<String>,
    /// In place of this message of yours.
    #[arg(long, value_name = "EVENT", conflicts_with_all = ["reply", "thread"])]
    pub edit: Option<String>,
    /// Every line of standard input as a message of its own.
    #[arg(long)]
    pub lines: bool,
}

/// `koine-chat react`
#[derive(clap::Args)]
pub struct ReactArgs {
    /// Id, address or name.
    pub room: String,
    /// To which message.
    pub event: String,
    /// With what: 👍
    pub key: String,
}

/// `koine-chat redact`
#[derive(clap::Args)]
pub struct RedactArgs {
    /// Id, address or name.
    pub room: String,
    /// Which message.
    pub event: String,
    /// Why.
    #[arg(long)]
    pub reason: Option<String>,
}

/// `koine-chat seen`
#[derive(clap::Args)]
pub struct SeenArgs {
    /// Id, address or name.
    pub room: String,
    /// Up to which message; without one, up to the last.
    pub event: Option<String>,
}

/// What was sent.
#[derive(Serialize)]
pub struct Sent {
    r#type: &'static str,
    room_id: String,
    /// What the server calls it.
    pub event_id: String,
    encrypted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    /// Members whose identity is another than it was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    identity_changed: Vec<String>,
}

/// Sends.
pub async fn send(args: Args, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    let messages = messages(&args)?;
    session.catch_up().await?;
    let room = session.room(&args.room).await?;
    if room.state() != RoomState::Joined {
        return Err(Failure::NotFound(format!("{} is not joined", room.room_id())));
    }
    let changed = identity::changed(&room).await;
    if !changed.is_empty() {
        let text = format!("[!] {}: `verify` compares, `verify --accept-change` believes", identity::words(&changed));
        out.note(&text);
    }
    for message in messages {
        let content = content(&room, &args, &message).await?;
        let mut sent = deliver(&room, "m.room.message", content).await?;
        sent.identity_changed = changed.iter().map(ToString::to_string).collect();
        out.say(&sent, || sent.event_id.clone())?;
    }
    Ok(())
}

fn messages(args: &Args) -> Result<Vec<String>, Failure> {
    let whole = match args.message.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin().lock().take(16 * 1024 * 1024).read_to_string(&mut text)?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        message => message.to_owned(),
    };
    let messages: Vec<String> = match args.lines {
        true => whole.lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect(),
        false => vec![whole],
    };
    for message in &messages {
        if message.is_empty() {
            return Err(Failure::Usage("there is nothing to send".to_owned()));
        }
        if message.len() > MESSAGE_MAX {
            return Err(Failure::Usage(format!(
                "the message has {} bytes, at most {MESSAGE_MAX} fit; `upload` sends it as a file",
                message.len()
            )));
        }
    }
    Ok(messages)
}

async fn content(room: &Room, args: &Args, message: &str) -> Result<Value, Failure> {
    let msgtype = match (args.notice, args.emote) {
        (true, _) => "m.notice",
        (_, true) => "m.emote",
        _ => "m.text",
    };
    let mut content = json!({ "msgtype": msgtype, "body": message });
    if let Some(edited) = &args.edit {
        let edited = event_id(edited)?;
        let new = content.clone();
        content["body"] = format!("* {message}").into();
        content["m.new_content"] = new;
        content["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": edited });
        return Ok(content);
    }
    let reply = args.reply.as_deref().map(event_id).transpose()?;
    if let Some(answered) = &reply {
        // [CS-API §rich-replies] Whoever is answered is mentioned.
        let event = room.load_or_fetch_event(answered, None).await?;
        if let Some(sender) = sender(&event) {
            content["m.mentions"] = json!({ "user_ids": [sender] });
        }
        content["m.relates_to"] = json!({ "m.in_reply_to": { "event_id": answered } });
    }
    if let Some(root) = &args.thread {
        let root = event_id(root)?;
        // [CS-API §fallback-for-unthreaded-clients]
        let fallback = reply.is_none();
        let answered = reply.unwrap_or_else(|| root.clone());
        content["m.relates_to"] = json!({
            "rel_type": "m.thread", "event_id": root, "is_falling_back": fallback,
            "m.in_reply_to": { "event_id": answered },
        });
    }
    Ok(content)
}

fn sender(event: &TimelineEvent) -> Option<String> {
    event.raw().deserialize().ok().map(|event: AnySyncTimelineEvent| event.sender().to_string())
}

/// Sends an event, encrypted if the room is, and waits for the server's acknowledgement.
pub async fn deliver(room: &Room, event_type: &str, content: Value) -> Result<Sent, Failure> {
    let result = stumble::survive(|| room.send_raw(event_type, content.clone()).into_future()).await?;
    Ok(Sent {
        r#type: "sent",
        room_id: room.room_id().to_string(),
        event_id: result.response.event_id.to_string(),
        encrypted: result.encryption_info.is_some(),
        session_id: result.encryption_info.as_ref().and_then(|info| info.session_id().map(ToOwned::to_owned)),
        identity_changed: Vec::new(),
    })
}

/// Reacts.
pub async fn react(args: &ReactArgs, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    let event = event_id(&args.event)?;
    session.catch_up().await?;
    let room = session.room(&args.room).await?;
    let content = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": event, "key": args.key } });
    let sent = deliver(&room, "m.reaction", content).await?;
    out.say(&sent, || sent.event_id.clone())
}

/// Removes.
pub async fn redact(args: &RedactArgs, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    let event = event_id(&args.event)?;
    session.catch_up().await?;
    let room = session.room(&args.room).await?;
    let gone = room.redact(&event, args.reason.as_deref(), None).await.map_err(matrix_sdk::Error::from)?;
    out.say(&Done::new("redact").room(room.room_id()).event(&gone.event_id), || gone.event_id.to_string())
}

/// Acknowledges reading.
pub async fn seen(args: &SeenArgs, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    session.catch_up().await?;
    let room = session.room(&args.room).await?;
    let last: OwnedEventId = match &args.event {
        Some(event) => event_id(event)?,
        None => {
            let (cache, _guard) = room.event_cache().await.map_err(|error| Failure::Store(error.to_string()))?;
            let events = cache.events().await.map_err(|error| Failure::Store(error.to_string()))?;
            let last = events.iter().rev().find_map(TimelineEvent::event_id);
            last.ok_or_else(|| Failure::NotFound("nothing is known of what was said there".to_owned()))?
        }
    };
    let receipts = Receipts::new().fully_read_marker(last.clone()).public_read_receipt(last.clone());
    room.send_multiple_receipts(receipts).await?;
    out.say(&Done::new("seen").room(room.room_id()).event(&last), || format!("Read up to {last}."))
}
