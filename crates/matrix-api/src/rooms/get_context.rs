//! `GET /rooms/{roomId}/context/{eventId}`: what was said around an event.
//!
//! [CS-API §get_matrixclientv3roomsroomidcontexteventid]

use axum::extract::State;
use koine_graph::ClientForm;
use koine_room::{Root, Viewer};
use ruma_client_api::context::get_context::v3;
use ruma_common::{EventId, RoomId};
use serde::{Deserialize, de::IgnoredAny};

use super::{get_messages::members_in, known_room, path, query};
use crate::{
    Api, Loose, Raw, Result,
    event::{Ignored, Shown},
    filter::RoomEventFilter,
};

/// Neighbours when nothing is said.
const LIMIT_DEFAULT: usize = 10;
/// Most neighbours.
const LIMIT_MAX: usize = 100;

#[derive(Debug, Deserialize)]
struct Query {
    limit: Option<usize>,
    filter: Option<String>,
}

pub async fn get_context(State(api): State<Api>, call: Loose<v3::Request, IgnoredAny>) -> Result<Raw> {
    let id: &RoomId = path(&call.path, 0)?;
    let event: &EventId = path(&call.path, 1)?;
    let query: Query = query(&call.query)?;
    let filter = query.filter.as_deref().map(RoomEventFilter::parse).transpose()?.unwrap_or_default();
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).min(filter.limit_or(LIMIT_MAX)).min(LIMIT_MAX);
    let room = known_room(&api, id)?;
    let mut viewer = Viewer::new(&room, &call.who.user_id)?;
    let ignored = Ignored::of(&api, &call.who)?;
    let wanted = |placed: &koine_room::Placed| filter.allows(id, placed) && !ignored.hides(placed);
    let context = room.context(&mut viewer, event, limit, wanted)?;

    let mut state = match context.state {
        // Who never was in the room is shown themselves, and nothing else of it.
        None => {
            room.state_event(context.event.current, "m.room.member", call.who.user_id.as_str())?.into_iter().collect()
        }
        Some(state) if filter.lazy_load_members() => {
            let all = context.before.iter().chain([&context.event]).chain(&context.after);
            let mut found = room.state_without_members(state)?;
            found.extend(members_in(&room, state, all)?);
            found
        }
        Some(state) => room.state_changes(Root::EMPTY, state, |_, _| true)?,
    };
    state.retain(|placed| filter.allows(id, placed));

    let shown = Shown { who: &call.who, room: &room, form: ClientForm::Full, bundles: true, ignored: &ignored };
    let mut out = Vec::with_capacity(16 * 1024);
    out.extend_from_slice(b"{\"event\":");
    shown.write(&context.event, &mut viewer, &mut out)?;
    out.extend_from_slice(b",\"events_before\":");
    shown.write_list(&context.before, &mut viewer, &mut out)?;
    out.extend_from_slice(b",\"events_after\":");
    shown.write_list(&context.after, &mut viewer, &mut out)?;
    out.extend_from_slice(b",\"state\":");
    let shown = Shown { bundles: false, ..shown };
    shown.write_list(&state, &mut viewer, &mut out)?;
    let tokens = api.tokens();
    let (start, end) = (tokens.print_place(context.start), tokens.print_place(context.end));
    out.extend_from_slice(format!(",\"start\":\"{start}\",\"end\":\"{end}\"}}").as_bytes());
    Ok(Raw(out.into()))
}
