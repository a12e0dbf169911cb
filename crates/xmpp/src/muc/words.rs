//! What is said in a room: events as messages of type groupchat, and the other way round.
//!
//! The mapping itself is `koine_projection`'s; here is what it needs to know of the room.

use std::{sync::Arc, time::Duration};

use koine_projection::message::{self, Act, File, KEEPSAKE, Names};
use koine_room::{Placed, Room};
use koine_stanza::{BareJid, Condition, Element, StanzaError, ns};
use ruma_common::{EventId, OwnedEventId, OwnedUserId, UserId};
use serde_json::{Value, json, value::RawValue};

use super::{hall::Inside, name};
use crate::{core::Core, known};

/// How transactions begin that take reactions back, as somebody said by XMPP.
const REACTED: &str = "koine.reacted.";

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
    Commands {
        /// How.
        commands: Vec<Command>,
        /// Whoever is here gets the message itself too, as the log alone would not say it.
        passes_on: bool,
    },
}

/// A change of the room.
pub(super) enum Command {
    /// An event.
    Send { kind: String, content: Box<RawValue> },
    /// A redaction.
    Redact { event: OwnedEventId, txn: Option<String> },
    /// Read up to here.
    Read { event: OwnedEventId },
}

/// The id by which XMPP knows a message: the one its author gave it, or that of the event.
pub(super) fn id_of(placed: &Placed) -> String {
    let content = kept(placed);
    content.as_ref().and_then(message::kept_id).unwrap_or(placed.event.event_id().as_str()).to_owned()
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

/// What the projection asks about the room.
struct InRoom<'a> {
    core: &'a Core,
    room: &'a Room,
    /// Whose words they are: ids that people give their stanzas are theirs alone.
    speaker: &'a UserId,
    /// Who is there, where somebody may name them by their occupant ids.
    inside: Option<&'a Inside>,
}

impl Names for InRoom<'_> {
    fn user_of(&self, address: &BareJid) -> Option<OwnedUserId> {
        self.core.person_of(address)
    }

    fn address_of(&self, user: &UserId) -> Option<BareJid> {
        self.core.address_of(user)
    }

    /// [XEP-0421]
    fn occupant_of(&self, user: &UserId) -> Option<String> {
        Some(super::hall::occupant_id(self.core, self.room.id(), user))
    }

    fn user_of_occupant(&self, id: &str) -> Option<OwnedUserId> {
        let there = self.inside?.occupants.values().map(|occupant| &occupant.user);
        there.into_iter().find(|user| self.occupant_of(user).as_deref() == Some(id)).cloned()
    }

    fn event_of(&self, id: &str) -> Option<OwnedEventId> {
        self.core.named(self.room, &[self.speaker], id).unwrap_or_else(|error| {
            tracing::error!(room_id = %self.room.id(), reason = %error, "an event could not be looked up");
            None
        })
    }

    /// Corrections name a message as its author did. [XEP-0308 §rules]
    fn name_of(&self, event: &EventId) -> String {
        let placed = self.room.event(event).ok().flatten();
        placed.map_or_else(|| event.to_string(), |placed| id_of(&placed))
    }

    fn author_of(&self, event: &EventId) -> Option<(String, String)> {
        let placed = self.room.event(event).ok().flatten()?;
        let address = name::address(self.core, self.room).ok()?;
        let said = placed.event.content_field::<String>("body").unwrap_or_default();
        Some((format!("{address}/{}", nick_in(self.room, &placed)), said))
    }

    fn file_of(&self, url: &str) -> Option<File> {
        self.core.file_of(url)
    }

    fn url_of(&self, mxc: &str, name: &str) -> Option<String> {
        self.core.url_of(mxc, name)
    }
}

/// The content of an event that may keep a stanza.
fn kept(placed: &Placed) -> Option<Value> {
    placed
        .event
        .content()
        .get()
        .contains(KEEPSAKE)
        .then(|| serde_json::from_str(placed.event.content().get()).ok())
        .flatten()
}

/// Whether events of a type are messages.
pub(super) fn is_said(kind: &str) -> bool {
    matches!(kind, "m.room.message" | "m.room.encrypted" | "m.sticker" | message::PLAIN_KEEPSAKE)
}

/// The nickname that words were said under, or the name that their speaker has in the room.
pub(super) fn nick_in(room: &Room, placed: &Placed) -> String {
    let said = kept(placed).and_then(|content| content[KEEPSAKE]["nick"].as_str().map(ToOwned::to_owned));
    let user = placed.event.sender();
    let shown = || {
        let member = room.current("m.room.member", user.as_str()).ok().flatten()?;
        member.event.content_field::<String>("displayname").filter(|name| !name.trim().is_empty())
    };
    said.or_else(shown).unwrap_or_else(|| user.localpart().to_owned())
}

