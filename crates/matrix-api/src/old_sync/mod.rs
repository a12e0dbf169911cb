//! How clients learnt what is new before `/sync`: a first look at everything, and a stream of events. [CS-API §syncing]
//!
//! Deprecated since r0, and still what some bots and old clients do. Peeking into rooms that anyone may read is part of
//! it. [CS-API §room-previews]

mod fleeting;
mod get_event;
mod get_events;
mod initial_sync;

use ruma_common::{api::auth_scheme::AccessToken, metadata};

use crate::Endpoints;

/// `GET /events`
pub struct GetEvents;
/// `GET /events/{eventId}`
pub struct GetEvent;
/// `GET /initialSync`
pub struct InitialSync;
/// `GET /rooms/{roomId}/initialSync`
pub struct RoomInitialSync;

metadata! {
    @for GetEvents,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        1.0 => "/_matrix/client/r0/events",
        1.1 => "/_matrix/client/v3/events",
    }
}
metadata! {
    @for GetEvent,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        1.0 => "/_matrix/client/r0/events/{event_id}",
        1.1 => "/_matrix/client/v3/events/{event_id}",
    }
}
metadata! {
    @for InitialSync,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        1.0 => "/_matrix/client/r0/initialSync",
        1.1 => "/_matrix/client/v3/initialSync",
    }
}
metadata! {
    @for RoomInitialSync,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        1.0 => "/_matrix/client/r0/rooms/{room_id}/initialSync",
        1.1 => "/_matrix/client/v3/rooms/{room_id}/initialSync",
    }
}

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<GetEvents, _, _>("matrix.old_sync.get_events", get_events::get_events);
    endpoints.add::<GetEvent, _, _>("matrix.old_sync.get_event", get_event::get_event);
    endpoints.add::<InitialSync, _, _>("matrix.old_sync.initial_sync", initial_sync::initial_sync);
    endpoints.add::<RoomInitialSync, _, _>("matrix.old_sync.room_initial_sync", initial_sync::room_initial_sync);
}
