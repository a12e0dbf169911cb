//! Events, states and history. [SS-API §retrieving-events] [SS-API §backfilling-and-retrieving-missing-events]

use std::sync::Arc;

use axum::{extract::State, response::Response};
use koine_graph::Event;
use koine_room::{Direction, Part, Placed, Room, StateWalk};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedEventId, ServerName};
use serde::Deserialize;
use serde_json::json;

use super::seen_by;
use crate::{
    Error, Federation, Signed,
    answer::{Raw, Result, Writer, in_parts},
    request::event_id,
};

/// Events of a page of history when nobody says how many.
const BACKFILL_DEFAULT: u64 = 10;
/// Most events of a page of history.
const BACKFILL_MAX: u64 = 100;
/// Events in between when nobody says how many.
const MISSING_DEFAULT: u64 = 10;
/// Most events in between.
const MISSING_MAX: u64 = 100;
/// Bytes of a large answer that are made at once.
const PART_BYTES: usize = 64 * 1024;
/// Most ids in a question.
const IDS_MAX: usize = 50;

/// [SS-API §get_matrixfederationv1eventeventid]
pub async fn event(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    let id = signed.path.event(0)?;
    let unknown = || Error::not_found(format!("There is no event {id} here"));
    let (room, placed) = federation.rooms().find_event(&id)?.ok_or_else(unknown)?;
    federation.shared_at(room.id(), &signed.origin, std::slice::from_ref(&id))?;
    let event = seen_by(&room, &signed.origin, &placed)?;
    Ok(federation.page([&event]))
}

/// [SS-API §get_matrixfederationv1stateroomid]
pub async fn state(State(federation): State<Federation>, signed: Signed) -> Result<Response> {
    let walk = federation.state_before(&signed).await?;
    Ok(state_in_parts(Writer::new().open_list("pdus"), walk, b""))
}

/// [SS-API §get_matrixfederationv1state_idsroomid]
pub async fn state_ids(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    let walk = federation.state_before(&signed).await?;
    let collect = move || -> Result<Raw> {
        let (mut state, mut chain) = (Vec::new(), Vec::new());
        for told in walk {
            let (part, event) = told?;
            match part {
                Part::State => state.push(event.event_id().to_owned()),
                Part::AuthChain => chain.push(event.event_id().to_owned()),
            }
        }
        Ok(Raw::of(&json!({ "auth_chain_ids": chain, "pdu_ids": state })))
    };
    tokio::task::spawn_blocking(collect).await.map_err(Error::internal)?
}

/// A state and its auth chain: the end of an answer that `start` begins, up to and with the bracket of the list of
/// the state.
pub(super) fn state_in_parts(start: Vec<u8>, mut walk: StateWalk, after: &'static [u8]) -> Response {
    let mut start = Some(start);
    // Whether the next event is the first of its list, and whether that is the list of the state.
    let (mut is_first, mut in_state, mut is_over) = (true, true, false);
    in_parts(move || {
        if is_over {
            return Ok(None);
        }
        let mut part = start.take().unwrap_or_default();
        while part.len() < PART_BYTES {
            let told = walk.next().transpose()?;
            if in_state && !matches!(told, Some((Part::State, _))) {
                part.extend_from_slice(b"],\"auth_chain\":[");
                (is_first, in_state) = (true, false);
            }
            let Some((_, event)) = told else {
                part.extend_from_slice(b"]}");
                part.extend_from_slice(after);
                is_over = true;
                break;
            };
            if !std::mem::take(&mut is_first) {
                part.push(b',');
            }
            part.extend_from_slice(event.json());
        }
        Ok(Some(part.into()))
    })
}

/// [SS-API §get_matrixfederationv1event_authroomideventid]
pub async fn event_auth(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    let id = signed.path.event(1)?;
    let room = federation.shared_at(&signed.path.room(0)?, &signed.origin, std::slice::from_ref(&id))?;
    let placed = room.event(&id)?.ok_or_else(|| Error::not_found(format!("There is no event {id} in the room")))?;
    let chain = room.auth_chain([&placed.event])?;
    Ok(Writer::new().events("auth_chain", &chain).answer())
}

