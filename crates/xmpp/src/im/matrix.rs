//! What Matrix devices do for a moment, shown to XMPP: typing and presence.
//!
//! Whoever has a session that is there tells so by it; here is what those do who have none.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
};

use koine_room::RoomNo;
use koine_stanza::{Element, ns};
use ruma_common::{OwnedUserId, UserId};
use tokio::sync::broadcast::error::RecvError;

use super::presence::{self, in_matrix, matrix_address};
use crate::core::Core;

/// Most people of whom it is remembered that they are shown typing.
const TYPING_MAX: usize = 10_000;

/// Starts both tasks; they end with the core.
pub(crate) fn start(core: &Arc<Core>) {
    let (weak, mut typed) = (Arc::downgrade(core), core.rooms().hub().typed());
    tokio::spawn(async move {
        let mut shown = HashSet::new();
        loop {
            match typed.recv().await {
                Ok(room) => {
                    if typing(&weak, room, &mut shown).await.is_none() {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
    let (weak, mut told) = (Arc::downgrade(core), core.accounts().presences().told());
    tokio::spawn(async move {
        let mut shown = HashSet::new();
        loop {
            match told.recv().await {
                Ok(user) => {
                    let Some(core) = weak.upgrade() else { return };
                    changed(&core, user, &mut shown).await;
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
}

/// Whether somebody speaks for themselves by a session that is there.
fn has_session(core: &Core, user: &UserId) -> bool {
    let account = core.jid_of(user);
    account.is_some_and(|account| core.sessions.of(&account).iter().any(|session| session.priority().is_some()))
}

/// Tells who types in a room of two. [XEP-0085]
async fn typing(core: &Weak<Core>, no: RoomNo, shown: &mut HashSet<(RoomNo, OwnedUserId)>) -> Option<()> {
    let core = core.upgrade()?;
    let Ok(Some(pair)) = core.rooms().pair_of(no) else { return Some(()) };
    let Ok(room) = core.rooms().room_by_no(no) else { return Some(()) };
    let (typing, _) = room.typing();
    for (me, peer) in [(&pair.0, &pair.1), (&pair.1, &pair.0)] {
        let key = (no, me.clone());
        let (is, was) = (typing.contains(me), shown.contains(&key));
        if is == was || core.is_ghost(me) || has_session(&core, me) || core.has_blocked(peer, me) {
            continue;
        }
        match is {
            true if shown.len() < TYPING_MAX => drop(shown.insert(key)),
            true => continue,
            false => drop(shown.remove(&key)),
        }
        let (Some(from), Some(to)) = (core.address_of(me), core.address_of(peer)) else { continue };
        let state = Element::new(if is { "composing" } else { "paused" }, ns::CHAT_STATES);
        let message = Element::new("message", ns::CLIENT)
            .with_attr("from", from.to_string())
            .with_attr("to", to.to_string())
            .with_attr("type", "chat")
            .with_child(state)
            .with_child(Element::new("no-store", ns::HINTS));
        if core.is_ghost(peer) {
            core.send_elsewhere(message).await;
            continue;
        }
        for session in core.sessions.takers(&to) {
            session.send(message.clone());
        }
    }
    Some(())
}

/// The presence of somebody changed: their contacts learn of it, where no session of theirs tells them.
async fn changed(core: &Arc<Core>, user: OwnedUserId, shown: &mut HashSet<OwnedUserId>) {
    let Some(account) = core.jid_of(&user).filter(|_| core.is_account(&user)) else { return };
    let there = in_matrix(core, &user, &account).filter(|_| !has_session(core, &user));
    match there {
        Some(presence) => {
            shown.insert(user.clone());
            presence::broadcast(core, &user, &presence).await;
        }
        None if shown.remove(&user) => {
            let gone = Element::new("presence", ns::CLIENT)
                .with_attr("from", matrix_address(&account))
                .with_attr("type", "unavailable");
            presence::broadcast(core, &user, &gone).await;
        }
        None => {}
    }
}
