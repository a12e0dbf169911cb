//! Presence: who is there. [CS-API §presence]
//!
//! What others are told is in `/sync` (`sync/presence.rs`); who has to be told is found out by `follow.rs`.

mod follow;
mod get_presence;
mod set_presence;

use koine_account::{Presence, PresenceState};
use ruma_client_api::presence as ruma;
use serde_json::{Value, json};

use crate::{Api, Endpoints, Error, Result};

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<ruma::get_presence::v3::Request, _, _>("matrix.presence.get_presence", get_presence::get_presence);
    endpoints.add::<ruma::set_presence::v3::Request, _, _>("matrix.presence.set_presence", set_presence::set_presence);
}

/// Starts to carry changes of presence to those who may know of them. Ends with the last copy of the API.
pub(crate) fn start(api: &Api) {
    follow::start(api);
}

/// What the specification calls this state. [CS-API §presence]
pub(crate) fn parse_state(name: &str) -> Result<PresenceState> {
    PresenceState::parse(name)
        .ok_or_else(|| Error::invalid_param("Presence is one of `online`, `unavailable` and `offline`"))
}

/// The content of an event that tells of it. [CS-API §mpresence]
pub(crate) fn content(presence: &Presence) -> Value {
    let mut content = json!({ "presence": presence.state.as_str() });
    if let Some(ago) = presence.last_active_ago {
        content["last_active_ago"] = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX).into();
    }
    if presence.currently_active {
        content["currently_active"] = true.into();
    }
    if let Some(message) = &presence.status_msg {
        content["status_msg"] = message.as_str().into();
    }
    content
}
