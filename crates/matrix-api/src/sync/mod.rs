//! `/sync`: what happened since. A reader of the log. [CS-API §syncing]
//!
//! A request with a `since` token asks its account's inbox which rooms changed after that position, looks at those
//! alone, and sleeps on the inbox's bell while there is nothing. Without a token, or when the inbox does not reach
//! back to it, every room of the account is looked at once.

mod encryption;
mod get_sync;
mod out;
mod presence;
mod room;
mod rooms;
mod state;

use ruma_client_api::sync::sync_events::v3;

use crate::Endpoints;

pub(crate) use out::Out;
pub(crate) use room::state_at;
pub(crate) use state::SeenMembers;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<v3::Request, _, _>("matrix.sync", get_sync::sync);
}
