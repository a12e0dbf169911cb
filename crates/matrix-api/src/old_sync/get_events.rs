//! `GET /events`: what happens from now on, in all rooms or in one that may be one that anyone may read.
//!
//! [CS-API §get_matrixclientv3events] [CS-API §get_matrixclientv3events-1] A stream of events of rooms; what else was
//! once in it (presence, typing, receipts) is told by `/sync` alone.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use koine_graph::ClientForm;
use koine_room::{Membership, Order, Placed, Room, Viewer};
use ruma_common::OwnedRoomId;
use serde::{Deserialize, de::IgnoredAny};

use super::GetEvents;
use crate::{
    Api, Loose, Raw, Result, User,
    event::{Ignored, Shown},
    rooms::{query, room},
    sync::Out,
};

/// How long to wait when nothing is said.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Longest time a request is kept waiting.
const TIMEOUT_MAX: Duration = Duration::from_secs(5 * 60);
/// Most events of one answer; the next one goes on behind them.
const EVENTS_MAX: usize = 100;

#[derive(Debug, Deserialize)]
struct Query {
    from: Option<String>,
    timeout: Option<u64>,
    room_id: Option<OwnedRoomId>,
}

pub async fn get_events(State(api): State<Api>, call: Loose<GetEvents, IgnoredAny>) -> Result<Raw> {
    let query: Query = query(&call.query)?;
    let timeout = query.timeout.map_or(TIMEOUT_DEFAULT, Duration::from_millis).min(TIMEOUT_MAX);
    let deadline = tokio::time::Instant::now() + timeout;
    let one = query.room_id.as_deref().map(|id| room(&api, id)).transpose()?;
    if let Some(room) = &one {
        // Refuses who may not read it.
        Viewer::new(room, &call.who.user_id)?.newest()?;
    }
    let mut grown = api.rooms.shard().watch();
    let start = match query.from.as_deref().filter(|from| !from.is_empty()) {
        Some(from) => api.tokens().parse_place(from)?,
        None => api.tokens().now(api.rooms.shard().position(), 0).order(),
    };
    loop {
        grown.borrow_and_update();
        let position = api.rooms.shard().position();
        api.rooms.hub().reached(position).await;
        let up_to = api.tokens().now(position, 0).order();
        let (events, end) = news(&api, &call.who, one.as_ref(), (start, up_to))?;
        if !events.is_empty() || tokio::time::Instant::now() >= deadline || *api.closing.borrow() {
            return answer(&api, &call.who, &events, (start, end));
        }
        tokio::select! {
            _ = grown.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = api.closing() => {}
        }
        api.accounts.recheck(&call.who)?;
    }
}

type News = Vec<(Arc<Room>, Arc<Placed>)>;

/// Events in `(from, up_to]` that the reader may see, the oldest first, and how far they go.
fn news(api: &Api, who: &User, one: Option<&Arc<Room>>, (from, up_to): (Order, Order)) -> Result<(News, Order)> {
    let rooms = match one {
        Some(room) => vec![room.clone()],
        None => joined_with_news(api, who, from)?,
    };
    let ignored = Ignored::of(api, who)?;
    let mut found: News = Vec::new();
    for room in rooms {
        if room.published().order <= from {
            continue;
        }
        let mut viewer = Viewer::new(&room, &who.user_id)?;
        for placed in room.newest(from, up_to, EVENTS_MAX)? {
            if !ignored.hides(&placed) && viewer.may_see(&placed)? {
                found.push((room.clone(), placed));
            }
        }
    }
    found.sort_by_key(|(_, placed)| placed.order);
    let end = if found.len() > EVENTS_MAX { found[EVENTS_MAX - 1].1.order } else { up_to };
    found.truncate(EVENTS_MAX);
    Ok((found, end))
}

/// The rooms of the reader in which something happened after `from`.
fn joined_with_news(api: &Api, who: &User, from: Order) -> Result<Vec<Arc<Room>>> {
    let inbox = api.rooms.hub().inbox(&who.user_id);
    let position = koine_store::Position(u64::try_from(from).unwrap_or(0));
    let numbers = match inbox.changes_after(position, api.rooms.hub().fleeting()) {
        Some(changes) => changes.rooms,
        None => api.rooms.memberships(&who.user_id)?.into_iter().map(|(no, _)| no).collect(),
    };
    let mut rooms = Vec::new();
    for no in numbers {
        let room = api.rooms.room_by_no(no)?;
        if room.local_membership(&who.user_id) == Some(Membership::Join) {
            rooms.push(room);
        }
    }
    Ok(rooms)
}

fn answer(api: &Api, who: &User, events: &News, (start, end): (Order, Order)) -> Result<Raw> {
    let ignored = Ignored::of(api, who)?;
    let mut out = Out::with_capacity(1024 * events.len() + 128);
    out.open(b'{');
    out.field("start", &api.tokens().print_place(start));
    out.field("end", &api.tokens().print_place(end));
    out.open_field("chunk", b'[');
    for (room, placed) in events {
        let mut viewer = Viewer::new(room, &who.user_id)?;
        let shown = Shown { who, room, form: ClientForm::Full, bundles: false, ignored: &ignored };
        out.raw(&shown.to_bytes(placed, &mut viewer)?);
    }
    out.close(b']');
    out.close(b'}');
    Ok(Raw(out.into_bytes()))
}
