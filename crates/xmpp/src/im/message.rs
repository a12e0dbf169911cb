//! Messages that somebody sends to somebody. [RFC6121 §5] [RFC6121 §8.5]
//!
//! What lasts becomes an event in the room of the two, and is delivered when the log tells of it (`happened.rs`). What does
//! not last goes straight to whoever is there.

use std::{sync::Arc, time::Duration};

use koine_account::{Class, LimitKey};
use koine_projection::message::{self, Act, KEEPSAKE};
use koine_room::{ReceiptType, Room, Sender};
use koine_stanza::{Condition, Element, Jid, StanzaError, ns};
use ruma_common::{OwnedEventId, OwnedUserId, UserId};
use serde_json::{json, value::to_raw_value};

use super::{
    Talk,
    happened::{copy, is_copied},
};
use crate::{
    address::Place,
    core::Core,
    error::{refused, unreadable},
    known,
    session::Session,
};

/// How long somebody types who said so once. [XEP-0085]
const TYPING_TIME: Duration = Duration::from_secs(30);
/// Errors of the extension. [XEP-0191]
const BLOCKED: &str = "urn:xmpp:blocking:errors";

/// Brings a message with a proven sender to whom it is for.
pub(crate) async fn message(
    core: &Arc<Core>,
    stanza: &Element,
    from: &Jid,
    to: &Jid,
    session: Option<&Arc<Session>>,
) -> Result<(), StanzaError> {
    let unavailable = || StanzaError::new(Condition::ServiceUnavailable, "there is nobody who takes this message");
    let noted = match session {
        Some(session) => crate::xep::pep::assist(core, session, stanza, to).await,
        None => None,
    };
    let stanza = noted.as_ref().unwrap_or(stanza);
    let place = core.place(to);
    let kind = stanza.kind().unwrap_or("normal");
    match place {
        Place::Room => return crate::muc::message(core, stanza, from, to, session).await,
        Place::Account(_) | Place::Matrix | Place::Mail | Place::Elsewhere => {}
        _ if kind == "error" => return Ok(()),
        Place::Host => {
            let spread = crate::xep::multicast::spread(core, stanza, session).await;
            return spread.unwrap_or_else(|| Err(unavailable()));
        }
        _ => return Err(unavailable()),
    }
    let (Some(me), Some(peer)) = (core.person_of(&from.to_bare()), core.person_of(&to.to_bare())) else {
        // Rooms and services of other servers speak too.
        return match place {
            Place::Account(user) if core.is_account(&user) => pass(core, &clean(core, stanza), to, None).await,
            _ => Err(unavailable()),
        };
    };
    let here = matches!(place, Place::Account(_));
    if here && !core.is_account(&peer) {
        // [RFC6121 §8.5.1] As if there were an account that takes nothing.
        return if kind == "error" { Ok(()) } else { Err(unavailable()) };
    }
    if core.has_blocked(&me, &peer) {
        let blocked = Element::new("blocked", BLOCKED);
        let error = StanzaError::new(Condition::NotAcceptable, "you have blocked this address: unblock it first");
        return Err(error.with_type(koine_stanza::ErrorType::Cancel).with_application(blocked));
    }
    if here && core.has_blocked_address(&peer, from) {
        return if kind == "error" { Ok(()) } else { Err(unavailable()) };
    }
    let stanza = clean(core, stanza);
    if kind == "groupchat" {
        if let Some(session) = session.filter(|_| place == Place::Elsewhere) {
            core.portals.sends(&stanza, to, session.user());
        }
        // [RFC6121 §8.5.2.1.1] Only rooms take them; from a room elsewhere they come to a session.
        return match to.resource().is_some() || place == Place::Elsewhere {
            true => pass(core, &stanza, to, session).await,
            false => Err(unavailable()),
        };
    }
    // Whoever does not use XMPP sees the invitation itself, and needs no words about it.
    let invited = crate::muc::asked_directly(core, &stanza, (&me, &peer)).await;
    if invited && here && !core.accounts().uses_xmpp(&peer).unwrap_or(true) {
        return Ok(());
    }
    // Somebody in a room of another server is no person of their own. [XEP-0045 §privatemessage]
    let of_muc = stanza.has_child("x", ns::MUC_USER);
    if of_muc {
        slow_down(core, &me, session.is_some()).await?;
    }
    if of_muc || !message::lasts(&stanza) {
        moment(core, &stanza, (&me, &peer)).await;
        return pass(core, &stanza, to, session).await;
    }
    if kind == "normal" && to.resource().is_some() && here && !has_session(core, to) {
        // [RFC6121 §8.5.3.2.1] Meant for that session alone.
        return Err(unavailable());
    }
    slow_down(core, &me, session.is_some()).await?;
    let room = core.conversation(&me, &peer).await?;
    let _ = core.rooms().set_typing(&me, room.id(), None);
    keep(core, &stanza, &room, (&me, &peer), (to, session)).await
}

