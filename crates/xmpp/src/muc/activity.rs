//! How much is said in a room, for who considers to enter it (XEP-0502), and in which rooms something was said, for who is a
//! member and not there (XEP-0437).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use koine_room::{Membership, Placed, ReadError, Room, RoomNo};
use koine_stanza::{Element, Jid, form::Field, ns};
use parking_lot::Mutex;
use ruma_common::OwnedUserId;
use serde_json::Value;

use super::{name, settings::Settings, words};
use crate::{
    core::Core,
    iq::{At, Extension},
    session::Session,
};

/// The protocol.
const RAI: &str = "urn:xmpp:rai:0";
/// Over which time messages are counted, in hours.
const HOURS: u32 = 24;
/// Newest events that are looked at to count.
const LOOK_MAX: usize = 500;
/// Most sessions that are told where something was said.
const SUBSCRIBERS_MAX: usize = 20_000;
/// Most rooms that one of them is told of.
const ROOMS_MAX: usize = 500;

/// Presence and messages alone: there are no requests.
pub(crate) const EXTENSION: Extension = Extension { features: &[(At::RoomService, RAI)], handlers: &[] };

/// The field of what a public room tells of itself. [XEP-0502 §retrieve]
pub(super) fn told(room: &Room, settings: &Settings, now_ms: u64) -> Result<Option<Field>, ReadError> {
    // [XEP-0502 §privacy]
    if !settings.listed || settings.members_only {
        return Ok(None);
    }
    let begin = now_ms.saturating_sub(u64::from(HOURS) * 3_600_000);
    let newest = room.newest(i64::MIN, room.published().order, LOOK_MAX)?;
    let ts = |placed: &Placed| u64::from(placed.event.origin_server_ts().get());
    let counts = |placed: &Placed| {
        let relation: Option<Value> = placed.event.content_field("m.relates_to");
        let edits = relation.is_some_and(|relation| relation["rel_type"] == "m.replace");
        words::is_said(placed.event.kind()) && placed.event.state_key().is_none() && !edits && ts(placed) >= begin
    };
    let count = newest.iter().filter(|placed| counts(placed)).count();
    // In a room with more than is looked at, what was looked at is from a shorter time.
    let oldest = newest.iter().map(|placed| ts(placed)).min().unwrap_or(begin);
    let shorter = newest.len() >= LOOK_MAX && oldest > begin;
    let span_ms = if shorter { now_ms.saturating_sub(oldest).max(60_000) } else { u64::from(HOURS) * 3_600_000 };
    let per_hour = count as f64 * 3_600_000.0 / span_ms as f64;
    let name = "{urn:xmpp:muc-activity}message-activity";
    Ok(Some(Field::text(name, "Messages per hour", &format!("{per_hour:.2}"))))
}

/// Who waits to be told where something was said.
#[derive(Default)]
pub(super) struct Watchers {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// By session, the rooms that it has not been told of.
    of: HashMap<Jid, HashSet<RoomNo>>,
    by_room: HashMap<RoomNo, HashSet<Jid>>,
}

impl Watchers {
    fn watch(&self, session: &Jid, rooms: HashSet<RoomNo>) {
        self.forget(session);
        let mut inner = self.inner.lock();
        if inner.of.len() >= SUBSCRIBERS_MAX {
            return;
        }
        for room in &rooms {
            inner.by_room.entry(*room).or_default().insert(session.clone());
        }
        inner.of.insert(session.clone(), rooms);
    }

    /// A session is told nothing more.
    pub(super) fn forget(&self, session: &Jid) {
        let mut inner = self.inner.lock();
        for room in inner.of.remove(session).unwrap_or_default() {
            if let Some(sessions) = inner.by_room.get_mut(&room) {
                sessions.remove(session);
                if sessions.is_empty() {
                    inner.by_room.remove(&room);
                }
            }
        }
    }

    /// Those who wait for a room, each once.
    fn take(&self, room: RoomNo) -> HashSet<Jid> {
        let mut inner = self.inner.lock();
        let sessions = inner.by_room.remove(&room).unwrap_or_default();
        for session in &sessions {
            if let Some(rooms) = inner.of.get_mut(session) {
                rooms.remove(&room);
            }
        }
        sessions
    }
}

fn message(core: &Core, to: &Jid, rooms: Vec<String>) -> Element {
    let rooms = rooms.into_iter().map(|room| Element::text_of("activity", RAI, room));
    Element::new("message", ns::CLIENT)
        .with_attr("from", core.hosts.rooms.as_str())
        .with_attr("to", to.to_string())
        .with_child(Element::new("rai", RAI).with_children(rooms))
}

/// Presence to the service with the rooms. [XEP-0437 §usecases]
pub(crate) async fn watch(core: &Arc<Core>, stanza: &Element, session: &Arc<Session>) -> Result<(), ReadError> {
    let jid = Jid::from(session.jid().clone());
    if stanza.kind() == Some("unavailable") {
        core.muc.watchers.forget(&jid);
        return Ok(());
    }
    if stanza.kind().is_some() || !stanza.has_child("rai", RAI) {
        return Ok(());
    }
    let user: &OwnedUserId = session.user();
    let (mut quiet, mut active) = (HashSet::new(), Vec::new());
    let joined = core.rooms().memberships(user)?.into_iter();
    for (no, _) in joined.filter(|(_, record)| record.membership == Membership::Join).take(ROOMS_MAX) {
        if core.rooms().pair_of(no)?.is_some() || is_inside(core, no, &jid).await {
            continue;
        }
        let room = core.rooms().room_by_no(no)?;
        let newest = room.newest(i64::MIN, room.published().order, LOOK_MAX.min(20))?;
        let newest =
            newest.into_iter().filter(|placed| words::is_said(placed.event.kind())).max_by_key(|placed| placed.order);
        let unread = match &newest {
            Some(placed) => placed.event.sender() != user && !room.has_read(user, placed)?,
            None => false,
        };
        match unread {
            true => active.push(name::address(core, &room)?.to_string()),
            false => drop(quiet.insert(no)),
        }
    }
    core.muc.watchers.watch(&jid, quiet);
    if !active.is_empty() {
        session.send(message(core, &jid, active));
    }
    Ok(())
}

async fn is_inside(core: &Core, no: RoomNo, session: &Jid) -> bool {
    let Some(hall) = core.muc.hall(no) else { return false };
    let inside = hall.inside.lock().await;
    inside.nick_of(session).is_some()
}

/// Something was said in a room: members who wait for that are told, once. [XEP-0437 §rules]
pub(super) async fn said(core: &Arc<Core>, room: &Room, placed: &Placed) -> Result<(), ReadError> {
    if !words::is_said(placed.event.kind()) {
        return Ok(());
    }
    for session in core.muc.watchers.take(room.no()) {
        let user = core.person_of(&session.to_bare());
        if !user.is_some_and(|user| room.is_joined(&user)) || is_inside(core, room.no(), &session).await {
            continue;
        }
        let rooms = vec![name::address(core, room)?.to_string()];
        core.deliver(message(core, &session, rooms)).await;
    }
    Ok(())
}
