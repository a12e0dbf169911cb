//! Dehydrated devices: one that is packed up, so that somebody who logs out everywhere can be written to. [MSC3814]

mod get_dehydrated_device;
mod get_events;
mod put_dehydrated_device;

use ruma_common::{api::auth_scheme::AccessToken, metadata};

use crate::{Endpoints, Error};

/// `PUT …/dehydrated_device`
pub struct Put;
/// `GET …/dehydrated_device`
pub struct Get;
/// `DELETE …/dehydrated_device`
pub struct Delete;
/// `POST …/dehydrated_device/{deviceId}/events`
pub struct GetEvents;

metadata! {
    @for Put,
    method: PUT,
    rate_limited: true,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc3814") => "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device",
    }
}
metadata! {
    @for Get,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc3814") => "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device",
    }
}
metadata! {
    @for Delete,
    method: DELETE,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc3814") => "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device",
    }
}
metadata! {
    @for GetEvents,
    method: POST,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.msc3814") => "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events",
    }
}

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<Put, _, _>("matrix.dehydrated_device.put", put_dehydrated_device::put_dehydrated_device);
    endpoints.add::<Get, _, _>("matrix.dehydrated_device.get", get_dehydrated_device::get_dehydrated_device);
    endpoints.add::<Delete, _, _>("matrix.dehydrated_device.delete", get_dehydrated_device::delete_dehydrated_device);
    endpoints.add::<GetEvents, _, _>("matrix.dehydrated_device.get_events", get_events::get_events);
}

fn none() -> Error {
    Error::not_found("There is no dehydrated device")
}
