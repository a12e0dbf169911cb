//! `GET /rooms/{roomId}/messages`: a page of a room's history.
//!
//! [CS-API §get_matrixclientv3roomsroomidmessages]

use std::{collections::BTreeSet, sync::Arc};

use axum::extract::State;
use koine_graph::ClientForm;
use koine_room::{BACKFILLS_PER_PAGE_MAX, Direction, Order, Placed, Room, Root, Span, Viewer};
use ruma_client_api::message::get_message_events::v3;
use ruma_common::{RoomId, UserId};
use serde::{Deserialize, de::IgnoredAny};

use super::{path, query, room};
use crate::{
    Api, Loose, Raw, Result,
    event::{Ignored, Shown},
    filter::RoomEventFilter,
};

/// Events on a page when nothing is said.
const LIMIT_DEFAULT: usize = 10;
/// Most events on a page.
const LIMIT_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
struct Query {
    from: Option<String>,
    to: Option<String>,
    /// COMPAT(several): required by the specification, left out by some.
    #[serde(default)]
    dir: Dir,
    limit: Option<usize>,
    filter: Option<String>,
}

/// [CS-API §get_matrixclientv3roomsroomidmessages] `dir`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) enum Dir {
    #[default]
    #[serde(rename = "b")]
    Backward,
    #[serde(rename = "f")]
    Forward,
}

impl From<Dir> for Direction {
    fn from(dir: Dir) -> Self {
        match dir {
            Dir::Backward => Self::Backward,
            Dir::Forward => Self::Forward,
        }
    }
}

pub async fn get_messages(State(api): State<Api>, call: Loose<v3::Request, IgnoredAny>) -> Result<Raw> {
    let id: &RoomId = path(&call.path, 0)?;
    let query: Query = query(&call.query)?;
    let filter = query.filter.as_deref().map(RoomEventFilter::parse).transpose()?.unwrap_or_default();
    let place = |token: Option<&str>| token.map(|token| api.tokens().parse_place(token)).transpose();
    let direction = Direction::from(query.dir);
    let room = room(&api, id)?;
    let mut viewer = Viewer::new(&room, &call.who.user_id)?;
    let newest = viewer.newest()?;
    let span = Span {
        from: place(query.from.as_deref())?,
        to: place(query.to.as_deref())?,
        direction,
        limit: query.limit.unwrap_or(LIMIT_DEFAULT).min(filter.limit_or(LIMIT_MAX)).min(LIMIT_MAX),
    };
    let ignored = Ignored::of(&api, &call.who)?;
    let mut read = || {
        room.page(span, newest, |placed| {
            Ok(filter.allows(id, placed) && !ignored.hides(placed) && viewer.may_see(placed)?)
        })
    };
    let mut page = read()?;
    for _ in 0..BACKFILLS_PER_PAGE_MAX {
        // What we have ends here: other servers may have more.
        let wants_more = direction == Direction::Backward && page.end.is_none() && page.events.len() < span.limit;
        if !wants_more || !api.rooms.fetch_history(&room, span.limit).await? {
            break;
        }
        page = read()?;
    }

    let start = span.from.unwrap_or(match direction {
        Direction::Backward => newest,
        Direction::Forward => Order::MIN,
    });
    let shown = Shown { who: &call.who, room: &room, form: ClientForm::Full, bundles: true, ignored: &ignored };
    let mut out = Vec::with_capacity(1024 * page.events.len() + 256);
    out.extend_from_slice(b"{\"chunk\":");
    shown.write_list(&page.events, &mut viewer, &mut out)?;
    if filter.lazy_load_members() {
        let members = members_of(&room, &page.events, direction)?;
        out.extend_from_slice(b",\"state\":");
        let shown = Shown { bundles: false, ..shown };
        shown.write_list(&members, &mut viewer, &mut out)?;
    }
    // Tokens are made of digits, letters and underscores: nothing to escape.
    out.extend_from_slice(format!(",\"start\":\"{}\"", api.tokens().print_place(start)).as_bytes());
    // COMPAT(Complement, clients that follow what is new): a page that has events has an end, also when nothing is known
    // to follow. Asked from there, the next page is empty and has none.
    let last = page.events.last().map(|last| match direction {
        Direction::Backward => last.order - 1,
        Direction::Forward => last.order,
    });
    if let Some(end) = page.end.or(last) {
        out.extend_from_slice(format!(",\"end\":\"{}\"", api.tokens().print_place(end)).as_bytes());
    }
    out.push(b'}');
    Ok(Raw(out.into()))
}

/// Membership events of those who speak on a page, as of its newest event. [CS-API §lazy-loading-room-members]
fn members_of(room: &Room, page: &[Arc<Placed>], direction: Direction) -> Result<Vec<Arc<Placed>>> {
    let newest = match direction {
        Direction::Backward => page.first(),
        Direction::Forward => page.last(),
    };
    let Some(newest) = newest else { return Ok(Vec::new()) };
    members_in(room, newest.current, page.iter())
}

/// Membership events of the senders of `events`, in the state after `at`.
pub(super) fn members_in<'p>(
    room: &Room,
    state: Root,
    events: impl Iterator<Item = &'p Arc<Placed>>,
) -> Result<Vec<Arc<Placed>>> {
    let senders: BTreeSet<&UserId> = events.map(|placed| placed.event.sender()).collect();
    let mut members = Vec::with_capacity(senders.len());
    for sender in senders {
        members.extend(room.state_event(state, "m.room.member", sender.as_str())?);
    }
    Ok(members)
}
