//! Presence of people of other servers. [SS-API §presence]

use std::time::Duration;

use koine_account::{Presence, PresenceState};
use ruma_common::{OwnedUserId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Federation;

/// Most people that one unit may tell of.
const PEOPLE_MAX: usize = 1_000;

/// [SS-API §definition-mpresence]
#[derive(Deserialize)]
struct Update<'a> {
    #[serde(borrow)]
    push: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Person {
    user_id: OwnedUserId,
    presence: String,
    status_msg: Option<String>,
    last_active_ago: Option<u64>,
    #[serde(default)]
    currently_active: bool,
}

impl Federation {
    /// [SS-API §definition-mpresence]
    pub(super) fn take_presence(&self, origin: &ServerName, content: &RawValue) {
        let Ok(update) = serde_json::from_str::<Update<'_>>(content.get()) else { return };
        for person in update.push.into_iter().take(PEOPLE_MAX) {
            let Ok(person) = serde_json::from_str::<Person>(person.get()) else { continue };
            let Some(state) = PresenceState::parse(&person.presence) else { continue };
            if !self.is_theirs_and_known(origin, &person.user_id) {
                continue;
            }
            let presence = Presence {
                state,
                last_active_ago: person.last_active_ago.map(Duration::from_millis),
                status_msg: person.status_msg,
                currently_active: person.currently_active,
            };
            self.accounts().presences().say(&person.user_id, presence);
        }
    }
}
