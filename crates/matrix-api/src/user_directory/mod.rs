//! The user directory: finding people.

mod search_users;

use ruma_client_api::user_directory as ruma;

use crate::Endpoints;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints
        .add::<ruma::search_users::v3::Request, _, _>("matrix.user_directory.search_users", search_users::search_users);
}
