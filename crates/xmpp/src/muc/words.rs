//! What is said in a room: events as messages of type groupchat, and the other way round.
//!
//! The mapping itself is `koine_projection`'s; here is what it needs to know of the room.

use std::{sync::Arc, time::Duration};

use koine_room::{Placed, Room};
use koine_stanza::{Element, StanzaError, ns};
use ruma_common::{OwnedEventId, UserId};
use serde_json::{Value, json, value::RawValue};

use crate::core::Core;

/// How long somebody types who said so once. [XEP-0085]
pub(super) const COMPOSING_TIME: Duration = Duration::from_secs(30);

/// An event as a message, without addresses.
#[derive(Clone)]
pub(super) struct Words {
    /// The message.
    pub(super) message: Element,
    /// The nickname that it was said under, if it came by XMPP.
    pub(super) nick: Option<String>,
    /// The room itself says it.
    pub(super) from_room: bool,
    /// It belongs to what is told to who enters.
    pub(super) is_history: bool,
}

/// What a message of somebody in the room is meant to do.
pub(super) enum Meant {
    /// It is true for a moment and goes to who is here.
    Passing,
    /// It changes the room.
    Commands(Vec<Command>),
}

/// A change of the room.
pub(super) enum Command {
    /// An event.
    Send { kind: String, content: Box<RawValue> },
    /// A redaction.
    Redact { event: OwnedEventId, reason: Option<String> },
    /// Read up to here.
    Read { event: OwnedEventId },
}

/// The id by which XMPP knows a message: the one its author gave it, or that of the event.
pub(super) fn id_of(placed: &Placed) -> String {
    let said = placed.event.content_field::<Value>("koine.xmpp");
    let id = said.as_ref().and_then(|said| said["id"].as_str());
    id.unwrap_or(placed.event.event_id().as_str()).to_owned()
}

/// A message without what only the room may say.
pub(super) fn clean(stanza: &Element) -> Element {
    let mut message = stanza.clone();
    message.retain_children(|child| {
        !matches!(child.ns(), ns::OCCUPANT_ID | ns::DELAY) && !child.is("stanza-id", ns::STANZA_ID)
    });
    message
}

/// Whether a chat state says that somebody writes; `None` without one. [XEP-0085]
pub(super) fn composing(stanza: &Element) -> Option<bool> {
    stanza.children().find(|child| child.ns() == ns::CHAT_STATES).map(|state| state.name() == "composing")
}

pub(super) fn of_event(_core: &Core, _room: &Room, placed: &Placed) -> Option<Words> {
    let body = placed.event.content_field::<String>("body")?;
    let said = placed.event.content_field::<Value>("koine.xmpp").unwrap_or_default();
    let message = Element::new("message", ns::CLIENT).with_attr("type", "groupchat").with_attr("id", id_of(placed))
        .with_child(Element::text_of("body", ns::CLIENT, body));
    Some(Words { message, nick: said["nick"].as_str().map(ToOwned::to_owned), from_room: false, is_history: true })
}

pub(super) fn of_stanza(_core: &Core, _room: &Arc<Room>, stanza: &Element, _user: &UserId, nick: &str) -> Result<Meant, StanzaError> {
    let Some(body) = stanza.child_text("body", ns::CLIENT) else { return Ok(Meant::Passing) };
    let content = json!({ "msgtype": "m.text", "body": body, "koine.xmpp": { "id": stanza.id(), "nick": nick } });
    let content = serde_json::value::to_raw_value(&content).expect("it is JSON");
    Ok(Meant::Commands(vec![Command::Send { kind: "m.room.message".into(), content }]))
}
