//! Calls: the relay that callers meet at. [CS-API §voice-over-ip]

mod get_turn_server;

use ruma_client_api::voip as ruma;

use crate::Endpoints;

pub use get_turn_server::TurnConfig;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<ruma::get_turn_server_info::v3::Request, _, _>(
        "matrix.voip.get_turn_server",
        get_turn_server::get_turn_server,
    );
}
