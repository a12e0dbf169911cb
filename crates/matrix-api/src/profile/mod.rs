//! Profiles: what users say about themselves.

mod delete_profile_field;
mod get_profile;
mod get_profile_field;
mod set_profile_field;

use ruma_client_api::profile as ruma;
use ruma_common::{OwnedUserId, UserId};

use crate::{Endpoints, Error, Result, User};

/// Where fields besides the display name and the avatar are found: the newest path of all, which ruma counts apart.
const FIELD_PATHS: [&str; 2] = [
    "/_matrix/client/v3/profile/{user_id}/{field}",
    "/_matrix/client/unstable/uk.tcpip.msc4133/profile/{user_id}/{field}",
];

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<ruma::get_profile::v3::Request, _, _>("matrix.profile.get_profile", get_profile::get_profile);
    endpoints.add::<ruma::get_profile_field::v3::Request, _, _>(
        "matrix.profile.get_profile_field",
        get_profile_field::get_profile_field,
    );
    endpoints.add::<ruma::set_profile_field::v3::Request, _, _>(
        "matrix.profile.set_profile_field",
        set_profile_field::set_profile_field,
    );
    for path in FIELD_PATHS {
        endpoints.add_at(
            "matrix.profile.delete_profile_field",
            http::Method::DELETE,
            path,
            delete_profile_field::delete_profile_field,
        );
    }
}

/// The user in a path.
fn user_in(path: &[String]) -> Result<OwnedUserId> {
    let text = path.first().map_or("", String::as_str);
    UserId::parse(text).map_err(|_| Error::invalid_param("Not a user id"))
}

/// The user in a path, who has to be the caller, and may not be suspended. [CS-API §account-suspension]
fn own_profile(who: &User, path: &[String]) -> Result<()> {
    if user_in(path)? != who.user_id {
        return Err(Error::forbidden("This is somebody else's profile"));
    }
    who.not_suspended()
}
