//! What is missing before an event, fetched from who sent it: first the events in between; where those do not reach back
//! to what we have, the state before the oldest of them. Nothing is guessed. Who sends an event and does not tell what it
//! follows is not asked for a state instead: that state would soon be the whole room's.
//! [SS-API §checks-performed-on-receipt-of-a-pdu]

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::Method;
use koine_graph::Event;
use koine_room::{KEEPING_EVENTS_MAX, Part, ReceiveError, Received, Room, ToldState};
use ruma_common::{EventId, OwnedEventId, ServerName};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::{
    Federation, PeerError,
    elsewhere::arrive::STATE,
    peers::{Bounds, parse, segment},
};

/// Events asked for at once.
const MISSING_EVENTS_MAX: usize = 100;
/// Events in between, for one event: what nobody told us for a day or so is fetched whole. Of more, the newest, and what
/// was before them is a gap. They are held until the oldest of them are there.
const BETWEEN_EVENTS_MAX: usize = 20_000;
/// As many bytes of them.
const BETWEEN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Who tells fewer at once has no more to tell: nobody bounds answers below what is asked for when nothing is said; there are
/// servers that tell no more than twenty. [SS-API §post_matrixfederationv1get_missing_eventsroomid] `limit`
const TOLD_AT_ONCE_LEAST: usize = 10;
/// Requests for them.
const BETWEEN_ROUNDS_MAX: usize = 500;
/// Events before which one request asks for more.
const LATEST_MAX: usize = 20;
/// States fetched for one event.
const STATES_MAX: usize = 3;
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
        if !self.unknown_before(room, &event)?.is_empty() {
            let mut states = 0;
            for older in self.events_between(origin, room, &event).await {
                let unknown = self.unknown_before(room, &older)?;
                if !unknown.is_empty() {
                    states += 1;
                    if states > STATES_MAX {
                        continue;
                    }
                }
                match self.take_after(origin, room, older, unknown).await {
                    Ok(_) => {}
                    Err(error @ ReceiveError::Missing { .. }) => {
                        tracing::debug!(room_id = %room.id(), reason = %error, "an event in between was not taken");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.take_after(origin, room, event, Vec::new()).await
    }

    /// What an event follows and nobody here knows.
    fn unknown_before(&self, room: &Room, event: &Event) -> Result<Vec<OwnedEventId>, ReceiveError> {
        Ok(room.unknown_among(event.prev_events())?)
    }

    /// Events between what we have and `event`, oldest first, checked.
    async fn events_between(&self, origin: &ServerName, room: &Arc<Room>, event: &Event) -> Vec<Event> {
        let mut found: HashMap<OwnedEventId, Event> = HashMap::new();
        let mut bytes = 0;
        let mut latest = vec![event.event_id().to_owned()];
        let earliest = room.extremities();
        let path = format!("/_matrix/federation/v1/get_missing_events/{}", segment(room.id().as_str()));
        for _ in 0..BETWEEN_ROUNDS_MAX {
            // [SS-API §post_matrixfederationv1get_missing_eventsroomid]
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
            let raw: Vec<_> = raw.into_iter().take(MISSING_EVENTS_MAX).collect();
            let is_all = raw.len() < TOLD_AT_ONCE_LEAST;
            let (events, _) = self.check_many(room.rules(), raw).await;
            let new = events.into_iter().filter(|event| event.room_id() == room.id());
            let new: Vec<Event> = new.filter(|event| !found.contains_key(event.event_id())).collect();
            found.extend(new.iter().map(|event| (event.event_id().to_owned(), event.clone())));
            bytes += new.iter().map(|event| event.json().len()).sum::<usize>();
            // Whose predecessors are known neither here nor there.
            let is_unknown = |id: &OwnedEventId| !found.contains_key(id) && !self.has(room, id);
            let lacking = new.iter().filter(|event| event.prev_events().iter().any(is_unknown));
            latest = lacking.take(LATEST_MAX).map(|event| event.event_id().to_owned()).collect();
            let is_full = found.len() >= BETWEEN_EVENTS_MAX || bytes >= BETWEEN_BYTES_MAX;
            if is_all || new.is_empty() || latest.is_empty() || is_full {
                break;
            }
        }
        let mut found: Vec<Event> = found.into_values().collect();
        found.sort_by_cached_key(|event| (event.depth(), event.event_id().to_owned()));
        found
    }

    fn has(&self, room: &Room, id: &EventId) -> bool {
        room.fate(id).is_ok_and(|fate| fate.is_some())
    }

    /// Takes an event in, with the state after what is `unknown` of its predecessors as `origin` tells it; where only
    /// what allows it is missing, that is fetched.
    async fn take_after(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        event: Event,
        unknown: Vec<OwnedEventId>,
    ) -> Result<Received, ReceiveError> {
        let mut told = Vec::with_capacity(unknown.len());
        for after in unknown {
            match self.fetch_state_after(origin, room, &after).await {
                Ok(state) => told.push(ToldState { after, state }),
                Err(FetchError::Peer(error)) => {
                    tracing::debug!(peer = %origin, room_id = %room.id(), reason = %error, "no state before an event");
                    return Err(ReceiveError::Missing { prev: vec![after], auth: Vec::new() });
                }
                Err(FetchError::Receive(error)) => return Err(error),
            }
        }
        match self.rooms().receive_after(room.id(), event.clone(), &told).await {
            Err(ReceiveError::Missing { auth, .. }) if !auth.is_empty() => {
                self.fetch_what_allows(origin, room, event.event_id(), auth).await?;
                self.rooms().receive_after(room.id(), event, &told).await
            }
            verdict => verdict,
        }
    }

    /// The ids of the state after an event that we do not have.
    pub(crate) async fn fetch_state_after(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        id: &OwnedEventId,
    ) -> Result<Vec<OwnedEventId>, FetchError> {
        let mut state = self.fetch_state(origin, room, id).await?;
        if !self.has(room, id) {
            self.fetch_outliers(origin, room, std::slice::from_ref(id)).await?;
        }
        let placed = room.event(id).map_err(ReceiveError::from)?;
        let placed = placed.ok_or_else(|| PeerError::Unusable(format!("it does not tell the event {id}")))?;
        if placed.event.is_state() {
            state.push(id.clone());
        }
        Ok(state)
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
        if ids.pdu_ids.len() + ids.auth_chain_ids.len() > KEEPING_EVENTS_MAX {
            return Err(ReceiveError::TooMany { max: KEEPING_EVENTS_MAX }.into());
        }
        let all = ids.pdu_ids.iter().chain(&ids.auth_chain_ids);
        let lacking: Vec<OwnedEventId> = all.filter(|id| !self.has(room, id)).cloned().collect();
        if !lacking.is_empty() {
            let mut keeping = self.rooms().keep(room.id())?;
            let raw = match lacking.len() <= SINGLE_EVENTS_MAX {
                true => self.fetch_events(origin, &lacking).await,
                false => Vec::new(),
            };
            if raw.len() == lacking.len() {
                let (events, _) = self.check_many(room.rules(), raw).await;
                let ours = events.into_iter().filter(|event| event.room_id() == room.id()).collect();
                keeping.add(Part::State, ours).await?;
            } else {
                // Too many, or the network lost some: a state with holes would be a guess.
                let path = format!("/_matrix/federation/v1/state/{place}");
                let whole = self.ask_stream(origin, (Method::GET, &path), None, STATE_BOUNDS).await?;
                self.keep_arriving(whole, room.rules(), &mut keeping, STATE).await?;
            }
            keeping.judge().await?;
        }
        // What was not what it claimed to be holds nothing.
        Ok(ids.pdu_ids.into_iter().filter(|id| self.has(room, id)).collect())
    }

    /// [SS-API §get_matrixfederationv1eventeventid]
    pub(crate) async fn fetch_events(&self, origin: &ServerName, ids: &[OwnedEventId]) -> Vec<Box<RawValue>> {
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

    /// Fetches events and keeps those that are what was asked for.
    async fn fetch_outliers(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        ids: &[OwnedEventId],
    ) -> Result<(), ReceiveError> {
        let raw = self.fetch_events(origin, ids).await;
        let (events, _) = self.check_many(room.rules(), raw).await;
        let ours = events.into_iter().filter(|event| event.room_id() == room.id()).collect();
        self.rooms().keep_outliers(room.id(), ours).await
    }

    /// Fetches what allows an event: all of it at once, or else `lacking` one by one.
    /// [SS-API §get_matrixfederationv1event_authroomideventid]
    async fn fetch_what_allows(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        id: &EventId,
        mut lacking: Vec<OwnedEventId>,
    ) -> Result<(), ReceiveError> {
        let path =
            format!("/_matrix/federation/v1/event_auth/{}/{}", segment(room.id().as_str()), segment(id.as_str()));
        match self.ask::<Events>(origin, (Method::GET, &path), None).await {
            Ok(answer) => {
                let (events, _) = self.check_many(room.rules(), answer.auth_chain).await;
                let ours: Vec<Event> = events.into_iter().filter(|event| event.room_id() == room.id()).collect();
                self.rooms().keep_outliers(room.id(), ours).await?;
            }
            Err(error) => tracing::debug!(peer = %origin, event_id = %id, reason = %error, "no auth chain of an event"),
        }
        lacking.retain(|id| !self.has(room, id));
        lacking.truncate(SINGLE_EVENTS_MAX);
        if !lacking.is_empty() {
            self.fetch_outliers(origin, room, &lacking).await?;
        }
        Ok(())
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