/// An event as what the occupants of a room are told; `None` where it tells them nothing.
pub(super) fn of_event(core: &Core, room: &Room, placed: &Placed) -> Option<Words> {
    let event = &placed.event;
    let content: Value = serde_json::from_str(event.content().get()).ok()?;
    let names = InRoom { core, room, speaker: event.sender(), inside: None };
    let mut message = Element::new("message", ns::CLIENT).with_attr("type", "groupchat").with_attr("id", id_of(placed));
    let nick = content[KEEPSAKE]["nick"].as_str().map(ToOwned::to_owned);
    let words = |message, is_history| Some(Words { message, nick: nick.clone(), from_room: false, is_history });
    match event.kind() {
        "m.reaction" => {
            let target = OwnedEventId::try_from(content["m.relates_to"]["event_id"].as_str()?).ok()?;
            words(message.with_children(reactions(room, event.sender(), &target)?), false)
        }
        "m.room.redaction" => {
            let target = room.event(&event.redacts(room.rules())?).ok().flatten()?;
            if target.event.kind() == "m.reaction" {
                // What it was to went with its content.
                let parent = core.reacted_to(room, &target).ok().flatten()?;
                return words(message.with_children(reactions(room, target.event.sender(), &parent)?), false);
            }
            if !is_said(target.event.kind()) {
                return None;
            }
            let id = target.event.event_id().as_str();
            if target.event.sender() == event.sender() {
                return words(message.with_children(message::retraction(id)), false);
            }
            // [XEP-0425 §usecase-success] The room says that a moderator did it.
            let address = name::address(core, room).ok()?;
            let by = format!("{address}/{}", nick_in(room, placed));
            let occupant = Element::new("occupant-id", ns::OCCUPANT_ID)
                .with_attr("id", super::hall::occupant_id(core, room.id(), event.sender()));
            let moderated = Element::new("moderated", ns::MODERATE).with_attr("by", by).with_child(occupant);
            let mut retract = Element::new("retract", ns::RETRACT).with_attr("id", id).with_child(moderated);
            if let Some(reason) = content["reason"].as_str() {
                retract.push(Element::text_of("reason", ns::RETRACT, reason));
            }
            message.push(retract);
            Some(Words { message, nick: None, from_room: true, is_history: false })
        }
        kind => {
            let mut children = message::write(kind, &content, &names)?;
            // Answers name the event, whoever gave it another name: in rooms that is the name all agree on. [XEP-0461]
            if content[KEEPSAKE].get("payload").is_none()
                && let Some(answered) = content["m.relates_to"]["m.in_reply_to"]["event_id"].as_str()
                && let Some(reply) = children.iter_mut().find(|child| child.is("reply", ns::REPLY))
            {
                reply.set_attr("id", Some(answered));
            }
            words(message.with_children(children), true)
        }
    }
}

/// All that somebody reacts to an event with. [XEP-0444]
fn reactions(room: &Room, who: &UserId, target: &EventId) -> Option<Vec<Element>> {
    let keys = known::reactions(room, who, target).ok()?.into_iter().map(|(key, _)| key);
    Some(message::reactions(target.as_str(), keys))
}

/// Whether who is here was told of an event by the message itself that became it.
pub(super) fn is_echo(placed: &Placed) -> bool {
    match placed.event.kind() {
        "m.reaction" => kept(placed).is_some_and(|content| content.get(KEEPSAKE).is_some()),
        "m.room.redaction" => placed.txn.as_ref().is_some_and(|(_, txn)| txn.starts_with(REACTED)),
        _ => false,
    }
}

/// What a message to a room is meant to do there.
pub(super) fn of_stanza(
    core: &Core,
    room: &Arc<Room>,
    stanza: &Element,
    (user, nick): (&UserId, &str),
    inside: &Inside,
) -> Result<Meant, StanzaError> {
    let names = InRoom { core, room, speaker: user, inside: Some(inside) };
    if let Some(marker) = stanza.child("displayed", ns::CHAT_MARKERS)
        && let Some(event) = marker.id().and_then(|id| names.event_of(id))
    {
        return Ok(Meant::Commands { commands: vec![Command::Read { event }], passes_on: true });
    }
    if !message::lasts(stanza) {
        return Ok(Meant::Passing);
    }
    let gone = |what: &str| {
        StanzaError::new(Condition::ItemNotFound, format!("the room has no message that {what} could be for"))
    };
    let stays = |commands| Ok(Meant::Commands { commands, passes_on: false });
    match message::read(stanza, &names) {
        Act::Send { kind, mut content } => {
            content[KEEPSAKE]["nick"] = json!(nick);
            stays(vec![Command::Send { kind: kind.to_owned(), content: raw(&content) }])
        }
        Act::Retract { target } => stays(vec![Command::Redact { event: target, txn: None }]),
        Act::React { target, keys } => {
            let had = known::reactions(room, user, &target).map_err(|error| super::unreadable(&error))?;
            let mut commands = Vec::new();
            for (key, event) in &had {
                if !keys.contains(key) {
                    let txn = Some(format!("{REACTED}{:032x}", rand::random::<u128>()));
                    commands.push(Command::Redact { event: event.clone(), txn });
                }
            }
            for key in keys.iter().filter(|key| !had.iter().any(|(there, _)| there == *key)) {
                let relation = json!({ "rel_type": "m.annotation", "event_id": target, "key": key });
                let content = json!({ "m.relates_to": relation, KEEPSAKE: { "nick": nick } });
                commands.push(Command::Send { kind: "m.reaction".into(), content: raw(&content) });
            }
            Ok(Meant::Commands { commands, passes_on: true })
        }
        Act::Nothing => Err(gone("this")),
    }
}

fn raw(content: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(content).expect("what was made as JSON is JSON")
}
