//! `GET /rooms/{roomId}/relations/{eventId}[/{relType}[/{eventType}]]`: events that refer to an event.
//!
//! [CS-API §get_matrixclientv1roomsroomidrelationseventid]
//! [CS-API §get_matrixclientv1roomsroomidrelationseventidreltype]
//! [CS-API §get_matrixclientv1roomsroomidrelationseventidreltypeeventtype]

use axum::extract::State;
use koine_graph::ClientForm;
use koine_room::{Direction, RECURSION_DEPTH_MAX, ReadError, RelationQuery, Viewer};
use ruma_common::{
    EventId, RoomId,
    api::{Metadata, auth_scheme::AccessToken},
};
use serde::{Deserialize, de::IgnoredAny};

use super::{get_messages::Dir, known_room, path, query};
use crate::{
    Api, Loose, Raw, Result,
    event::{Ignored, Shown},
};

/// Events when nothing is said.
const LIMIT_DEFAULT: usize = 20;
/// Most events.
const LIMIT_MAX: usize = 500;

#[derive(Debug, Deserialize)]
struct Query {
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    dir: Dir,
    limit: Option<usize>,
    #[serde(default)]
    recurse: bool,
}

/// The three forms of the path differ in how much they say.
pub async fn get_relations<M>(State(api): State<Api>, call: Loose<M, IgnoredAny>) -> Result<Raw>
where
    M: Metadata<Authentication = AccessToken>,
{
    let id: &RoomId = path(&call.path, 0)?;
    let parent: &EventId = path(&call.path, 1)?;
    let query: Query = query(&call.query)?;
    let place = |token: Option<&str>| token.map(|token| api.tokens().parse_place(token)).transpose();
    let room = known_room(&api, id)?;
    let mut viewer = Viewer::new(&room, &call.who.user_id)?;
    let event = room.event(parent)?.ok_or(ReadError::NoSuchEvent)?;
    if !viewer.may_see(&event)? {
        return Err(ReadError::NoSuchEvent.into());
    }
    let from = place(query.from.as_deref())?;
    let relations = room.relations(
        &mut viewer,
        &RelationQuery {
            parent,
            rel_type: call.path.get(2).map(String::as_str),
            kind: call.path.get(3).map(String::as_str),
            from,
            to: place(query.to.as_deref())?,
            direction: Direction::from(query.dir),
            limit: query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX),
            recurse: query.recurse,
        },
    )?;
    let ignored = Ignored::of(&api, &call.who)?;
    let shown = Shown { who: &call.who, room: &room, form: ClientForm::Full, bundles: true, ignored: &ignored };
    let events = relations.events.iter().filter(|placed| !ignored.hides(placed));
    let mut out = Vec::with_capacity(1024 * relations.events.len() + 128);
    out.extend_from_slice(b"{\"chunk\":");
    shown.write_list(events, &mut viewer, &mut out)?;
    if let Some(next) = relations.next {
        out.extend_from_slice(format!(",\"next_batch\":\"{}\"", api.tokens().print_place(next)).as_bytes());
    }
    if let Some(from) = from {
        out.extend_from_slice(format!(",\"prev_batch\":\"{}\"", api.tokens().print_place(from)).as_bytes());
    }
    if query.recurse {
        out.extend_from_slice(format!(",\"recursion_depth\":{RECURSION_DEPTH_MAX}").as_bytes());
    }
    out.push(b'}');
    Ok(Raw(out.into()))
}
