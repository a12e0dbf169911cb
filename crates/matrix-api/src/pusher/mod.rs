//! Pushers: where notifications are sent. None can be set yet.

mod get_pushers;

use ruma_client_api::push as ruma;

use crate::Endpoints;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<ruma::get_pushers::v3::Request, _, _>("matrix.pusher.get_pushers", get_pushers::get_pushers);
}
