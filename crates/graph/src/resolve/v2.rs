//! State resolution v2 and v2.1, which differ by two switches. [RV2 §algorithm] [RV12 §algorithm]

use std::collections::{BTreeMap, HashMap, HashSet};

use ruma_common::{
    OwnedEventId,
    room_version_rules::{RoomVersionRules, StateResolutionV2Rules},
};

use super::{
    Conflict, EventSource, Key, Loader, ResolveError, WalkError,
    auth_chain::conflicted_subgraph,
    order::{by_mainline, by_power},
};
use crate::{
    auth::{self, AuthState, CheckError},
    event::{Event, Membership},
    state::{Edit, NodeSource},
};

pub(super) fn resolve<N: NodeSource + ?Sized, E: EventSource + ?Sized>(
    rules: &RoomVersionRules,
    flags: StateResolutionV2Rules,
    conflict: &Conflict<'_, N>,
    loader: &Loader<'_, E>,
) -> Result<Vec<Edit>, ResolveError<N::Error, E::Error>> {
    // The full conflicted set: conflicted state, auth difference, [RV12] and the conflicted state subgraph.
    let conflicted = conflict.events();
    let sets = conflict.sets();
    let mut full = conflict
        .with_unconflicted(|unconflicted| loader.source.auth_difference(&sets, unconflicted))
        .map_err(ResolveError::Nodes)??;
    if flags.consider_conflicted_state_subgraph {
        full.extend(conflicted_subgraph(loader, &conflicted)?);
    }
    full.extend(conflicted);
    let mut events: BTreeMap<OwnedEventId, Event> =
        loader.all(&full)?.into_iter().map(|event| (event.event_id().to_owned(), event)).collect();

    // 1. Select the set X of all power events that appear in the full conflicted set. For each such power event P,
    //    enlarge X by adding the events in the auth chain of P which also belong to the full conflicted set. Sort X into
    //    a list using the reverse topological power ordering.
    let power = with_auth_chains(&events);
    let power: BTreeMap<_, _> = events.extract_if(.., |id, _| power.contains(id)).collect();
    let power = by_power(rules, &power, loader)?;

    // 2. Apply the iterative auth checks algorithm, starting from the unconflicted state map [RV12: an empty state map],
    //    to the list of events from the previous step to get a partially resolved state.
    let from_nothing = flags.begin_iterative_auth_checks_with_empty_state_map;
    let mut partial = Partial { rules, conflict, loader, from_nothing, resolved: HashMap::new() };
    partial.apply(&power)?;

    // 3. Take all remaining events that weren't picked in step 1 and order them by the mainline ordering based on the
    //    power level in the partially resolved state obtained in step 2.
    let power_levels = partial.get("m.room.power_levels", "")?;
    let rest = by_mainline(events.into_values().collect(), power_levels, loader)?;

    // 4. Apply the iterative auth checks algorithm on the partial resolved state and the list of events from the previous
    //    step.
    partial.apply(&rest)?;

    // 5. Update the result by replacing any event with the event with the same key from the unconflicted state map, if
    //    such an event exists, to get the final resolved state.
    conflict.edits(&partial.resolved).map_err(ResolveError::Nodes)
}

/// A power event is a state event with type m.room.power_levels or m.room.join_rules, or a state event with type
/// m.room.member where the membership is leave or ban and the sender does not match the state_key.
fn is_power_event(event: &Event) -> bool {
    match (event.kind(), event.state_key()) {
        ("m.room.power_levels" | "m.room.join_rules", Some("")) => true,
        ("m.room.member", Some(target)) => {
            target != event.sender().as_str() && matches!(event.membership(), Some(Membership::Leave | Membership::Ban))
        }
        _ => false,
    }
}

/// The power events among `events`, and those in their auth chains that are among them too.
fn with_auth_chains(events: &BTreeMap<OwnedEventId, Event>) -> HashSet<OwnedEventId> {
    let mut next: Vec<&Event> = events.values().filter(|event| is_power_event(event)).collect();
    let mut found: HashSet<OwnedEventId> = next.iter().map(|event| event.event_id().to_owned()).collect();
    while let Some(event) = next.pop() {
        for auth_event in event.auth_events().iter().filter_map(|id| events.get(id)) {
            if found.insert(auth_event.event_id().to_owned()) {
                next.push(auth_event);
            }
        }
    }
    found
}

/// The state while it is being resolved.
struct Partial<'a, 'n, 'e, N: ?Sized, E: ?Sized> {
    rules: &'a RoomVersionRules,
    conflict: &'a Conflict<'n, N>,
    loader: &'a Loader<'e, E>,
    /// Whether the unconflicted state is not part of it until the end.
    from_nothing: bool,
    resolved: HashMap<Key, Event>,
}

type Error<N, E> = ResolveError<<N as NodeSource>::Error, <E as EventSource>::Error>;

impl<N: NodeSource + ?Sized, E: EventSource + ?Sized> Partial<'_, '_, '_, N, E> {
    fn get(&self, kind: &str, state_key: &str) -> Result<Option<Event>, Error<N, E>> {
        if let Some(event) = self.resolved.get(&(kind.to_owned(), state_key.to_owned())) {
            return Ok(Some(event.clone()));
        }
        if self.from_nothing {
            return Ok(None);
        }
        match self.conflict.unconflicted(kind, state_key).map_err(ResolveError::Nodes)? {
            Some(id) => Ok(Some(self.loader.get(&id)?)),
            None => Ok(None),
        }
    }

    /// The iterative auth checks: each event that is allowed becomes part of the state, the others are ignored.
    fn apply(&mut self, events: &[Event]) -> Result<(), Error<N, E>> {
        for event in events {
            let Some(state_key) = event.state_key() else { continue };
            match auth::check(self.rules, event, &With { partial: self, event }) {
                Ok(()) => {
                    let key = (event.kind().to_owned(), state_key.to_owned());
                    self.resolved.insert(key, event.clone());
                }
                Err(CheckError::Refused(_)) => {}
                Err(CheckError::State(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The state as one event is checked against it: where it lacks what the rules ask for, the event's own auth events
/// step in, if they were not rejected.
struct With<'p, 'a, 'n, 'e, N: ?Sized, E: ?Sized> {
    partial: &'p Partial<'a, 'n, 'e, N, E>,
    event: &'p Event,
}

impl<N: NodeSource + ?Sized, E: EventSource + ?Sized> AuthState for With<'_, '_, '_, '_, N, E> {
    type Error = Error<N, E>;

    fn get(&self, kind: &str, state_key: &str) -> Result<Option<Event>, Self::Error> {
        if let Some(event) = self.partial.get(kind, state_key)? {
            return Ok(Some(event));
        }
        let Partial { loader, rules, .. } = self.partial;
        let event = match (kind, state_key) {
            ("m.room.create", "") => loader.create_of(rules, self.event)?,
            _ => loader.auth_event(self.event, kind, state_key)?,
        };
        let Some(event) = event else { return Ok(None) };
        let rejected = loader.source.is_rejected(event.event_id()).map_err(WalkError::Source)?;
        Ok(if rejected { None } else { Some(event) })
    }
}
