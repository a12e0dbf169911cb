//! Who is there. [RFC6121 §4] [RFC6121 §8.5]

use std::sync::{Arc, atomic::Ordering};

use koine_account::{Drawer, PresenceState, Word};
use koine_room::Order;
use koine_stanza::{BareJid, Condition, Element, Jid, StanzaError, ns};
use ruma_common::{OwnedUserId, UserId};

use super::{DIRECTED_MAX, away};
use crate::{
    address::Place,
    core::Core,
    session::{Available, Session},
};

/// Resource under which somebody is shown who is there with Matrix devices alone.
const MATRIX_RESOURCE: &str = "Matrix";

/// Brings a presence with a proven sender to whom it is for.
pub(crate) async fn presence(
    core: &Arc<Core>,
    stanza: &Element,
    from: &Jid,
    to: &Jid,
    session: Option<&Arc<Session>>,
) -> Result<(), StanzaError> {
    let kind = stanza.kind();
    if stanza.attr("to").is_none() {
        let Some(session) = session else { return Ok(()) };
        return match kind {
            None => available(core, session, stanza).await,
            Some("unavailable") => {
                unavailable(core, session, stanza).await;
                Ok(())
            }
            Some("error") => Ok(()),
            Some(_) => {
                Err(StanzaError::new(Condition::BadRequest, "this type of presence names whom it is for in `to`"))
            }
        };
    }
    if let Some(word) = kind.and_then(Word::parse) {
        let (from, to) = (from.to_bare(), to.to_bare());
        return match session {
            Some(session) => core.said(session.user(), &from, &to, word, stanza).await,
            None => {
                core.heard(&from, &to, word, stanza).await;
                Ok(())
            }
        };
    }
    match (core.place(to), kind) {
        (Place::RoomService, None | Some("unavailable")) => match session {
            Some(session) => {
                crate::muc::watch(core, stanza, session).await.map_err(|error| crate::error::unreadable(&error))
            }
            None => Ok(()),
        },
        (Place::Room, _) => crate::muc::presence(core, stanza, from, to, session).await,
        (Place::Account(user), Some("probe")) => {
            probed(core, &user, from).await;
            Ok(())
        }
        (Place::Account(user), None | Some("unavailable" | "error")) => {
            if let Some(session) = session.filter(|_| kind != Some("error")) {
                note_directed(core, session, to, kind.is_none())?;
            }
            if !core.has_blocked_address(&user, from) {
                hand_over(core, stanza, to, kind == Some("error"));
                if session.is_none() {
                    crate::xep::pep::greet_remote(core, stanza, from, &user).await;
                }
            }
            Ok(())
        }
        (Place::Elsewhere, _) => {
            if let Some(session) = session.filter(|_| matches!(kind, None | Some("unavailable"))) {
                note_directed(core, session, to, kind.is_none())?;
            }
            core.send_elsewhere(stanza.clone()).await;
            Ok(())
        }
        (_, None | Some("unavailable" | "error" | "probe")) => Ok(()),
        _ => Err(StanzaError::new(Condition::BadRequest, "there is no such type of presence")),
    }
}

/// Gives a presence to the sessions that an address means. [RFC6121 §8.5.2.1.2] [RFC6121 §8.5.3.1]
fn hand_over(core: &Core, stanza: &Element, to: &Jid, is_error: bool) {
    match to.clone().try_into_full() {
        Ok(full) => {
            if let Some(session) = core.sessions.get(&full) {
                session.send(stanza.clone());
            }
        }
        Err(_) if is_error => {}
        Err(bare) => {
            for session in core.sessions.of(&bare).iter().filter(|session| session.priority().is_some()) {
                session.send(stanza.clone());
            }
        }
    }
}

/// [RFC6121 §4.6.3] Whoever was told so is told when it ends.
fn note_directed(core: &Core, session: &Session, to: &Jid, is_there: bool) -> Result<(), StanzaError> {
    let mut directed = core.im.directed.lock();
    let told = directed.entry(session.jid().clone()).or_default();
    match is_there {
        true if told.len() >= DIRECTED_MAX && !told.contains(to) => {
            return Err(StanzaError::new(
                Condition::ResourceConstraint,
                "you have told as many as you may that you are there",
            ));
        }
        true => drop(told.insert(to.clone())),
        false => drop(told.remove(to)),
    }
    if told.is_empty() {
        directed.remove(session.jid());
    }
    Ok(())
}

