//! Events that are sent later, unless their sender changes their mind. [MSC4140]
//!
//! Scheduled are they by the ordinary requests with a parameter more ([`schedule`]), or by a request of their own. Who
//! knows the id of one may put it off, send it or take it back without a token: a call hands it to whoever watches over it.
//! Not built: taking a scheduled piece of state back by itself when somebody else sets that piece.

mod get_delayed_events;
mod schedule;
mod update_delayed_event;

use koine_account::{Class, LimitKey};
use ruma_common::{
    api::auth_scheme::{AccessToken, NoAccessToken},
    metadata,
};

use crate::{Api, Endpoints, Error, Peer, Result};

pub(crate) use schedule::{delay_of, schedule};

/// `PUT …/rooms/{roomId}/delayed_event/{eventType}/{txnId}`
pub struct Send;
/// `GET …/delayed_events`
pub struct GetAll;
/// `GET …/delayed_events/{delayId}`
pub struct GetOne;
/// `POST …/delayed_events/{delayId}/{action}`
pub struct Update;
/// The same with the action in the body, as clients did at first.
pub struct UpdateByBody;

metadata! {
    @for Send,
    method: PUT,
    rate_limited: true,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc4140") => "/_matrix/client/unstable/org.matrix.msc4140/rooms/{room_id}/delayed_event/{event_type}/{txn_id}",
    }
}
metadata! {
    @for GetAll,
    method: GET,
    rate_limited: true,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc4140") => "/_matrix/client/unstable/org.matrix.msc4140/delayed_events",
    }
}
metadata! {
    @for GetOne,
    method: GET,
    rate_limited: true,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc4140") => "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}",
    }
}
metadata! {
    @for Update,
    method: POST,
    rate_limited: true,
    authentication: NoAccessToken,
    history: {
        unstable("org.matrix.msc4140") => "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}/{action}",
    }
}
metadata! {
    @for UpdateByBody,
    method: POST,
    rate_limited: true,
    authentication: NoAccessToken,
    history: {
        unstable("org.matrix.msc4140") => "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}",
    }
}

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<Send, _, _>("matrix.delayed_events.send", schedule::send_delayed_event);
    endpoints.add::<GetAll, _, _>("matrix.delayed_events.get_all", get_delayed_events::get_all);
    endpoints.add::<GetOne, _, _>("matrix.delayed_events.get", get_delayed_events::get_one);
    endpoints.add::<Update, _, _>("matrix.delayed_events.update", update_delayed_event::update);
    endpoints.add::<UpdateByBody, _, _>("matrix.delayed_events.update", update_delayed_event::update_by_body);
}

/// Strangers may ask, so the address counts.
fn permit(api: &Api, peer: Peer) -> Result<()> {
    api.permit(Class::Message, LimitKey::Address(peer.0))
}

fn unknown() -> Error {
    Error::not_found("No delayed event has this id")
}
