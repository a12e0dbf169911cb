//! Other networks: what bridges make reachable. [CS-API §third-party-networks]
//!
//! Bridges are application services: they are asked, and what they answer is put together.

mod get_protocols;
mod look_up;

use ruma_client_api::thirdparty as ruma;

use crate::Endpoints;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints
        .add::<ruma::get_protocols::v3::Request, _, _>("matrix.thirdparty.get_protocols", get_protocols::get_protocols);
    endpoints
        .add::<ruma::get_protocol::v3::Request, _, _>("matrix.thirdparty.get_protocol", get_protocols::get_protocol);
    endpoints.add::<ruma::get_location_for_protocol::v3::Request, _, _>(
        "matrix.thirdparty.get_location_for_protocol",
        look_up::location_for_protocol,
    );
    endpoints.add::<ruma::get_user_for_protocol::v3::Request, _, _>(
        "matrix.thirdparty.get_user_for_protocol",
        look_up::user_for_protocol,
    );
    endpoints.add::<ruma::get_location_for_room_alias::v3::Request, _, _>(
        "matrix.thirdparty.get_location_for_alias",
        look_up::location_for_alias,
    );
    endpoints.add::<ruma::get_user_for_user_id::v3::Request, _, _>(
        "matrix.thirdparty.get_user_for_user_id",
        look_up::user_for_user_id,
    );
}