/// A session is there, or says something new of it. [RFC6121 §4.2] [RFC6121 §4.4]
async fn available(core: &Arc<Core>, session: &Arc<Session>, stanza: &Element) -> Result<(), StanzaError> {
    let priority = match stanza.child_text("priority", ns::CLIENT) {
        None => 0,
        Some(text) => text
            .trim()
            .parse::<i8>()
            .map_err(|_| StanzaError::new(Condition::BadRequest, "a priority is a whole number from -128 to 127"))?,
    };
    let user = session.user();
    crate::xep::push::seen(core, user);
    super::slow_down(core, user, true).await?;
    let account = session.jid().to_bare();
    let stanza = crate::xep::avatar::announced(core, user, stanza);
    let had_taker = !core.sessions.takers(&account).is_empty();
    let presence = Available { priority, stanza: Arc::new(stanza.clone()) };
    let is_first_taker = priority >= 0 && !had_taker;
    let after = Some(()).filter(|()| is_first_taker).and_then(|()| away::after(core, session));
    let before = {
        let mut state = session.state();
        if after.is_some() {
            // Until it is known how far.
            state.late_up_to = Order::MAX;
        }
        state.presence.replace(presence)
    };
    // What is being told just now does not find this session, or holds back: it belongs to what comes late.
    let between = after.map(|after| {
        let up_to = core.im.telling.load(Ordering::Acquire);
        session.state().late_up_to = up_to;
        (after, up_to)
    });
    let shorter =
        before.as_ref().and_then(|before| crate::xep::caps::without_repetition(Some(&before.stanza), &stanza));
    show_to_matrix(core, session, &stanza);
    let others: Vec<_> = core.sessions.of(&account).into_iter().filter(|other| other.priority().is_some()).collect();
    for other in &others {
        other.send(addressed(&stanza, &Jid::from(other.jid().clone())));
    }
    // Servers keep no account of what a client was: they get it whole.
    broadcast_both(core, user, shorter.as_ref().unwrap_or(&stanza), &stanza).await;
    if before.is_none() {
        let is_first_ever = !core.accounts().uses_xmpp(user).unwrap_or(true);
        if is_first_ever {
            let noted = core.accounts().keep(user, Drawer::UsesXmpp, "", Some("1".to_owned())).await;
            if let Err(error) = noted {
                tracing::error!(user_id = %user, reason = %error, "it was not noted that an account uses XMPP");
            }
            away::come_in(core, user).await;
        }
        first(core, session, &others).await;
        crate::xep::notices::greet(core, session, is_first_ever);
        if others.len() <= 1
            && let Err(error) = crate::muc::pending_invitations(core, session)
        {
            tracing::error!(user_id = %user, reason = %error, "invitations could not be read");
        }
    }
    // [RFC6121 §8.5.2.2] Whoever takes messages now gets those that nobody took.
    if is_first_taker {
        away::deliver(core, session, between).await;
    }
    crate::xep::pep::greet(core, session, &stanza, before.is_none()).await;
    Ok(())
}

/// What a session learns when it comes. [RFC6121 §4.2.2] [RFC6121 §4.3]
async fn first(core: &Arc<Core>, session: &Arc<Session>, others: &[Arc<Session>]) {
    let me = Jid::from(session.jid().clone());
    for other in others.iter().filter(|other| other.jid() != session.jid()) {
        let presence = other.state().presence.clone();
        if let Some(presence) = presence {
            session.send(addressed(&presence.stanza, &me));
        }
    }
    for (address, contact) in contacts(core, session.user()) {
        if let Some(request) = &contact.request
            && let Ok(request) =
                koine_stanza::reader::document(request.as_bytes(), koine_stanza::reader::Limits::bytes(65_536))
        {
            // [RFC6121 §3.1.3] Until it is answered.
            session.send(request);
        }
        if !contact.to {
            continue;
        }
        match core.place(&Jid::from(address.clone())) {
            Place::Account(user) if !core.has_blocked(session.user(), &user) => {
                show_account(core, &user, &address, &me).await;
            }
            Place::Elsewhere => {
                let probe = Element::new("presence", ns::CLIENT)
                    .with_attr("from", me.to_bare().to_string())
                    .with_attr("to", address.to_string())
                    .with_attr("type", "probe");
                core.send_elsewhere(probe).await;
            }
            _ => {}
        }
    }
}

