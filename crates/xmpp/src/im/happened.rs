//! What the log tells of rooms of two, for sessions and other servers.

use std::sync::Arc;

use koine_account::Word;
use koine_room::{Membership, Order, Pair, Placed, ReadError, Room, RoomNo};
use koine_stanza::{BareJid, Element, Jid, ns};
use koine_store::Position;
use ruma_common::{OwnedUserId, UserId};
use serde_json::Map;

use super::Talk;
use crate::{core::Core, session::Session};

/// An event of whatever room: what it means for conversations between two.
pub(crate) async fn happened(core: &Arc<Core>, room: &Arc<Room>, placed: &Placed) -> Result<bool, ReadError> {
    if placed.event.kind() == "m.room.member" {
        return member(core, room, placed).await;
    }
    let Some(pair) = core.rooms().pair_of(room.no())? else { return Ok(false) };
    tell(core, room, placed, &pair).await?;
    Ok(true)
}

/// Tells both of an event.
async fn tell(core: &Arc<Core>, room: &Arc<Room>, placed: &Placed, pair: &Pair) -> Result<(), ReadError> {
    let sender = placed.event.sender();
    let Some((me, peer)) = Core::pair_from(pair, sender) else { return Ok(()) };
    if let Some(address) = core.jid_of(&peer) {
        for error in super::undelivered::errors(core, room, placed, (&peer, &me))? {
            for session in core.sessions.takers(&address) {
                session.send(error.clone());
            }
        }
    }
    let Some(mut message) = Talk::new(core, room, (&me, &peer)).message(placed)? else { return Ok(()) };
    let (Some(from), Some(to)) = (core.address_of(&me), core.address_of(&peer)) else { return Ok(()) };
    let flight = placed.txn.as_ref().and_then(|(_, txn)| core.im.flights.remove(txn.split('.').next().unwrap_or(txn)));
    let (origin, target) = match flight {
        Some((_, (origin, target))) => (Some(origin), target),
        None => (None, Jid::from(to.clone())),
    };
    let speaker = origin.clone().map_or_else(|| Jid::from(from.clone()), Jid::from);
    message.set_attr("from", Some(speaker.to_string()));
    message.set_attr("to", Some(target.to_string()));
    let event = placed.event.event_id().as_str();
    // What somebody writes to themselves all their sessions receive.
    if core.is_account(&me) && me != peer && is_copied(&message) {
        let copied = with_stanza_id(&message, &from, event);
        copy(core, &copied, ("sent", &me), |session| Some(session.jid()) == origin.as_ref());
    }
    crate::xep::receipts::await_device(core, (speaker, peer.clone()), &message, placed);
    if core.is_ghost(&peer) {
        Box::pin(core.send_elsewhere(message)).await;
    } else if core.is_account(&peer) && !core.has_blocked(&peer, &me) {
        receive(core, &with_stanza_id(&message, &to, event), (&peer, &target), placed.order).await;
    }
    Ok(())
}

/// The stanza-id is the event's. [XEP-0359]
pub(crate) fn with_stanza_id(message: &Element, by: &BareJid, event: &str) -> Element {
    let id = Element::new("stanza-id", ns::STANZA_ID).with_attr("by", by.to_string()).with_attr("id", event);
    message.clone().with_child(id)
}

/// Delivers a message to an account of ours. [RFC6121 §8.5]
async fn receive(core: &Arc<Core>, message: &Element, (user, target): (&OwnedUserId, &Jid), order: Order) {
    let full = target.clone().try_into_full().ok().and_then(|full| core.sessions.get(&full));
    let mut takers = match full {
        Some(session) => vec![session],
        None => core.sessions.takers(&target.to_bare()),
    };
    // Who has just come gets it late.
    takers.retain(|session| session.state().late_up_to < order);
    let took = |session: &Arc<Session>| takers.iter().any(|taker| taker.jid() == session.jid());
    for session in &takers {
        session.send(message.clone());
    }
    if is_copied(message) {
        copy(core, message, ("received", user), took);
    }
    crate::xep::push::wake(core, user, message).await;
}

