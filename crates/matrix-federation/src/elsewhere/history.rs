//! History from before our people came, asked of who was there.
//! [SS-API §backfilling-and-retrieving-missing-events]

use std::sync::Arc;

use http::Method;
use koine_graph::Event;
use koine_room::{CommandError, Fate, Room};
use ruma_common::{OwnedEventId, OwnedServerName};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{SERVERS_TRIED_MAX, refused};
use crate::{Federation, acl, peers::segment};

/// Most events asked for at once.
const PAGE_MAX: usize = 100;
/// Events of one page before which the state is asked for.
const BRANCHES_MAX: usize = 8;

#[derive(Deserialize)]
struct Page {
    pdus: Vec<Box<RawValue>>,
}

impl Federation {
    /// Fetches a stretch of history before the oldest events that we have; whether there was any.
    pub(super) async fn fetch_history(&self, room: &Arc<Room>, limit: usize) -> Result<bool, CommandError> {
        let edge = room.history_edge()?;
        if edge.is_empty() {
            return Ok(false);
        }
        let mut servers: Vec<OwnedServerName> = room.servers()?;
        servers.retain(|server| server != self.server_name() && acl::allows(room, server).unwrap_or(false));
        // Who made the room, or the oldest event that we know, has the longest memory.
        if let Some(oldest) = edge.first().and_then(|id| room.event(id).ok().flatten()) {
            let first = oldest.event.sender().server_name().to_owned();
            servers.sort_by_key(|server| *server != first);
        }
        let mut failure = None;
        for server in servers.iter().take(SERVERS_TRIED_MAX) {
            match self.fetch_history_from(server, room, &edge, limit.clamp(1, PAGE_MAX)).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(false),
        }
    }

    /// Fetches one event of before our time, and keeps it in front of what we have. `false`: it could not be had.
    pub(super) async fn keep_old_event(
        &self,
        server: &OwnedServerName,
        room: &Arc<Room>,
        id: &OwnedEventId,
    ) -> Result<bool, CommandError> {
        let is_here = || Ok::<_, CommandError>(room.event(id)?.is_some_and(|placed| !placed.is_outlier()));
        if is_here()? {
            return Ok(true);
        }
        let raw = self.fetch_events(server, std::slice::from_ref(id)).await;
        let (events, _) = self.check_many(room.rules(), raw).await;
        let Some(event) = events.into_iter().find(|event| event.event_id() == id && event.room_id() == room.id())
        else {
            return Ok(false);
        };
        let gate = self.gates().pass(room.id()).await;
        let kept = match self.fetch_state(server, room, id).await {
            Ok(state) => self.rooms().keep_history(room.id(), vec![event], &[(id.clone(), state)]).await,
            Err(error) => {
                tracing::debug!(peer = %server, room_id = %room.id(), reason = %error, "no state before an old event");
                return Ok(false);
            }
        };
        drop(gate);
        kept?;
        is_here()
    }

    async fn fetch_history_from(
        &self,
        server: &OwnedServerName,
        room: &Arc<Room>,
        edge: &[OwnedEventId],
        limit: usize,
    ) -> Result<bool, CommandError> {
        let from = edge.iter().map(|id| format!("v={}", segment(id.as_str()))).collect::<Vec<_>>().join("&");
        let limit = limit + edge.len();
        let path = format!("/_matrix/federation/v1/backfill/{}?{from}&limit={limit}", segment(room.id().as_str()));
        let page: Page = self.ask(server, (Method::GET, &path), None).await.map_err(|error| refused(&error))?;
        let raw = page.pdus.into_iter().take(limit).collect();
        let (events, _) = self.check_many(room.rules(), raw).await;
        let new = |event: &Event| {
            let known = room.event(event.event_id()).ok().flatten();
            event.room_id() == room.id() && known.is_none_or(|placed| placed.is_outlier())
        };
        let mut events: Vec<Event> = events.into_iter().filter(new).collect();
        events.sort_by_key(Event::depth);
        if events.is_empty() {
            return Ok(false);
        }
        let gate = self.gates().pass(room.id()).await;
        // Where branches run into the page, each brings a state of its own.
        let mut told = Vec::new();
        for event in ends(room, &events).into_iter().take(BRANCHES_MAX) {
            let state = self.fetch_state(server, room, &event).await.map_err(|error| {
                tracing::debug!(peer = %server, room_id = %room.id(), reason = %error, "no state before history");
                CommandError::NotReachable
            })?;
            told.push((event, state));
        }
        let kept = self.rooms().keep_history(room.id(), events, &told).await;
        drop(gate);
        Ok(kept? > 0)
    }
}

/// Those of some events that follow what is neither among them nor known with its state.
fn ends(room: &Room, events: &[Event]) -> Vec<OwnedEventId> {
    let is_known = |id: &OwnedEventId| {
        events.iter().any(|event| event.event_id() == id)
            || matches!(room.fate(id), Ok(Some(Fate::Accepted(_) | Fate::SoftFailed(_) | Fate::Rejected)))
    };
    let ends = events.iter().filter(|event| !event.prev_events().iter().all(is_known));
    ends.map(|event| event.event_id().to_owned()).collect()
}
