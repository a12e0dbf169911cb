//! What is missing before an event, fetched from who sent it: first the events in between; where that does not reach
//! back to what we have, the state before it. Nothing is guessed. [SS-API §checks-performed-on-receipt-of-a-pdu]

use std::{sync::Arc, time::Duration};

use http::Method;
use koine_graph::Event;
use koine_room::{ReceiveError, Received, Room};
use ruma_common::{EventId, OwnedEventId, ServerName};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::{
    Federation, PeerError,
    peers::{Bounds, parse, segment},
};

/// Events asked for in between.
const MISSING_EVENTS_MAX: usize = 100;
/// Requests for events in between, for one event.
const MISSING_ROUNDS_MAX: usize = 5;
/// States fetched for one event.
const STATES_MAX: usize = 3;
/// Most events that a state and its auth chain may have.
const STATE_EVENTS_MAX: usize = 400_000;
/// Up to so many events of a state are fetched one by one; beyond, the whole state.
const SINGLE_EVENTS_MAX: usize = 30;
/// Bounds of an answer that is a whole state.
pub(crate) const STATE_BOUNDS: Bounds =
    Bounds { bytes: 256 * 1024 * 1024, time: Duration::from_secs(300), urgent: true };

/// A list of events, under the names that it has in different answers.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Events {
    events: Vec<Box<RawValue>>,
    pdus: Vec<Box<RawValue>>,
    auth_chain: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct StateIds {
    pdu_ids: Vec<OwnedEventId>,
    auth_chain_ids: Vec<OwnedEventId>,
}

