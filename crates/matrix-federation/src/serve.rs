//! What other servers may ask of us: the list of endpoints, and what they share.

mod content;
mod devices;
mod history;
mod invite;
mod joining;
mod query;
mod well_known;

pub(crate) use invite::stripped;
pub(crate) use joining::shown;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post, put},
};
use koine_graph::Event;
use koine_room::{Placed, Room};
use ruma_common::{RoomId, ServerName};

use crate::{Error, Federation, acl, answer::Result, keys, receive};

pub(crate) fn router(federation: Federation) -> Router {
    const V1: &str = "/_matrix/federation/v1";
    const V2: &str = "/_matrix/federation/v2";
    const KEY: &str = "/_matrix/key/v2";
    let v1 = |path: &str| format!("{V1}{path}");
    let v2 = |path: &str| format!("{V2}{path}");
    let key = |path: &str| format!("{KEY}{path}");
    Router::new()
        .route(&key("/server"), get(keys::get_server_keys))
        .route(&key("/server/{key_id}"), get(keys::get_server_keys))
        .route(&key("/query"), post(keys::post_query))
        .route(&key("/query/{server_name}"), get(keys::get_query))
        .route(&v1("/version"), get(query::version))
        .route(&v1("/send/{txn_id}"), put(receive::put_transaction))
        .route(&v1("/event/{event_id}"), get(history::event))
        .route(&v1("/state/{room_id}"), get(history::state))
        .route(&v1("/state_ids/{room_id}"), get(history::state_ids))
        .route(&v1("/event_auth/{room_id}/{event_id}"), get(history::event_auth))
        .route(&v1("/backfill/{room_id}"), get(history::backfill))
        .route(&v1("/get_missing_events/{room_id}"), post(history::missing_events))
        .route(&v1("/timestamp_to_event/{room_id}"), get(history::timestamp_to_event))
        .route(&v1("/make_join/{room_id}/{user_id}"), get(joining::make_join))
        .route(&v1("/make_leave/{room_id}/{user_id}"), get(joining::make_leave))
        .route(&v1("/make_knock/{room_id}/{user_id}"), get(joining::make_knock))
        .route(&v1("/send_join/{room_id}/{event_id}"), put(joining::send_join_v1))
        .route(&v2("/send_join/{room_id}/{event_id}"), put(joining::send_join))
        .route(&v1("/send_leave/{room_id}/{event_id}"), put(joining::send_leave_v1))
        .route(&v2("/send_leave/{room_id}/{event_id}"), put(joining::send_leave))
        .route(&v1("/send_knock/{room_id}/{event_id}"), put(joining::send_knock))
        .route(&v1("/invite/{room_id}/{event_id}"), put(invite::invite_v1))
        .route(&v2("/invite/{room_id}/{event_id}"), put(invite::invite))
        .route(&v1("/query/directory"), get(query::directory))
        .route(&v1("/query/profile"), get(query::profile))
        .route(&v1("/publicRooms"), get(query::public_rooms).post(query::search_public_rooms))
        .route(&v1("/user/devices/{user_id}"), get(devices::devices))
        .route(&v1("/user/keys/query"), post(devices::query))
        .route(&v1("/user/keys/claim"), post(devices::claim))
        .route(&v1("/openid/userinfo"), get(query::openid_userinfo))
        .route(&v1("/media/download/{media_id}"), get(content::download))
        .route(&v1("/media/thumbnail/{media_id}"), get(content::thumbnail))
        .route("/.well-known/matrix/server", get(well_known::well_known))
        .method_not_allowed_fallback(wrong_method)
        .with_state(federation)
}

async fn wrong_method() -> Error {
    Error::new(http::StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "Not with this method")
}

impl Federation {
    /// A room that we can speak for, if it does not shut `origin` out.
    fn attended(&self, id: &RoomId, origin: &ServerName) -> Result<Arc<Room>> {
        let room = self.known_room(id)?.filter(|room| room.is_attended());
        let room = room.ok_or_else(|| Error::not_found(format!("This server is not in the room {id}")))?;
        acl::check(&room, origin)?;
        Ok(room)
    }

    /// The same, for who is in the room.
    fn shared(&self, id: &RoomId, origin: &ServerName) -> Result<Arc<Room>> {
        let room = self.attended(id, origin)?;
        match room.has_server(origin)? {
            true => Ok(room),
            false => Err(Error::forbidden(format!("{origin} is not in the room"))),
        }
    }
}

/// The event as `server` may see it: in full, or what a redaction leaves.
fn seen_by(room: &Room, server: &ServerName, placed: &Placed) -> Result<Event> {
    if placed.event.is_state() || placed.is_outlier() || room.may_server_see(server, placed)? {
        return Ok(placed.event.clone());
    }
    koine_graph::redact(room.rules(), &placed.event).map_err(Error::internal)
}
