//! What clients keep here for themselves: account data, tags, filters.

mod create_filter;
mod delete_account_data;
mod get_account_data;
mod get_filter;
mod set_account_data;
mod tags;

use ruma_client_api::{config, filter, tag};
use ruma_common::UserId;

use crate::{Endpoints, Error, Result, User};

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<config::get_global_account_data::v3::Request, _, _>(
        "matrix.account_data.get",
        get_account_data::get_global,
    );
    endpoints.add::<config::set_global_account_data::v3::Request, _, _>(
        "matrix.account_data.set",
        set_account_data::set_global,
    );
    endpoints.add::<config::get_room_account_data::v3::Request, _, _>(
        "matrix.account_data.get_in_room",
        get_account_data::get_in_room,
    );
    endpoints.add::<config::set_room_account_data::v3::Request, _, _>(
        "matrix.account_data.set_in_room",
        set_account_data::set_in_room,
    );
    delete_account_data::endpoints(endpoints);
    endpoints.add::<tag::get_tags::v3::Request, _, _>("matrix.account_data.get_tags", tags::get_tags);
    endpoints.add::<tag::create_tag::v3::Request, _, _>("matrix.account_data.create_tag", tags::create_tag);
    endpoints.add::<tag::delete_tag::v3::Request, _, _>("matrix.account_data.delete_tag", tags::delete_tag);
    endpoints.add::<filter::create_filter::v3::Request, _, _>(
        "matrix.account_data.create_filter",
        create_filter::create_filter,
    );
    endpoints.add::<filter::get_filter::v3::Request, _, _>("matrix.account_data.get_filter", get_filter::get_filter);
}

/// Nobody sees anybody else's.
fn is_own(who: &User, user_id: &UserId) -> Result<()> {
    if who.user_id == user_id { Ok(()) } else { Err(Error::forbidden("This is somebody else's account")) }
}
