//! Presence of ours, told to the servers with people in the same rooms. [SS-API §presence]
//!
//! Of each person a server is told the newest alone: what waits for it is replaced. How long ago somebody did something
//! is reckoned anew when it is sent.

use std::{collections::HashMap, time::Instant};

use ruma_common::{OwnedUserId, UserId};
use serde_json::{Value, json};

use crate::Federation;

/// People whose presence waits for one server; who comes beyond is not told of.
const PEOPLE_WAITING_MAX: usize = 1_000;
/// People told of in one unit.
const PEOPLE_AT_ONCE: usize = 100;
/// Rooms of somebody that are looked at for servers to tell.
const ROOMS_MAX: usize = 1_000;

/// What waits to be told to one server.
#[derive(Default)]
pub(super) struct Presences(HashMap<OwnedUserId, Waiting>);

struct Waiting {
    content: Value,
    since: Instant,
}

impl Presences {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, user: &UserId, content: Value) {
        if self.0.len() < PEOPLE_WAITING_MAX || self.0.contains_key(user) {
            self.0.insert(user.to_owned(), Waiting { content, since: Instant::now() });
        }
    }

    /// Some of those who wait; they wait no longer.
    pub(super) fn take_some(&mut self) -> Self {
        let some: Vec<OwnedUserId> = self.0.keys().take(PEOPLE_AT_ONCE).cloned().collect();
        Self(some.into_iter().filter_map(|user| self.0.remove_entry(&user)).collect())
    }

    /// They were not told: they wait again, unless something newer does.
    pub(super) fn put_back(&mut self, some: Self) {
        for (user, waiting) in some.0 {
            self.0.entry(user).or_insert(waiting);
        }
    }

    /// The unit that tells of all of them. [SS-API §definition-mpresence]
    pub(super) fn unit(&self) -> Option<Value> {
        let people: Vec<Value> = self.0.iter().map(|(user, waiting)| waiting.told(user)).collect();
        (!people.is_empty()).then(|| json!({ "edu_type": "m.presence", "content": { "push": people } }))
    }
}

impl Waiting {
    fn told(&self, user: &UserId) -> Value {
        let mut content = self.content.clone();
        let waited = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let ago = content["last_active_ago"].as_u64().unwrap_or(0).saturating_add(waited);
        content["user_id"] = json!(user);
        content["last_active_ago"] = json!(ago);
        content
    }
}

impl Federation {
    /// Tells the servers around somebody of ours of their presence. Costs the servers in their rooms.
    pub(crate) fn tell_presence(&self, user: &UserId, content: &Value) {
        match self.rooms().servers_around(user, ROOMS_MAX) {
            Ok(servers) => {
                for server in servers {
                    self.outbox().destination(&server).add_presence(self, |waiting| waiting.add(user, content.clone()));
                }
            }
            Err(error) => tracing::error!(user_id = %user, reason = %error, "a presence could not be told"),
        }
    }
}