/// Whoever sends too fast waits, and their stream with them; others, whose stream is not theirs alone, are told.
pub(crate) async fn slow_down(core: &Core, me: &UserId, own_stream: bool) -> Result<(), StanzaError> {
    while let Err(exceeded) = core.accounts().permit(Class::Message, LimitKey::User(me)) {
        if !own_stream {
            return Err(StanzaError::new(Condition::ResourceConstraint, exceeded.to_string()));
        }
        tokio::time::sleep(exceeded.retry_after).await;
    }
    Ok(())
}

fn has_session(core: &Core, to: &Jid) -> bool {
    to.clone().try_into_full().is_ok_and(|full| core.sessions.get(&full).is_some())
}

/// A stanza without ids that only we may give, and without what only we say: that it is a copy. [XEP-0359 §security]
/// [XEP-0280 §security]
fn clean(core: &Core, stanza: &Element) -> Element {
    let mut stanza = stanza.clone();
    let ours = |child: &Element| {
        child.is("stanza-id", ns::STANZA_ID)
            && child.attr("by").and_then(|by| Jid::new(by).ok()).is_none_or(|by| core.hosts.is_ours(by.domain()))
    };
    let wraps_a_copy = |child: &Element| child.ns() == ns::CARBONS && child.name() != "private";
    stanza.retain_children(|child| !ours(child) && !wraps_a_copy(child));
    stanza
}

/// Makes a message an event.
async fn keep(
    core: &Arc<Core>,
    stanza: &Element,
    room: &Arc<Room>,
    (me, peer): (&OwnedUserId, &OwnedUserId),
    (to, session): (&Jid, Option<&Arc<Session>>),
) -> Result<(), StanzaError> {
    let act = message::read(stanza, &Talk::new(core, room, (me, peer)));
    let flight = Flight::new(core, session, to);
    let sender = Sender { user: me, device: session.map(|session| session.device().as_str()) };
    let done = match act {
        Act::Send { kind, mut content } => {
            if let Some(session) = session {
                content[KEEPSAKE]["resource"] = json!(session.jid().resource());
            }
            let content = to_raw_value(&content).map_err(|error| {
                StanzaError::new(Condition::BadRequest, format!("the message cannot be kept: {error}"))
            })?;
            core.rooms().send(sender, room.id(), kind, &content, flight.txn(0).as_deref()).await.map(drop)
        }
        Act::Retract { target } => {
            let placed = room.event(&target).map_err(|error| unreadable(&error))?;
            if placed.is_none_or(|placed| placed.event.sender() != me) {
                return Err(StanzaError::new(Condition::Forbidden, "this message is not yours to take back"));
            }
            core.rooms().redact(sender, room.id(), &target, None, flight.txn(0).as_deref()).await.map(drop)
        }
        Act::React { target, keys } => return react(core, room, sender, (&target, &keys), &flight).await,
        Act::Nothing => {
            return Err(StanzaError::new(Condition::ItemNotFound, "the message that this refers to is not known here"));
        }
    };
    done.map_err(|error| {
        flight.cancel(core);
        refused(&error)
    })
}

