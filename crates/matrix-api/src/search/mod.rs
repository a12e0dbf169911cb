//! Finding what was said. [CS-API §server-side-search]

mod post_search;

use ruma_client_api::search::search_events::v3;

use crate::Endpoints;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<v3::Request, _, _>("matrix.search.post_search", post_search::post_search);
}
