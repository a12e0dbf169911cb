//! Pushers: where notifications are sent; and what has been notified.
//!
//! [CS-API §push-notifications]

mod get_notifications;
mod get_pushers;
mod set_pusher;

use ruma_client_api::push as ruma;

use crate::Endpoints;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<ruma::get_pushers::v3::Request, _, _>("matrix.pusher.get_pushers", get_pushers::get_pushers);
    endpoints.add::<ruma::set_pusher::v3::Request, _, _>("matrix.pusher.set_pusher", set_pusher::set_pusher);
    endpoints.add::<ruma::get_notifications::v3::Request, _, _>(
        "matrix.pusher.get_notifications",
        get_notifications::get_notifications,
    );
}