impl Federation {
    /// Fetches what is missing before an event, and takes it in.
    pub(super) async fn fill_gap(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        event: Event,
    ) -> Result<Received, ReceiveError> {
        let between = self.events_between(origin, room, &event).await;
        let mut states = 0;
        for older in between {
            match self.rooms().receive(room.id(), older.clone()).await {
                Ok(_) => {}
                Err(ReceiveError::Missing { .. }) if states < STATES_MAX => {
                    states += 1;
                    if let Err(error) = self.take_with_state(origin, room, older).await {
                        tracing::debug!(room_id = %room.id(), reason = %error, "an event in between was not taken");
                    }
                }
                Err(ReceiveError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match self.rooms().receive(room.id(), event.clone()).await {
            Err(ReceiveError::Missing { .. }) => self.take_with_state(origin, room, event).await,
            verdict => verdict,
        }
    }

    /// Events between what we have and `event`, oldest first, checked.
    async fn events_between(&self, origin: &ServerName, room: &Arc<Room>, event: &Event) -> Vec<Event> {
        let mut found: Vec<Event> = Vec::new();
        let mut latest = vec![event.event_id().to_owned()];
        let earliest = room.extremities();
        let path = format!("/_matrix/federation/v1/get_missing_events/{}", segment(room.id().as_str()));
        for _ in 0..MISSING_ROUNDS_MAX {
            let wanted = json!({
                "earliest_events": earliest, "latest_events": latest, "limit": MISSING_EVENTS_MAX, "min_depth": 0,
            });
            let answer = self.ask::<Events>(origin, (Method::POST, &path), Some(wanted.to_string().as_bytes())).await;
            let raw = match answer {
                Ok(answer) => answer.events,
                Err(error) => {
                    tracing::debug!(peer = %origin, room_id = %room.id(), reason = %error, "no events in between");
                    break;
                }
            };
            let raw = raw.into_iter().take(MISSING_EVENTS_MAX).collect();
            let (events, _) = self.check_many(room.rules(), raw).await;
            let new = events.into_iter().filter(|event| {
                event.room_id() == room.id() && !found.iter().any(|known| known.event_id() == event.event_id())
            });
            let new: Vec<Event> = new.collect();
            // Whose predecessors are known neither here nor there.
            let lacking: Vec<OwnedEventId> = new
                .iter()
                .filter(|event| {
                    event.prev_events().iter().any(|id| {
                        let known = |event: &Event| event.event_id() == id;
                        !new.iter().any(known) && !found.iter().any(known) && !self.has(room, id)
                    })
                })
                .map(|event| event.event_id().to_owned())
                .collect();
            let is_end = new.is_empty() || lacking.is_empty();
            found.extend(new);
            if is_end {
                break;
            }
            latest = lacking.into_iter().take(20).collect();
        }
        found.sort_by_key(Event::depth);
        found
    }

    fn has(&self, room: &Room, id: &EventId) -> bool {
        room.event(id).is_ok_and(|placed| placed.is_some())
    }

    /// Fetches the state before an event, keeps it, and takes the event in.
    async fn take_with_state(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        event: Event,
    ) -> Result<Received, ReceiveError> {
        let missing =
            || ReceiveError::Missing { prev: event.prev_events().to_vec(), auth: event.auth_events().to_vec() };
        // Perhaps it is no more than what allows it.
        if let Err(ReceiveError::Missing { prev, .. }) = self.rooms().receive(room.id(), event.clone()).await
            && prev.is_empty()
            && self.fetch_auth_chain(origin, room, event.event_id()).await?
        {
            match self.rooms().receive(room.id(), event.clone()).await {
                Err(ReceiveError::Missing { .. }) => {}
                verdict => return verdict,
            }
        }
        let state = match self.fetch_state(origin, room, event.event_id()).await {
            Ok(state) => state,
            Err(FetchError::Peer(error)) => {
                tracing::debug!(peer = %origin, room_id = %room.id(), reason = %error, "no state before an event");
                return Err(missing());
            }
            Err(FetchError::Receive(error)) => return Err(error),
        };
        self.rooms().receive_with_state(room.id(), event.clone(), &state).await
    }

    /// The ids of the state before an event, all of them kept here.
    pub(crate) async fn fetch_state(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        at: &EventId,
    ) -> Result<Vec<OwnedEventId>, FetchError> {
        let place = format!("{}?event_id={}", segment(room.id().as_str()), segment(at.as_str()));
        let path = format!("/_matrix/federation/v1/state_ids/{place}");
        let ids = self.ask_bytes(origin, (Method::GET, &path), None, STATE_BOUNDS).await?;
        let ids: StateIds = parse(&ids)?;
        if ids.pdu_ids.len() + ids.auth_chain_ids.len() > STATE_EVENTS_MAX {
            return Err(PeerError::Unusable(format!("a state of more than {STATE_EVENTS_MAX} events")).into());
        }
        let all = ids.pdu_ids.iter().chain(&ids.auth_chain_ids);
        let lacking: Vec<OwnedEventId> = all.filter(|id| !self.has(room, id)).cloned().collect();
        if !lacking.is_empty() {
            let raw = if lacking.len() <= SINGLE_EVENTS_MAX {
                self.fetch_events(origin, &lacking).await
            } else {
                let path = format!("/_matrix/federation/v1/state/{place}");
                let whole: Events = parse(&self.ask_bytes(origin, (Method::GET, &path), None, STATE_BOUNDS).await?)?;
                whole.pdus.into_iter().chain(whole.auth_chain).collect()
            };
            let (events, _) = self.check_many(room.rules(), raw).await;
            let ours = events.into_iter().filter(|event| event.room_id() == room.id()).collect();
            self.rooms().keep_outliers(room.id(), ours).await?;
        }
        // What could not be had, or was not what it claimed to be, holds nothing.
        Ok(ids.pdu_ids.into_iter().filter(|id| self.has(room, id)).collect())
    }

    /// [SS-API §get_matrixfederationv1eventeventid]
    async fn fetch_events(&self, origin: &ServerName, ids: &[OwnedEventId]) -> Vec<Box<RawValue>> {
        let mut fetching = tokio::task::JoinSet::new();
        for id in ids {
            let (federation, origin) = (self.clone(), origin.to_owned());
            let path = format!("/_matrix/federation/v1/event/{}", segment(id.as_str()));
            fetching.spawn(async move { federation.ask::<Events>(&origin, (Method::GET, &path), None).await });
        }
        let mut found = Vec::with_capacity(ids.len());
        while let Some(answer) = fetching.join_next().await {
            if let Ok(Ok(answer)) = answer {
                found.extend(answer.pdus);
            }
        }
        found
    }

    /// Whether what allows an event could be had. [SS-API §get_matrixfederationv1event_authroomideventid]
    async fn fetch_auth_chain(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        id: &EventId,
    ) -> Result<bool, ReceiveError> {
        let path =
            format!("/_matrix/federation/v1/event_auth/{}/{}", segment(room.id().as_str()), segment(id.as_str()));
        let Ok(answer) = self.ask::<Events>(origin, (Method::GET, &path), None).await else { return Ok(false) };
        let (events, _) = self.check_many(room.rules(), answer.auth_chain).await;
        let ours: Vec<Event> = events.into_iter().filter(|event| event.room_id() == room.id()).collect();
        let some = !ours.is_empty();
        self.rooms().keep_outliers(room.id(), ours).await?;
        Ok(some)
    }
}

/// Why a state could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Receive(#[from] ReceiveError),
}
