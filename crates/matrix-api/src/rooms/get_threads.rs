//! `GET /rooms/{roomId}/threads`: the threads of a room.
//!
//! [CS-API §get_matrixclientv1roomsroomidthreads]

use std::sync::Arc;

use axum::extract::State;
use koine_graph::ClientForm;
use koine_room::{Placed, Room, ThreadsQuery, Viewer};
use ruma_client_api::threads::get_threads::v1;
use ruma_common::RoomId;
use serde::{Deserialize, de::IgnoredAny};

use super::{path, query, room};
use crate::{
    Api, Error, Loose, Raw, Result,
    event::{Ignored, Shown},
};

/// Threads on a page when nothing is said.
const LIMIT_DEFAULT: usize = 20;
/// Most threads on a page.
const LIMIT_MAX: usize = 100;

#[derive(Debug, Deserialize)]
struct Query {
    from: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    include: Include,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Include {
    #[default]
    All,
    Participated,
}

pub async fn get_threads(State(api): State<Api>, call: Loose<v1::Request, IgnoredAny>) -> Result<Raw> {
    let id: &RoomId = path(&call.path, 0)?;
    let query: Query = query(&call.query)?;
    let room = room(&api, id)?;
    let mut viewer = Viewer::new(&room, &call.who.user_id)?;
    let ignored = Ignored::of(&api, &call.who)?;
    let threads = room.threads(
        &mut viewer,
        ThreadsQuery {
            from: query.from.as_deref().map(|token| api.tokens().parse_place(token)).transpose()?,
            participated: query.include == Include::Participated,
            limit: query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX),
        },
        |user| ignored.contains(user),
    )?;
    let roots = threads.roots.iter().map(|root| match ignored.hides(root) {
        true => emptied(&room, root),
        false => Ok(root.clone()),
    });
    let roots = roots.collect::<Result<Vec<_>>>()?;
    let shown = Shown { who: &call.who, room: &room, form: ClientForm::Full, bundles: true, ignored: &ignored };
    let mut out = Vec::with_capacity(2048 * roots.len() + 64);
    out.extend_from_slice(b"{\"chunk\":");
    shown.write_list(&roots, &mut viewer, &mut out)?;
    if let Some(next) = threads.next {
        out.extend_from_slice(format!(",\"next_batch\":\"{}\"", api.tokens().print_place(next)).as_bytes());
    }
    out.push(b'}');
    Ok(Raw(out.into()))
}

/// What the ignored began is shown without its content, as clients would do that count threads themselves.
fn emptied(room: &Room, root: &Placed) -> Result<Arc<Placed>> {
    let event = koine_graph::redact(room.rules(), &root.event).map_err(Error::internal)?;
    Ok(Arc::new(Placed { event, ..root.clone() }))
}