/// Whether other sessions of the account get copies of a message. [XEP-0280 §which-messages]
pub(crate) fn is_copied(message: &Element) -> bool {
    let private = message.has_child("private", ns::CARBONS) || message.has_child("no-copy", ns::HINTS);
    match message.kind().unwrap_or("normal") {
        _ if private => false,
        "chat" => true,
        "normal" => {
            message.has_child("body", ns::CLIENT)
                || message.has_ns(ns::RECEIPTS)
                || message.has_ns(ns::CHAT_STATES)
                || message.has_ns(ns::CHAT_MARKERS)
                || koine_projection::message::lasts(message)
        }
        _ => false,
    }
}

/// Copies a message to those sessions of an account that want copies and have not got it. [XEP-0280]
pub(crate) fn copy(
    core: &Core,
    message: &Element,
    (direction, user): (&'static str, &UserId),
    has_it: impl Fn(&Arc<Session>) -> bool,
) {
    let Some(account) = core.jid_of(user) else { return };
    for session in core.sessions.of(&account) {
        if !session.state().carbons || has_it(&session) {
            continue;
        }
        let forwarded = Element::new("forwarded", ns::FORWARD).with_child(message.clone());
        let copy = Element::new("message", ns::CLIENT)
            .with_attr("from", account.to_string())
            .with_attr("to", session.jid().to_string())
            .with_attr("type", message.kind().unwrap_or("normal"))
            .with_child(Element::new(direction, ns::CARBONS).with_child(forwarded));
        session.send(copy);
    }
}

/// Somebody's membership of a room changed: rooms of two begin and end so.
async fn member(core: &Arc<Core>, room: &Arc<Room>, placed: &Placed) -> Result<bool, ReadError> {
    let event = &placed.event;
    let Some(target) = event.state_key().and_then(|user| OwnedUserId::try_from(user).ok()) else { return Ok(false) };
    let sender = event.sender().to_owned();
    let membership = event.membership().map(Membership::from);
    let pair = core.rooms().pair_of(room.no())?;
    match (membership, pair) {
        (Some(Membership::Invite | Membership::Join), Some(pair)) if pair.0 != target && pair.1 != target => {
            if let Err(error) = core.rooms().unpair(room.no()).await {
                tracing::error!(room_id = %room.id(), reason = %error, "a room of two has a third, and is not told apart");
            }
            Ok(false)
        }
        (Some(Membership::Invite), pair) => {
            let direct = event.content_field::<bool>("is_direct") == Some(true);
            let published = room.published();
            if pair.is_none() && direct && published.joined + published.invited <= 2 && sender != target {
                if let Err(error) = core.rooms().pair(room.id(), &sender, &target, false).await {
                    tracing::error!(room_id = %room.id(), reason = %error, "a room of two is not known as one");
                }
                // Who is reached by mail asks, as a stranger does in XMPP: whoever lives there has no list of invitations.
                if core.mail_address_of(&sender).is_some() {
                    crate::xep::gateway::asks(core, &sender, &target);
                    return Ok(true);
                }
                // Whoever lives in XMPP is there at once, as everybody is who is written to there.
                if core.comes_at_once(&target) && !core.has_blocked(&target, &sender) {
                    enter(core, room, &target);
                    ask(core, &sender, &target).await;
                }
                return Ok(true);
            }
            Ok(pair.is_some())
        }
        (Some(membership @ (Membership::Join | Membership::Leave | Membership::Ban)), Some(pair)) => {
            if let Some((me, peer)) = Core::pair_from(&pair, &target)
                && let Some(asker) = asks_to_subscribe(core, &me, &peer)
            {
                // Whoever was asked and came has said yes to the other, whoever went has said no. [RFC6121 §3.1.4]
                let came = membership == Membership::Join;
                let words: &[Word] = if came { &[Word::Subscribed, Word::Subscribe] } else { &[Word::Unsubscribed] };
                for word in words {
                    core.say(&me, &asker, *word).await;
                }
            }
            Ok(true)
        }
        (_, pair) => Ok(pair.is_some()),
    }
}

/// The address of `peer`, if they wait for somebody who lives in Matrix to say whether they may see their presence.
fn asks_to_subscribe(core: &Core, me: &UserId, peer: &UserId) -> Option<BareJid> {
    let by_mail = core.mail_address_of(peer).is_some();
    if !core.is_account(me) || (!by_mail && core.accounts().uses_xmpp(me).unwrap_or(true)) {
        return None;
    }
    let address = core.address_of(peer)?;
    core.accounts().contact(me, &address.to_string()).ok()??.request?;
    Some(address)
}

/// Whoever asks somebody into a conversation by Matrix asks to be told of their presence, and lets them be told of theirs.
async fn ask(core: &Arc<Core>, sender: &UserId, target: &UserId) {
    let lives_in_matrix = core.is_account(sender) && !core.accounts().uses_xmpp(sender).unwrap_or(true);
    let Some(address) = core.address_of(target).filter(|_| lives_in_matrix) else { return };
    core.say(sender, &address, Word::Subscribed).await;
    core.say(sender, &address, Word::Subscribe).await;
}

/// Brings somebody into a room they were asked into, beside the reading of the log.
fn enter(core: &Arc<Core>, room: &Arc<Room>, user: &OwnedUserId) {
    let (core, room, user) = (core.clone(), room.clone(), user.clone());
    tokio::spawn(async move {
        let profile = core.profile_of(&user);
        if let Err(error) = core.rooms().join(&user, room.id(), &profile, None, Map::new()).await {
            tracing::warn!(room_id = %room.id(), user_id = %user, reason = %error, "a conversation could not be entered");
        }
    });
}

/// Somebody has read up to an event of a room, as the log tells. [XEP-0333]
pub(crate) async fn read_up_to(
    core: &Arc<Core>,
    no: RoomNo,
    reader: &UserId,
    position: Position,
) -> Result<(), ReadError> {
    let Some(pair) = core.rooms().pair_of(no)? else { return Ok(()) };
    let Some((me, peer)) = Core::pair_from(&pair, reader) else { return Ok(()) };
    let (Some(from), Some(to)) = (core.address_of(&me), core.address_of(&peer)) else { return Ok(()) };
    let there = core.is_ghost(&peer) || core.sessions.is_connected(&to);
    if !there || core.is_ghost(&me) || core.has_blocked(&peer, &me) {
        return Ok(());
    }
    // Who reads with a session of ours has told so by it already.
    if core.sessions.of(&from).iter().any(|session: &Arc<Session>| session.priority().is_some()) {
        return Ok(());
    }
    let room = core.rooms().room_by_no(no)?;
    let at = i64::try_from(position.0).unwrap_or(i64::MAX);
    let receipts = room.receipts_after(&peer, Some(at - 1), at)?;
    let Some(receipt) = receipts.into_iter().find(|receipt| receipt.user == me) else { return Ok(()) };
    let id = koine_projection::message::Names::name_of(&Talk::new(core, &room, (&me, &peer)), &receipt.event_id);
    let marker = Element::new("message", ns::CLIENT)
        .with_attr("from", from.to_string())
        .with_attr("to", to.to_string())
        .with_attr("type", "chat")
        .with_child(Element::new("displayed", ns::CHAT_MARKERS).with_attr("id", id));
    if core.is_ghost(&peer) {
        Box::pin(core.send_elsewhere(marker)).await;
        return Ok(());
    }
    for session in core.sessions.takers(&to) {
        session.send(marker.clone());
    }
    Ok(())
}
