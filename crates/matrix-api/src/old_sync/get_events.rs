//! `GET /events`: what happens from now on, in all rooms or in one that may be one that anyone may read.
//!
//! [CS-API §get_matrixclientv3events] [CS-API §get_matrixclientv3events-1] A stream of events of rooms, and between them
//! receipts, who types, and, unless one room is asked for, who is there (`fleeting.rs`).

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use koine_graph::ClientForm;
use koine_room::{Changes, Membership, Placed, Room, Viewer};
use koine_store::Position;
use ruma_common::OwnedRoomId;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::{GetEvents, fleeting::Fleeting};
use crate::{
    Api, Loose, Raw, Result, User,
    event::{Ignored, Shown},
    rooms::{query, room},
    sync::Out,
    token::SyncToken,
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
    let inbox = api.rooms.hub().inbox(&call.who.user_id);
    // Who peeks is told nothing by an inbox, so whoever asks for one room looks at the log.
    let (mut bell, mut grown) = (inbox.bell(), api.rooms.shard().watch());
    let start = match query.from.as_deref().filter(|from| !from.is_empty()) {
        Some(from) if from.starts_with('s') => api.tokens().parse_sync(from)?,
        // A place in a room says nothing of what is fleeting: that is told from now on.
        Some(from) => SyncToken { fleeting: api.rooms.hub().fleeting(), ..api.tokens().parse_sync(from)? },
        None => api.tokens().now(api.rooms.shard().position(), api.rooms.hub().fleeting()),
    };
    loop {
        bell.borrow_and_update();
        grown.borrow_and_update();
        let position = api.rooms.shard().position();
        api.rooms.hub().reached(position).await;
        let now = api.tokens().now(position, api.rooms.hub().fleeting());
        let news = News::after(&api, &call.who, one.as_ref(), (start, now))?;
        if !news.is_empty() || tokio::time::Instant::now() >= deadline || *api.closing.borrow() {
            return news.answer(&api, &call.who, start);
        }
        tokio::select! {
            _ = grown.changed(), if one.is_some() => {}
            _ = bell.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = api.closing() => {}
        }
        api.accounts.recheck(&call.who)?;
    }
}

/// What an answer tells.
struct News {
    events: Vec<(Arc<Room>, Arc<Placed>)>,
    /// What is not events of rooms.
    fleeting: Vec<Value>,
    /// How far it goes.
    end: SyncToken,
}

impl News {
    /// What is in `(from, now]` that the reader may see, the oldest first.
    fn after(api: &Api, who: &User, one: Option<&Arc<Room>>, (from, now): (SyncToken, SyncToken)) -> Result<Self> {
        let inbox = api.rooms.hub().inbox(&who.user_id);
        let changes = match inbox.changes_after(from.position, from.fleeting) {
            Some(changes) => changes,
            // Nobody listened for a while: something may have happened in every room.
            None => {
                let rooms: Vec<_> = api.rooms.memberships(&who.user_id)?.into_iter().map(|(no, _)| no).collect();
                Changes { fleeting: rooms.clone(), rooms, ..Changes::default() }
            }
        };
        let rooms = match one {
            Some(room) => vec![room.clone()],
            None => joined_with_news(api, who, &changes)?,
        };
        let ignored = Ignored::of(api, who)?;
        let (start, up_to) = (from.order(), now.order());
        let mut events = Vec::new();
        for room in rooms {
            if room.published().order <= start {
                continue;
            }
            let mut viewer = Viewer::new(&room, &who.user_id)?;
            for placed in room.newest(start, up_to, EVENTS_MAX)? {
                if !ignored.hides(&placed) && viewer.may_see(&placed)? {
                    events.push((room.clone(), placed));
                }
            }
        }
        events.sort_by_key(|(_, placed)| placed.order);
        let mut end = now;
        if events.len() > EVENTS_MAX {
            // What is fleeting is told once the stream has caught up.
            let position = u64::try_from(events[EVENTS_MAX - 1].1.order).unwrap_or(0);
            end = SyncToken { position: Position(position), fleeting: from.fleeting, to_device: Position(position) };
            events.truncate(EVENTS_MAX);
        }
        let mut fleeting = Vec::new();
        if end == now {
            let look = Fleeting { api, who, ignored: &ignored, receipts: (start, end.order()), mark: from.fleeting };
            let is_in = |room: &Room| room.local_membership(&who.user_id) == Some(Membership::Join);
            fleeting = look.events(&changes, |room| is_in(room) && one.is_none_or(|one| one.no() == room.no()))?;
            if one.is_none() {
                fleeting.extend(look.presence(&changes)?);
            }
        }
        Ok(Self { events, fleeting, end })
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.fleeting.is_empty()
    }

    fn answer(&self, api: &Api, who: &User, start: SyncToken) -> Result<Raw> {
        let ignored = Ignored::of(api, who)?;
        let mut out = Out::with_capacity(1024 * self.events.len() + 128);
        out.open(b'{');
        out.field("start", &api.tokens().print_sync(start));
        out.field("end", &api.tokens().print_sync(self.end));
        out.open_field("chunk", b'[');
        for (room, placed) in &self.events {
            let mut viewer = Viewer::new(room, &who.user_id)?;
            let shown = Shown { who, room, form: ClientForm::Full, bundles: false, ignored: &ignored };
            out.raw(&shown.to_bytes(placed, &mut viewer)?);
        }
        for event in &self.fleeting {
            out.raw(event.to_string().as_bytes());
        }
        out.close(b']');
        out.close(b'}');
        Ok(Raw(out.into_bytes()))
    }
}

/// The rooms of the reader in which something happened.
fn joined_with_news(api: &Api, who: &User, changes: &Changes) -> Result<Vec<Arc<Room>>> {
    let mut rooms = Vec::new();
    for no in &changes.rooms {
        let room = api.rooms.room_by_no(*no)?;
        if room.local_membership(&who.user_id) == Some(Membership::Join) {
            rooms.push(room);
        }
    }
    Ok(rooms)
}
