//! Finding out where the server is and what it can do.

mod get_capabilities;
mod get_policy_server;
mod get_support;
mod get_versions;
mod get_well_known;

use ruma_client_api::discovery as ruma;

use crate::Endpoints;

pub use get_support::SupportConfig;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<ruma::get_supported_versions::Request, _, _>(
        "matrix.discovery.get_versions",
        get_versions::get_versions,
    );
    endpoints.add::<ruma::discover_homeserver::Request, _, _>(
        "matrix.discovery.get_well_known",
        get_well_known::get_well_known,
    );
    endpoints.add::<ruma::discover_support::Request, _, _>("matrix.discovery.get_support", get_support::get_support);
    endpoints.add::<get_policy_server::GetPolicyServer, _, _>(
        "matrix.discovery.get_policy_server",
        get_policy_server::get_policy_server,
    );
    endpoints.add::<ruma::get_capabilities::v3::Request, _, _>(
        "matrix.discovery.get_capabilities",
        get_capabilities::get_capabilities,
    );
}
