//! `GET`, `PUT` and `DELETE …/rooms/{roomId}/thread/{threadRootId}/subscription`: following a thread. [MSC4306]
//!
//! `GET …/thread_subscriptions` pages through what changed [MSC4308]; news come with sliding sync.

use axum::extract::State;
use http::StatusCode;
use koine_account::ThreadSubscription;
use koine_room::{ReadError, Viewer};
use koine_store::Position;
use ruma_common::{EventId, OwnedEventId, RoomId, api::auth_scheme::AccessToken, metadata};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, json};

use super::{path, query};
use crate::{Api, Empty, Endpoints, Error, Json, Loose, Result, User};

/// Subscriptions of one page when nothing is said.
const LIMIT_DEFAULT: usize = 100;
/// Most subscriptions of one page.
const LIMIT_MAX: usize = 1_000;

/// `GET …/subscription`
pub struct Get;
/// `PUT …/subscription`
pub struct Put;
/// `DELETE …/subscription`
pub struct Delete;
/// `GET …/thread_subscriptions`
pub struct List;

metadata! {
    @for Get,
    method: GET,
    rate_limited: true,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc4306") => "/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{thread_root}/subscription",
    }
}
metadata! {
    @for Put,
    method: PUT,
    rate_limited: true,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc4306") => "/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{thread_root}/subscription",
    }
}
metadata! {
    @for Delete,
    method: DELETE,
    rate_limited: true,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc4306") => "/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{thread_root}/subscription",
    }
}
metadata! {
    @for List,
    method: GET,
    rate_limited: true,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc4308") => "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions",
    }
}

pub(super) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<Get, _, _>("matrix.rooms.get_thread_subscription", get);
    endpoints.add::<Put, _, _>("matrix.rooms.subscribe_thread", put);
    endpoints.add::<Delete, _, _>("matrix.rooms.unsubscribe_thread", delete);
    endpoints.add::<List, _, _>("matrix.rooms.list_thread_subscriptions", list);
}

#[derive(Debug, Default, Deserialize)]
struct Body {
    /// The event for which the client follows the thread by itself.
    automatic: Option<OwnedEventId>,
}

async fn get(State(api): State<Api>, call: Loose<Get, IgnoredAny>) -> Result<Json<Value>> {
    let (room, root) = thread(&api, &call.who, &call.path)?;
    let found = api.accounts.thread_subscription(&call.who.user_id, room, root)?;
    let found = found.filter(|found| found.is_subscribed);
    let found = found.ok_or_else(|| Error::not_found("You do not follow this thread"))?;
    Ok(Json(json!({ "automatic": found.is_automatic })))
}

async fn put(State(api): State<Api>, call: Loose<Put, Body>) -> Result<Empty> {
    let (room, root) = thread(&api, &call.who, &call.path)?;
    let cause = call.body.automatic.map(|cause| in_thread(&api, &call.who, (room, root), &cause)).transpose()?;
    api.accounts.subscribe_thread(&call.who.user_id, room, root, cause).await?;
    Ok(Empty)
}

async fn delete(State(api): State<Api>, call: Loose<Delete, IgnoredAny>) -> Result<Empty> {
    let (room, root) = thread(&api, &call.who, &call.path)?;
    api.accounts.unsubscribe_thread(&call.who.user_id, room, root).await?;
    Ok(Empty)
}

/// The thread that a request is about: one that its sender can see.
fn thread<'p>(api: &Api, who: &User, arguments: &'p [String]) -> Result<(&'p RoomId, &'p EventId)> {
    let (id, root): (&RoomId, &EventId) = (path(arguments, 0)?, path(arguments, 1)?);
    let nothing = || Error::not_found("There is no such thread");
    let room = api.rooms.room(id).map_err(|_| nothing())?;
    let mut viewer = Viewer::new(&room, &who.user_id).map_err(|_| nothing())?;
    let event = room.event(root)?.ok_or_else(nothing)?;
    if viewer.may_see(&event)? { Ok((id, root)) } else { Err(nothing()) }
}

/// Where in the log an event of the thread stands.
fn in_thread(api: &Api, who: &User, (room, root): (&RoomId, &EventId), cause: &EventId) -> Result<Position> {
    let refuse = || {
        let message = "The event is not in this thread";
        Error::new(StatusCode::BAD_REQUEST, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD", message)
    };
    #[derive(Deserialize)]
    struct Relation {
        rel_type: Option<String>,
        event_id: Option<OwnedEventId>,
    }
    let room = api.rooms.room(room)?;
    let mut viewer = Viewer::new(&room, &who.user_id)?;
    let event = room.event(cause)?.ok_or(ReadError::NoSuchEvent)?;
    if !viewer.may_see(&event)? {
        return Err(ReadError::NoSuchEvent.into());
    }
    let relation: Option<Relation> = event.event.content_field("m.relates_to");
    let relation = relation.filter(|relation| relation.rel_type.as_deref() == Some("m.thread"));
    if relation.is_none_or(|relation| relation.event_id.as_deref() != Some(root)) {
        return Err(refuse());
    }
    // History from before we came stands before every change of a subscription.
    Ok(Position(u64::try_from(event.order).unwrap_or(0)))
}

#[derive(Debug, Deserialize)]
struct Query {
    from: Option<String>,
    to: Option<String>,
    dir: Option<String>,
    limit: Option<usize>,
}

async fn list(State(api): State<Api>, call: Loose<List, IgnoredAny>) -> Result<Json<Value>> {
    let query: Query = query(&call.query)?;
    if query.dir.as_deref().is_some_and(|dir| dir != "b") {
        return Err(Error::invalid_param("`dir` can only be b: the newest come first"));
    }
    let place = |token: Option<String>| -> Result<Option<Position>> {
        let parsed = token.map(|token| token.parse().map(Position));
        parsed.transpose().map_err(|_| Error::invalid_param("Not a token of this list"))
    };
    let up_to = place(query.from)?.unwrap_or_else(|| api.rooms.shard().position());
    let after = place(query.to)?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let (found, has_more) = api.accounts.thread_subscriptions(&call.who.user_id, after, up_to, limit)?;
    let mut answer = listed(&found);
    if let (true, Some(last)) = (has_more, found.last()) {
        answer["end"] = json!(before(last));
    }
    Ok(Json(answer))
}

/// Subscriptions by room and thread, those that ended apart. [MSC4308]
pub(crate) fn listed(found: &[ThreadSubscription]) -> Value {
    let (mut subscribed, mut unsubscribed) = (Map::new(), Map::new());
    for thread in found {
        let mut told = json!({ "bump_stamp": thread.position.0 });
        let by_room = match thread.is_subscribed {
            true => {
                told["automatic"] = json!(thread.is_automatic);
                &mut subscribed
            }
            false => &mut unsubscribed,
        };
        by_room.entry(thread.room_id.as_str()).or_insert_with(|| json!({}))[thread.root.as_str()] = told;
    }
    let mut answer = json!({});
    for (name, part) in [("subscribed", subscribed), ("unsubscribed", unsubscribed)] {
        if !part.is_empty() {
            answer[name] = part.into();
        }
    }
    answer
}

/// The token of what is older than `last`.
pub(crate) fn before(last: &ThreadSubscription) -> String {
    last.position.0.saturating_sub(1).to_string()
}