/// Makes somebody's reactions to an event what they said. [XEP-0444]
async fn react(
    core: &Arc<Core>,
    room: &Arc<Room>,
    sender: Sender<'_>,
    (target, keys): (&OwnedEventId, &[String]),
    flight: &Flight,
) -> Result<(), StanzaError> {
    let before = known::reactions(room, sender.user, target);
    let before = before.map_err(|error| unreadable(&error))?;
    let mut number = 0;
    for (_, event) in before.iter().filter(|(key, _)| !keys.contains(key)) {
        let txn = flight.txn(number);
        core.rooms().redact(sender, room.id(), event, None, txn.as_deref()).await.map_err(|error| refused(&error))?;
        number += 1;
    }
    for key in keys.iter().filter(|key| !before.iter().any(|(known, _)| known == *key)) {
        let content = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": target, "key": key } });
        let content = to_raw_value(&content).expect("text is JSON");
        let txn = flight.txn(number);
        let sent = core.rooms().send(sender, room.id(), "m.reaction", &content, txn.as_deref()).await;
        sent.map_err(|error| refused(&error))?;
        number += 1;
    }
    Ok(())
}

/// A message on its way through the log: which session it is from and which it is for.
struct Flight(Option<String>);

impl Flight {
    fn new(core: &Core, session: Option<&Arc<Session>>, to: &Jid) -> Self {
        let Some(session) = session else { return Self(None) };
        let id = format!("x{:032x}", rand::random::<u128>());
        core.im.flights.insert(id.clone(), (session.jid().clone(), to.clone()));
        Self(Some(id))
    }

    /// The transaction id of the message's event with that number.
    fn txn(&self, number: usize) -> Option<String> {
        let id = self.0.as_ref()?;
        Some(if number == 0 { id.clone() } else { format!("{id}.{number}") })
    }

    fn cancel(&self, core: &Core) {
        if let Some(id) = &self.0 {
            core.im.flights.remove(id);
        }
    }
}

/// What a message that does not last says to Matrix: somebody types, or has read.
async fn moment(core: &Arc<Core>, stanza: &Element, (me, peer): (&UserId, &UserId)) {
    let state = stanza.children().find(|child| child.ns() == ns::CHAT_STATES);
    let displayed = stanza.child("displayed", ns::CHAT_MARKERS).and_then(Element::id);
    if (state.is_none() && displayed.is_none()) || me == peer || stanza.kind() == Some("error") {
        return;
    }
    let Ok(Some(room)) = core.known_conversation(me, peer) else { return };
    if let Some(state) = state {
        let time = (state.name() == "composing").then_some(TYPING_TIME);
        // Who is not in the room, or of another server, does not type there.
        let _ = core.rooms().set_typing(me, room.id(), time);
    }
    if let Some(id) = displayed
        && let Some(event) = koine_projection::message::Names::event_of(&Talk::new(core, &room, (me, peer)), id)
        && let Err(error) = core.rooms().set_receipt(me, room.id(), ReceiptType::Read, &event, None).await
    {
        tracing::debug!(room_id = %room.id(), reason = %error, "a marker names nothing that could be read");
    }
}

/// Delivers a message that does not last to whoever is there.
async fn pass(core: &Arc<Core>, stanza: &Element, to: &Jid, session: Option<&Arc<Session>>) -> Result<(), StanzaError> {
    if let Some(session) = session.filter(|_| is_copied(stanza)) {
        copy(core, stanza, ("sent", session.user()), |other| other.jid() == session.jid());
    }
    match core.place(to) {
        Place::Elsewhere => {
            core.send_elsewhere(stanza.clone()).await;
            Ok(())
        }
        Place::Account(user) => pass_to_account(core, stanza, to, &user),
        _ => Ok(()),
    }
}

fn pass_to_account(core: &Arc<Core>, stanza: &Element, to: &Jid, user: &UserId) -> Result<(), StanzaError> {
    let kind = stanza.kind().unwrap_or("normal");
    if let Ok(full) = to.clone().try_into_full() {
        if let Some(session) = core.sessions.get(&full) {
            if session.send(stanza.clone()) && is_copied(stanza) {
                copy(core, stanza, ("received", user), |other| other.jid() == session.jid());
            }
            return Ok(());
        }
        // [RFC6121 §8.5.3.2.1]
        match kind {
            "chat" => {}
            "headline" | "error" => return Ok(()),
            _ => return Err(StanzaError::new(Condition::ServiceUnavailable, "that session is not here")),
        }
    }
    if kind == "error" {
        return Ok(());
    }
    let takers = core.sessions.takers(&to.to_bare());
    for session in &takers {
        session.send(stanza.clone());
    }
    if is_copied(stanza) {
        copy(core, stanza, ("received", user), |other| takers.iter().any(|taker| taker.jid() == other.jid()));
    }
    Ok(())
}