/// A session is not there any more. [RFC6121 §4.5]
async fn unavailable(core: &Arc<Core>, session: &Arc<Session>, stanza: &Element) {
    let account = session.jid().to_bare();
    let before = session.state().presence.take();
    let directed = core.im.directed.lock().remove(session.jid()).unwrap_or_default();
    core.im.shown.lock().remove(session.jid());
    core.im.readers.lock().remove(session.jid());
    crate::xep::pep::forget(core, session.jid());
    crate::muc::session_ended(core, &Jid::from(session.jid().clone())).await;
    if let Some(before) = before {
        core.accounts().presences().set(session.user(), session.device(), PresenceState::Offline, None);
        for other in core.sessions.of(&account).iter().filter(|other| other.priority().is_some()) {
            other.send(addressed(stanza, &Jid::from(other.jid().clone())));
        }
        broadcast(core, session.user(), stanza).await;
        if before.priority >= 0 && core.sessions.takers(&account).is_empty() {
            away::leave(core, session.user(), stanza).await;
        }
    }
    for to in directed {
        let stanza = addressed(stanza, &to);
        match core.place(&to) {
            Place::Account(_) => hand_over(core, &stanza, &to, false),
            Place::Elsewhere => core.send_elsewhere(stanza).await,
            _ => {}
        }
    }
}

/// Contacts of an account whose addresses are any.
fn contacts(core: &Core, user: &UserId) -> Vec<(BareJid, koine_account::Contact)> {
    let contacts = core.accounts().contacts(user).unwrap_or_else(|error| {
        tracing::error!(user_id = %user, reason = %error, "contacts could not be read");
        Vec::new()
    });
    contacts.into_iter().filter_map(|(address, contact)| Some((BareJid::new(&address).ok()?, contact))).collect()
}

/// Tells a presence to all who may know of it. [RFC6121 §4.2.2]
pub(super) async fn broadcast(core: &Arc<Core>, user: &UserId, stanza: &Element) {
    broadcast_both(core, user, stanza, stanza).await;
}

/// The same with one stanza for our own people and one for others.
async fn broadcast_both(core: &Arc<Core>, user: &UserId, ours: &Element, others: &Element) {
    for (address, _) in contacts(core, user).into_iter().filter(|(_, contact)| contact.from) {
        let to = Jid::from(address);
        let stanza = if core.place(&to) == Place::Elsewhere { others } else { ours };
        tell(core, user, &to, stanza).await;
    }
}

/// Tells one contact.
async fn tell(core: &Arc<Core>, user: &UserId, to: &Jid, stanza: &Element) {
    let blocked =
        core.person_of(&to.to_bare()).is_some_and(|to| core.has_blocked(user, &to) || core.has_blocked(&to, user));
    if blocked {
        return;
    }
    let stanza = addressed(stanza, to);
    match core.place(to) {
        Place::Account(_) => hand_over(core, &stanza, to, false),
        Place::Elsewhere => core.send_elsewhere(stanza).await,
        _ => {}
    }
}

fn addressed(stanza: &Element, to: &Jid) -> Element {
    let mut stanza = stanza.clone();
    stanza.set_attr("to", Some(to.to_string()));
    stanza
}

/// Tells somebody, who may know, who of an account is there.
pub(crate) async fn show_to(core: &Arc<Core>, user: &UserId, to: &BareJid, is_there: bool) {
    let Some(account) = core.jid_of(user) else { return };
    let to = Jid::from(to.clone());
    for session in core.sessions.of(&account) {
        let presence = session.state().presence.clone();
        let Some(presence) = presence else { continue };
        match is_there {
            true => tell(core, user, &to, &presence.stanza).await,
            false => {
                let gone = Element::new("presence", ns::CLIENT)
                    .with_attr("from", session.jid().to_string())
                    .with_attr("type", "unavailable");
                tell(core, user, &to, &gone).await;
            }
        }
    }
}

