//! What was said while nobody was there. [XEP-0160]
//!
//! There is no second store: where in the log the account was last told is remembered, and what came behind it is read from
//! the rooms of two when somebody comes who takes messages. Whoever reads the archive themselves is not told twice.

use std::sync::{Arc, atomic::Ordering};

use koine_account::Drawer;
use koine_room::{Membership, Order, ReadError};
use koine_stanza::{Element, ns};
use koine_store::Direction;
use ruma_common::{OwnedUserId, UserId};
use serde_json::Map;

use super::{Talk, happened::with_stanza_id};
use crate::{core::Core, session::Session, time};

/// Most messages that are delivered late; older ones are in the archive.
const LATE_MAX: usize = 500;
/// What stands there while somebody takes messages.
const THERE: &str = "there";

/// Nobody takes messages any more: remembers since when.
pub(super) async fn leave(core: &Arc<Core>, user: &UserId, stanza: &Element) {
    let place = core.im.told.load(Ordering::Acquire).to_string();
    let status = stanza.child_text("status", ns::CLIENT).unwrap_or_default();
    let seen = format!("{} {status}", core.now_ms());
    for (drawer, text) in [(Drawer::Delivered, place), (Drawer::LastSeen, seen)] {
        if let Err(error) = core.accounts().keep(user, drawer, "", Some(text)).await {
            tracing::error!(user_id = %user, reason = %error, "it was not noted when an account went");
        }
    }
}

/// Up to where in the log an account was told, whose first session comes that takes messages; `None` where nothing is told late.
pub(super) fn after(core: &Core, session: &Session) -> Option<Order> {
    if core.im.readers.lock().contains(session.jid()) {
        return None;
    }
    // Somebody was there when the server ended: what they were not told of, it had not taken.
    core.accounts().kept(session.user(), Drawer::Delivered, "").ok().flatten()?.parse().ok()
}

/// A session takes messages, the first of its account: gives it those that nobody took, which are those of the log between.
pub(super) async fn deliver(core: &Arc<Core>, session: &Arc<Session>, between: Option<(Order, Order)>) {
    let user = session.user();
    if let Err(error) = core.accounts().keep(user, Drawer::Delivered, "", Some(THERE.to_owned())).await {
        tracing::error!(user_id = %user, reason = %error, "it was not noted that an account is there");
    }
    let Some(between) = between else { return };
    match late(core, session, between) {
        Ok(messages) => messages.into_iter().for_each(|message| {
            session.send(message);
        }),
        Err(error) => tracing::error!(user_id = %user, reason = %error, "late messages could not be read"),
    }
}

fn late(core: &Core, session: &Session, (after, up_to): (Order, Order)) -> Result<Vec<Element>, ReadError> {
    let me = session.user();
    let Some(account) = core.jid_of(me) else { return Ok(Vec::new()) };
    let mut found: Vec<(Order, Element)> = Vec::new();
    for (peer, no) in core.rooms().rooms_of_two(me)? {
        let room = core.rooms().room_by_no(no)?;
        let newest = room.published().order.min(up_to);
        if newest <= after || core.has_blocked(me, &peer) {
            continue;
        }
        let span = koine_room::Span { from: Some(after), to: None, direction: Direction::Forward, limit: LATE_MAX };
        let mut viewer = koine_room::Viewer::new(&room, me)?;
        let page = room.page(span, newest, |placed| {
            Ok(placed.event.sender() == peer && placed.redacted_by.is_none() && viewer.may_see(placed)?)
        })?;
        let talk = Talk::new(core, &room, (me, &peer));
        for placed in page.events {
            let Some(mut message) = talk.message(&placed)? else { continue };
            let Some(from) = core.address_of(&peer) else { continue };
            message.set_attr("from", Some(core.speaker(&from, &placed).to_string()));
            message.set_attr("to", Some(session.jid().to_string()));
            let stamp = time::format(placed.event.origin_server_ts().get().into());
            let delay = Element::new("delay", ns::DELAY)
                .with_attr("from", account.domain().to_string())
                .with_attr("stamp", stamp);
            let message = with_stanza_id(&message, &account, placed.event.event_id().as_str()).with_child(delay);
            found.push((placed.order, message));
        }
    }
    found.sort_by_key(|(order, _)| *order);
    let surplus = found.len().saturating_sub(LATE_MAX);
    Ok(found.into_iter().skip(surplus).map(|(_, message)| message).collect())
}

/// Whoever uses XMPP for the first time enters the conversations that they were asked into: there nobody is asked first.
pub(super) async fn come_in(core: &Arc<Core>, user: &OwnedUserId) {
    if crate::suspended::is_suspended(core, user) {
        return;
    }
    let memberships = match core.rooms().memberships(user) {
        Ok(memberships) => memberships,
        Err(error) => {
            tracing::error!(user_id = %user, reason = %error, "invitations could not be read");
            return;
        }
    };
    for (no, record) in memberships.into_iter().filter(|(_, record)| record.membership == Membership::Invite) {
        let _ = record;
        let pair = core.rooms().pair_of(no).ok().flatten();
        let Some((_, peer)) = pair.as_ref().and_then(|pair| Core::pair_from(pair, user)) else { continue };
        if core.has_blocked(user, &peer) {
            continue;
        }
        let Ok(room) = core.rooms().room_by_no(no) else { continue };
        let joined = core.rooms().join(user, room.id(), &core.profile_of(user), None, Map::new()).await;
        if let Err(error) = joined {
            tracing::warn!(user_id = %user, room_id = %room.id(), reason = %error, "a conversation could not be entered");
        }
    }
}