/// [SS-API §get_matrixfederationv1backfillroomid]
pub async fn backfill(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    let room = federation.shared(&signed.path.room(0)?, &signed.origin)?;
    let from = signed.query.all("v").take(IDS_MAX).map(event_id).collect::<Result<Vec<OwnedEventId>>>()?;
    let limit = signed.query.number("limit")?.unwrap_or(BACKFILL_DEFAULT).min(BACKFILL_MAX);
    let found = room.history_before(&from, usize::try_from(limit).unwrap_or(0))?;
    let events = visible(&room, &signed.origin, &found)?;
    Ok(federation.page(&events))
}

#[derive(Deserialize)]
struct Between {
    earliest_events: Vec<OwnedEventId>,
    latest_events: Vec<OwnedEventId>,
    limit: Option<u64>,
    min_depth: Option<u64>,
}

/// [SS-API §post_matrixfederationv1get_missing_eventsroomid]
pub async fn missing_events(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    let between: Between = signed.parse()?;
    let room = federation.shared_at(&signed.path.room(0)?, &signed.origin, &between.latest_events)?;
    if between.earliest_events.len() > IDS_MAX || between.latest_events.len() > IDS_MAX {
        return Err(Error::invalid_param(format!("At most {IDS_MAX} events may be named")));
    }
    let limit = between.limit.unwrap_or(MISSING_DEFAULT).min(MISSING_MAX);
    let found = room.missing_between(
        &between.earliest_events,
        &between.latest_events,
        usize::try_from(limit).unwrap_or(0),
        between.min_depth.unwrap_or(0),
    )?;
    let mut events = visible(&room, &signed.origin, &found)?;
    // Oldest first, so that they can be taken in as they come.
    events.reverse();
    Ok(Writer::new().events("events", &events).answer())
}

/// [SS-API §get_matrixfederationv1timestamp_to_eventroomid]
pub async fn timestamp_to_event(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    let room = federation.shared(&signed.path.room(0)?, &signed.origin)?;
    let moment = signed.query.number("ts")?.and_then(|ts| Some(MilliSecondsSinceUnixEpoch(ts.try_into().ok()?)));
    let moment = moment.ok_or_else(|| Error::invalid_param("ts is not a time"))?;
    let direction = match signed.query.needed("dir")? {
        "f" => Direction::Forward,
        "b" => Direction::Backward,
        _ => return Err(Error::invalid_param("dir is f or b")),
    };
    let found = room.event_near(moment, direction)?;
    let found = found.ok_or_else(|| Error::not_found("There is no event on that side of the moment"))?;
    let ts = found.event.origin_server_ts();
    Ok(Raw::of(&json!({ "event_id": found.event.event_id(), "origin_server_ts": ts })))
}

fn visible(room: &Room, server: &ServerName, found: &[Arc<Placed>]) -> Result<Vec<Event>> {
    found.iter().map(|placed| seen_by(room, server, placed)).collect()
}

impl Federation {
    /// Events in the form of a transaction. [SS-API §get_matrixfederationv1backfillroomid]
    fn page<'a>(&self, events: impl IntoIterator<Item = &'a Event>) -> Raw {
        Writer::new()
            .value("origin", &json!(self.server_name()))
            .value("origin_server_ts", &json!(self.now()))
            .events("pdus", events)
            .answer()
    }

    /// The state before the event that a request names, and what allows it.
    async fn state_before(&self, signed: &Signed) -> Result<StateWalk> {
        let id = event_id(signed.query.needed("event_id")?)?;
        let room = self.shared_at(&signed.path.room(0)?, &signed.origin, std::slice::from_ref(&id))?;
        if room.is_partial() {
            return Err(Error::forbidden("This server does not know all of the state yet"));
        }
        // A state can be large: not on a thread that others wait for.
        let read = move || -> Result<StateWalk> {
            let state = room.state_before_event(&id)?;
            let state = state.ok_or_else(|| Error::not_found(format!("The state at {id} is not known")))?;
            Ok(room.walk_state(state, |_, _| true, &[], false)?)
        };
        tokio::task::spawn_blocking(read).await.map_err(Error::internal)?
    }
}
