//! Presence: who is there. [CS-API §presence]
//!
//! What others are told is in `/sync` (`sync/presence.rs`); who has to be told is found out by `follow.rs`.

mod follow;
mod get_presence;
mod set_presence;

use std::collections::BTreeSet;

use koine_account::{Presence, PresenceState};
use ruma_client_api::presence as ruma;
use ruma_common::{OwnedUserId, UserId};
use serde_json::{Value, json};

use crate::{Api, Endpoints, Error, Result, event::Ignored};

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

/// Who may be told to `user`, who is local, when nothing was told before: whoever shares a room with them. At most
/// `limit` people of other servers are among them.
pub(crate) fn people_around(api: &Api, user: &UserId, limit: usize) -> Result<BTreeSet<OwnedUserId>> {
    let mut people: BTreeSet<OwnedUserId> = api.rooms.local_contacts(user)?.into_iter().collect();
    let mut contacts = api.rooms.contacts(user)?;
    for other in api.accounts.presences().elsewhere(limit) {
        if contacts.contains(&other)? {
            people.insert(other);
        }
    }
    Ok(people)
}

/// The event that tells of somebody; `None` if nothing is known, or they are ignored. [CS-API §mpresence]
pub(crate) fn event(api: &Api, user: &UserId, ignored: &Ignored) -> Option<Value> {
    if ignored.contains(user.as_str()) {
        return None;
    }
    let presence = api.accounts.presences().get(user)?;
    Some(json!({ "type": "m.presence", "sender": user, "content": content(&presence) }))
}