/// Shows a session who of an account is there; the account's own contacts decide.
async fn show_account(core: &Arc<Core>, user: &OwnedUserId, account: &BareJid, to: &Jid) {
    let knows = core.accounts().contact(user, &to.to_bare().to_string());
    let blocked = core.person_of(&to.to_bare()).is_some_and(|asker| core.has_blocked(user, &asker));
    if blocked || !knows.is_ok_and(|contact| contact.is_some_and(|contact| contact.from)) {
        return;
    }
    let sessions = core.sessions.of(account);
    let mut shown = false;
    for presence in sessions.iter().filter_map(|session| session.state().presence.clone()) {
        shown = true;
        Box::pin(core.deliver(addressed(&presence.stanza, to))).await;
    }
    if !shown && let Some(presence) = in_matrix(core, user, account) {
        Box::pin(core.deliver(addressed(&presence, to))).await;
    }
}

/// The presence of somebody who is there with Matrix devices alone.
pub(super) fn in_matrix(core: &Core, user: &UserId, account: &BareJid) -> Option<Element> {
    let presence = core.accounts().presences().get(user).filter(|presence| presence.state != PresenceState::Offline)?;
    let show = (presence.state == PresenceState::Unavailable).then(|| Element::text_of("show", ns::CLIENT, "away"));
    let status = presence.status_msg.map(|status| Element::text_of("status", ns::CLIENT, status));
    // [XEP-0319] Since when they have done nothing.
    let idle = presence.last_active_ago.filter(|_| !presence.currently_active).map(|ago| {
        let since = core.now_ms().saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
        Element::new("idle", "urn:xmpp:idle:1").with_attr("since", crate::time::format(since))
    });
    let stanza = Element::new("presence", ns::CLIENT)
        .with_attr("from", matrix_address(account))
        .with_child_opt(show)
        .with_child_opt(status)
        .with_child_opt(idle);
    Some(stanza)
}

/// The address under which somebody is shown who is there with Matrix devices alone.
pub(super) fn matrix_address(account: &BareJid) -> String {
    format!("{account}/{MATRIX_RESOURCE}")
}

/// Somebody asks whether an account is there. [RFC6121 §4.3.2]
async fn probed(core: &Arc<Core>, user: &OwnedUserId, from: &Jid) {
    let Some(account) = core.jid_of(user) else { return };
    let contact = core.accounts().contact(user, &from.to_bare().to_string()).ok().flatten().unwrap_or_default();
    if !core.is_account(user) || !contact.from {
        let refusal = Element::new("presence", ns::CLIENT)
            .with_attr("from", account.to_string())
            .with_attr("to", from.to_bare().to_string())
            .with_attr("type", "unsubscribed");
        return Box::pin(core.deliver(refusal)).await;
    }
    let anybody = core.sessions.of(&account).iter().any(|session| session.priority().is_some());
    if anybody || in_matrix(core, user, &account).is_some() {
        return show_account(core, user, &account, from).await;
    }
    let gone = Element::new("presence", ns::CLIENT)
        .with_attr("from", account.to_string())
        .with_attr("to", from.to_string())
        .with_attr("type", "unavailable");
    Box::pin(core.deliver(gone)).await;
}

/// Tells Matrix of a session's presence.
fn show_to_matrix(core: &Core, session: &Session, stanza: &Element) {
    let state = match stanza.child_text("show", ns::CLIENT).as_deref() {
        Some("away" | "xa") => PresenceState::Unavailable,
        _ => PresenceState::Online,
    };
    let presences = core.accounts().presences();
    presences.set(session.user(), session.device(), state, stanza.child_text("status", ns::CLIENT));
    presences.act(session.user(), session.device());
    let mut shown = core.im.shown.lock();
    shown.remove(session.jid());
    if let Some(polling) = presences.poll(session.user(), session.device(), state) {
        shown.insert(session.jid().clone(), polling);
    }
}
