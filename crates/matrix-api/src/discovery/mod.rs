//! Finding out where the server is and what it can do.

mod get_versions;

use ruma_client_api::discovery as ruma;

use crate::Endpoints;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<ruma::get_supported_versions::Request, _, _>(
        "matrix.discovery.get_versions",
        get_versions::get_versions,
    );
}
