//! State resolution of room version 1. [RV1 §state-resolution]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use ruma_common::{EventId, room_version_rules::RoomVersionRules};
use sha1::{Digest as _, Sha1};

use super::{Conflict, EventSource, Key, Loader, ResolveError};
use crate::{
    auth::{self, AuthState, CheckError},
    event::Event,
    state::{Edit, NodeSource},
};

type Error<N, E> = ResolveError<<N as NodeSource>::Error, <E as EventSource>::Error>;

pub(super) fn resolve<N: NodeSource + ?Sized, E: EventSource + ?Sized>(
    rules: &RoomVersionRules,
    conflict: &Conflict<'_, N>,
    loader: &Loader<'_, E>,
) -> Result<Vec<Edit>, Error<N, E>> {
    // Start by setting R to the union of the states to be resolved, excluding any conflicting events. A conflict occurs
    // where states have different event_ids for the same entry; one that is missing somewhere is no conflict.
    let mut state = R { conflict, loader, resolved: HashMap::new() };
    let mut conflicting: BTreeMap<&Key, Vec<Event>> = BTreeMap::new();
    for (key, values) in &conflict.keys {
        let ids: BTreeSet<_> = values.iter().flatten().collect();
        let mut events = loader.all(ids)?;
        match events.as_slice() {
            [only] => {
                state.resolved.insert(key.clone(), only.clone());
            }
            _ => {
                // Ascending depth, then descending sha1(event_id).
                events.sort_by_cached_key(|event| (event.depth(), Reverse(sha1(event.event_id()))));
                conflicting.insert(key, events);
            }
        }
    }

    // First we resolve conflicts between m.room.power_levels events, then between m.room.join_rules events, then between
    // m.room.member events. Several of one type see the state before any of them is resolved.
    for kind in ["m.room.power_levels", "m.room.join_rules", "m.room.member"] {
        let mut resolved = Vec::new();
        for (key, events) in conflicting.extract_if(.., |(key, _), _| key == kind) {
            resolved.extend(last_allowed(rules, &mut state, key, events)?.map(|event| (key.clone(), event)));
        }
        state.resolved.extend(resolved);
    }

    // No other events affect the authorisation rules, so for all other conflicts, just pick the event with the highest
    // depth and lowest sha1(event_id) that passes authentication in R and add it to R.
    let mut resolved = Vec::new();
    for (key, events) in conflicting {
        // When none passes, the last one that was tried stays, as in the first implementation: the entry has to be
        // something, for servers that have it cannot forget it.
        let mut picked = events.first();
        for event in events.iter().rev() {
            if is_allowed(rules, &state, event)? {
                picked = Some(event);
                break;
            }
        }
        resolved.extend(picked.map(|event| (key.clone(), event.clone())));
    }
    state.resolved.extend(resolved);
    conflict.edits(&state.resolved).map_err(ResolveError::Nodes)
}

/// Add the first event in the list to R. For each subsequent event in the list, check that the event would be allowed by
/// the authorisation rules for a room in state R. If so, update R with the event and continue with the next event in the
/// list. If it would not be allowed, stop.
fn last_allowed<N: NodeSource + ?Sized, E: EventSource + ?Sized>(
    rules: &RoomVersionRules,
    state: &mut R<'_, '_, '_, N, E>,
    key: &Key,
    events: Vec<Event>,
) -> Result<Option<Event>, Error<N, E>> {
    let mut last: Option<Event> = None;
    for event in events {
        if last.is_some() && !is_allowed(rules, state, &event)? {
            break;
        }
        state.resolved.insert(key.clone(), event.clone());
        last = Some(event);
    }
    state.resolved.remove(key);
    Ok(last)
}

fn is_allowed<N: NodeSource + ?Sized, E: EventSource + ?Sized>(
    rules: &RoomVersionRules,
    state: &R<'_, '_, '_, N, E>,
    event: &Event,
) -> Result<bool, Error<N, E>> {
    match auth::check(rules, event, state) {
        Ok(()) => Ok(true),
        Err(CheckError::Refused(_)) => Ok(false),
        Err(CheckError::State(error)) => Err(error),
    }
}

fn sha1(id: &EventId) -> [u8; 20] {
    Sha1::digest(id.as_bytes()).into()
}

/// The results of the resolution so far.
struct R<'a, 'n, 'e, N: ?Sized, E: ?Sized> {
    conflict: &'a Conflict<'n, N>,
    loader: &'a Loader<'e, E>,
    resolved: HashMap<Key, Event>,
}

impl<N: NodeSource + ?Sized, E: EventSource + ?Sized> AuthState for R<'_, '_, '_, N, E> {
    type Error = Error<N, E>;

    fn get(&self, kind: &str, state_key: &str) -> Result<Option<Event>, Self::Error> {
        if let Some(event) = self.resolved.get(&(kind.to_owned(), state_key.to_owned())) {
            return Ok(Some(event.clone()));
        }
        match self.conflict.unconflicted(kind, state_key).map_err(ResolveError::Nodes)? {
            Some(id) => Ok(Some(self.loader.get(&id)?)),
            None => Ok(None),
        }
    }
}
