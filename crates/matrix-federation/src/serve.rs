//! What other servers may ask of us: the list of endpoints, and what they share.

mod content;
mod devices;
mod history;
mod invite;
mod joining;
mod query;
mod space;
mod third_party;
mod well_known;

pub(crate) use invite::stripped;
pub(crate) use joining::shown;

use std::sync::Arc;

use axum::{
    Router,
    routing::{MethodRouter, get, post, put},
};
use koine_graph::Event;
use koine_room::{Placed, Room};
use ruma_common::{OwnedEventId, RoomId, ServerName};

use crate::{Error, Federation, acl, answer::Result, keys, receive};

/// Most events that a server may name which was in the room before them and is not now: each costs a look at the members.
const EVENTS_OF_FORMER_MAX: usize = 4;

/// All methods of one path.
pub type Endpoint = MethodRouter<Federation>;

pub(crate) fn router(federation: Federation, watch: impl Fn(&'static str, Endpoint) -> Endpoint) -> Router {
    const V1: &str = "/_matrix/federation/v1";
    const V2: &str = "/_matrix/federation/v2";
    const KEY: &str = "/_matrix/key/v2";
    let v1 = |path: &str| format!("{V1}{path}");
    let v2 = |path: &str| format!("{V2}{path}");
    let key = |path: &str| format!("{KEY}{path}");
    Router::new()
        .route(&key("/server"), watch("matrix.federation.get_server_keys", get(keys::get_server_keys)))
        .route(&key("/server/{key_id}"), watch("matrix.federation.get_server_keys", get(keys::get_server_keys)))
        .route(&key("/query"), watch("matrix.federation.post_query", post(keys::post_query)))
        .route(&key("/query/{server_name}"), watch("matrix.federation.get_query", get(keys::get_query)))
        .route(&v1("/version"), watch("matrix.federation.version", get(query::version)))
        .route(&v1("/send/{txn_id}"), watch("matrix.federation.put_transaction", put(receive::put_transaction)))
        .route(&v1("/event/{event_id}"), watch("matrix.federation.event", get(history::event)))
        .route(&v1("/state/{room_id}"), watch("matrix.federation.state", get(history::state)))
        .route(&v1("/state_ids/{room_id}"), watch("matrix.federation.state_ids", get(history::state_ids)))
        .route(&v1("/event_auth/{room_id}/{event_id}"), watch("matrix.federation.event_auth", get(history::event_auth)))
        .route(&v1("/backfill/{room_id}"), watch("matrix.federation.backfill", get(history::backfill)))
        .route(
            &v1("/get_missing_events/{room_id}"),
            watch("matrix.federation.missing_events", post(history::missing_events)),
        )
        .route(
            &v1("/timestamp_to_event/{room_id}"),
            watch("matrix.federation.timestamp_to_event", get(history::timestamp_to_event)),
        )
        .route(&v1("/hierarchy/{room_id}"), watch("matrix.federation.hierarchy", get(space::hierarchy)))
        .route(&v1("/make_join/{room_id}/{user_id}"), watch("matrix.federation.make_join", get(joining::make_join)))
        .route(&v1("/make_leave/{room_id}/{user_id}"), watch("matrix.federation.make_leave", get(joining::make_leave)))
        .route(&v1("/make_knock/{room_id}/{user_id}"), watch("matrix.federation.make_knock", get(joining::make_knock)))
        .route(
            &v1("/send_join/{room_id}/{event_id}"),
            watch("matrix.federation.send_join_v1", put(joining::send_join_v1)),
        )
        .route(&v2("/send_join/{room_id}/{event_id}"), watch("matrix.federation.send_join", put(joining::send_join)))
        .route(
            &v1("/send_leave/{room_id}/{event_id}"),
            watch("matrix.federation.send_leave_v1", put(joining::send_leave_v1)),
        )
        .route(&v2("/send_leave/{room_id}/{event_id}"), watch("matrix.federation.send_leave", put(joining::send_leave)))
        .route(&v1("/send_knock/{room_id}/{event_id}"), watch("matrix.federation.send_knock", put(joining::send_knock)))
        .route(&v1("/invite/{room_id}/{event_id}"), watch("matrix.federation.invite_v1", put(invite::invite_v1)))
        .route(&v2("/invite/{room_id}/{event_id}"), watch("matrix.federation.invite", put(invite::invite)))
        .route(&v1("/query/directory"), watch("matrix.federation.directory", get(query::directory)))
        .route(&v1("/query/profile"), watch("matrix.federation.profile", get(query::profile)))
        .route(&v1("/query/{query_type}"), watch("matrix.federation.query_info", get(query::unknown)))
        .route(
            &v1("/exchange_third_party_invite/{room_id}"),
            watch("matrix.federation.exchange_third_party_invite", put(third_party::exchange)),
        )
        .route(&v1("/3pid/onbind"), watch("matrix.federation.on_bind", put(third_party::on_bind)))
        .route(
            &v1("/publicRooms"),
            watch("matrix.federation.public_rooms", get(query::public_rooms).post(query::search_public_rooms)),
        )
        .route(&v1("/user/devices/{user_id}"), watch("matrix.federation.devices", get(devices::devices)))
        .route(&v1("/user/keys/query"), watch("matrix.federation.query", post(devices::query)))
        .route(&v1("/user/keys/claim"), watch("matrix.federation.claim", post(devices::claim)))
        .route(&v1("/openid/userinfo"), watch("matrix.federation.openid_userinfo", get(query::openid_userinfo)))
        .route(&v1("/media/download/{media_id}"), watch("matrix.federation.download", get(content::download)))
        .route(&v1("/media/thumbnail/{media_id}"), watch("matrix.federation.thumbnail", get(content::thumbnail)))
        .route("/.well-known/matrix/server", watch("matrix.federation.well_known", get(well_known::well_known)))
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

    /// The same, for who is in the room or was there before each of these events. Who was thrown out while it was away
    /// could otherwise never learn what came before, nor, therefore, that it was.
    fn shared_at(&self, id: &RoomId, origin: &ServerName, events: &[OwnedEventId]) -> Result<Arc<Room>> {
        let room = self.attended(id, origin)?;
        let mut may = room.has_server(origin)?;
        if !may && !events.is_empty() && events.len() <= EVENTS_OF_FORMER_MAX {
            may = true;
            for id in events {
                let placed = room.event(id)?.filter(|placed| !placed.is_outlier());
                may &= placed.map_or(Ok(false), |placed| room.was_server_in(origin, &placed))?;
            }
        }
        match may {
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
