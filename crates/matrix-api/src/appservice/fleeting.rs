//! What is true for seconds: who types and who is there, as application services are told of it.
//!
//! [AS-API §pushing-ephemeral-data] It stands in no log. It is sent once, in a transaction of its own; a service that is
//! not there misses it, and gets the rest of its transactions no later for that.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::Method;
use koine_net::WebRequest;
use koine_room::{ReadError, RoomNo};
use ruma_common::OwnedUserId;
use serde_json::{Value, json};
use tokio::{
    sync::broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
    time::Instant,
};

use super::{interest::Interest, services::LIMITS};
use crate::{Api, Result, presence};

/// Most rooms, and most people, that one transaction tells of.
const TOLD_MAX: usize = 500;
/// For how long a service that did not take what is fleeting is left alone with it.
const QUIET: Duration = Duration::from_secs(30);

/// News that are not in the log.
pub(super) struct Fleeting {
    typed: Receiver<RoomNo>,
    told: Receiver<OwnedUserId>,
    rooms: BTreeSet<RoomNo>,
    people: BTreeSet<OwnedUserId>,
    /// Tells one transaction from the next, also after a restart.
    last_id: u128,
    quiet_until: Instant,
}

impl Fleeting {
    /// From now on.
    pub(super) fn new(api: &Api) -> Self {
        Self {
            typed: api.rooms.hub().typed(),
            told: api.accounts.presences().told(),
            rooms: BTreeSet::new(),
            people: BTreeSet::new(),
            last_id: 0,
            quiet_until: Instant::now(),
        }
    }

    /// Waits for something new; whether there can be any. May be dropped while it waits.
    pub(super) async fn arrived(&mut self) -> bool {
        tokio::select! {
            room = self.typed.recv() => match room {
                Ok(room) => { self.rooms.insert(room); }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return false,
            },
            person = self.told.recv() => match person {
                Ok(person) => { self.people.insert(person); }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return false,
            },
        }
        true
    }

    /// Sends what there is to tell, as it is now.
    pub(super) async fn tell(&mut self, api: &Api, interest: &mut Interest) -> Result<()> {
        drain(&mut self.typed, &mut self.rooms);
        drain(&mut self.told, &mut self.people);
        let (rooms, people) = (std::mem::take(&mut self.rooms), std::mem::take(&mut self.people));
        if Instant::now() < self.quiet_until {
            return Ok(());
        }
        let mut events = typing(api, interest, rooms)?;
        events.extend(presences(api, interest, people)?);
        if events.is_empty() {
            return Ok(());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        self.last_id = now.max(self.last_id + 1);
        let id = format!("fleeting-{}", self.last_id);
        let Some(url) = interest.service.address(&["transactions", &id], "") else { return Ok(()) };
        let mut body = json!({ "events": [], "ephemeral": events });
        // COMPAT(bridges from before Matrix 1.13): the unstable name.
        body["de.sorunome.msc2409.ephemeral"] = body["ephemeral"].clone();
        let request = WebRequest::json(Method::PUT, url, body.to_string(), LIMITS);
        if let Err(error) = api.services.call(&interest.service, request).await {
            tracing::debug!(service = interest.service.id, reason = %error, "an application service missed who types and who is there");
            self.quiet_until = Instant::now() + QUIET;
        }
        Ok(())
    }
}

/// Takes what has come meanwhile.
fn drain<T: Clone + Ord>(from: &mut Receiver<T>, to: &mut BTreeSet<T>) {
    while to.len() < TOLD_MAX {
        match from.try_recv() {
            Ok(item) => {
                to.insert(item);
            }
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        }
    }
}

/// [CS-API §mtyping]
fn typing(api: &Api, interest: &mut Interest, rooms: BTreeSet<RoomNo>) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    for no in rooms {
        let room = match api.rooms.room_by_no(no) {
            Err(ReadError::NoSuchRoom) => continue,
            other => other?,
        };
        if interest.concerns(api, &room)? {
            let (users, _) = room.typing();
            events.push(json!({ "type": "m.typing", "room_id": room.id(), "content": { "user_ids": users } }));
        }
    }
    Ok(events)
}

/// [CS-API §mpresence]
fn presences(api: &Api, interest: &mut Interest, people: BTreeSet<OwnedUserId>) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    for user in people {
        if interest.concerns_person(api, &user)? {
            let content = presence::content(&api.accounts.presences().get(&user).unwrap_or_default());
            events.push(json!({ "type": "m.presence", "sender": user, "content": content }));
        }
    }
    Ok(events)
}
