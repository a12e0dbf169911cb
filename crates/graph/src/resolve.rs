//! State resolution: one state out of several that the graph's branches lead to, the same on every server and for
//! every order of arrival. [RV1 §state-resolution] [RV2 §state-resolution] [RV12 §state-resolution]
//!
//! The states are persistent maps, so that only what differs between them is looked at. What is missing is never
//! guessed around: [`ResolveError::Missing`] names it, and whoever called fetches it and calls again. That an event
//! fails its auth check in here is part of the algorithm and no error.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

use ruma_common::{
    EventId, OwnedEventId,
    room_version_rules::{RoomVersionRules, StateResolutionVersion},
};

use crate::{
    event::Event,
    state::{Change, Edit, NodeSource, StateMap},
};

mod auth_chain;
mod order;
mod v1;
mod v2;

pub use auth_chain::auth_difference;

/// Where events come from.
pub trait EventSource {
    /// Why an event could not be read.
    type Error;

    /// The event of this id; `None` if it is not here.
    fn event(&self, id: &EventId) -> Result<Option<Event>, Self::Error>;

    /// Whether the event was rejected when it came. [RV2 §rejected-events]
    fn is_rejected(&self, id: &EventId) -> Result<bool, Self::Error> {
        let _ = id;
        Ok(false)
    }

    /// How high the event stands above the create event, if that was [found out](Self::learned_heights) before.
    fn height(&self, id: &EventId) -> Result<Option<u32>, Self::Error> {
        let _ = id;
        Ok(None)
    }

    /// Heights that were found out, which never change. A source that keeps them is spared walking the whole depth of
    /// the room's auth chains.
    fn learned_heights(&self, heights: Vec<(OwnedEventId, u32)>) {
        let _ = heights;
    }

    /// The auth difference of several states: the events that are in the auth chain of some, but not of all.
    ///
    /// `conflicted` has for each state the events that not all states have, `unconflicted` gives those that all have.
    /// See [`auth_difference`] for the cost.
    fn auth_difference(
        &self,
        conflicted: &[Vec<OwnedEventId>],
        unconflicted: &mut dyn Iterator<Item = OwnedEventId>,
    ) -> Result<HashSet<OwnedEventId>, WalkError<Self::Error>> {
        auth_difference(self, conflicted, unconflicted)
    }
}

impl<E: EventSource + ?Sized> EventSource for &E {
    type Error = E::Error;

    fn event(&self, id: &EventId) -> Result<Option<Event>, Self::Error> {
        (**self).event(id)
    }

    fn is_rejected(&self, id: &EventId) -> Result<bool, Self::Error> {
        (**self).is_rejected(id)
    }

    fn height(&self, id: &EventId) -> Result<Option<u32>, Self::Error> {
        (**self).height(id)
    }

    fn learned_heights(&self, heights: Vec<(OwnedEventId, u32)>) {
        (**self).learned_heights(heights);
    }

    fn auth_difference(
        &self,
        conflicted: &[Vec<OwnedEventId>],
        unconflicted: &mut dyn Iterator<Item = OwnedEventId>,
    ) -> Result<HashSet<OwnedEventId>, WalkError<Self::Error>> {
        (**self).auth_difference(conflicted, unconflicted)
    }
}

/// Why the graph could not be walked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError<E> {
    /// Events that are needed and not here: fetch them.
    #[error("{} events are missing, {} among them", .0.len(), .0.first().map_or("none", |id| id.as_str()))]
    Missing(Vec<OwnedEventId>),
    /// Events could not be read.
    #[error("events could not be read")]
    Source(E),
    /// An event is among those that allow it. Ids are hashes since version 3, so that nobody can make that; before, no event
    /// of such a ring can have been accepted.
    #[error("the auth events of {0} lead back to it")]
    Ring(OwnedEventId),
}

/// Why states could not be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError<N, E> {
    /// Events that are needed and not here: fetch them and try again.
    #[error("{} events are missing, {} among them", .0.len(), .0.first().map_or("none", |id| id.as_str()))]
    Missing(Vec<OwnedEventId>),
    /// Nodes of a state could not be read.
    #[error("a state could not be read")]
    Nodes(N),
    /// Events could not be read.
    #[error("events could not be read")]
    Events(E),
    /// As [`WalkError::Ring`].
    #[error("the auth events of {0} lead back to it")]
    Ring(OwnedEventId),
}

impl<N, E> From<WalkError<E>> for ResolveError<N, E> {
    fn from(error: WalkError<E>) -> Self {
        match error {
            WalkError::Missing(missing) => Self::Missing(missing),
            WalkError::Source(error) => Self::Events(error),
            WalkError::Ring(id) => Self::Ring(id),
        }
    }
}

/// Type and state key.
type Key = (String, String);

/// The state that several states of one room resolve to, and its new nodes.
///
/// No states give the empty one. The outcome does not depend on the order of `states`.
pub fn resolve<N: NodeSource + ?Sized, E: EventSource + ?Sized>(
    rules: &RoomVersionRules,
    nodes: &N,
    events: &E,
    states: &[StateMap],
) -> Result<Change, ResolveError<N::Error, E::Error>> {
    let unchanged = |map| Change { map, nodes: Vec::new() };
    // The same state counts once: it conflicts with nothing that it does not conflict with once.
    let states: BTreeSet<StateMap> = states.iter().copied().collect();
    let states: Vec<StateMap> = states.into_iter().collect();
    let (first, others) = match states.as_slice() {
        [] => return Ok(unchanged(StateMap::EMPTY)),
        [only] => return Ok(unchanged(*only)),
        [first, others @ ..] => (*first, others),
    };
    let conflict = Conflict::between(nodes, first, others)?;
    let loader = Loader::new(events);
    let edits = match &rules.state_res {
        StateResolutionVersion::V1 => v1::resolve(rules, &conflict, &loader)?,
        version => {
            let flags = version.v2_rules().copied();
            let flags = flags.unwrap_or(ruma_common::room_version_rules::StateResolutionV2Rules::V2_1);
            v2::resolve(rules, flags, &conflict, &loader)?
        }
    };
    first.apply(nodes, edits).map_err(ResolveError::Nodes)
}

/// Where several states differ.
struct Conflict<'n, N: ?Sized> {
    nodes: &'n N,
    /// One of the states. Outside of `keys` it is the same as all others.
    base: StateMap,
    /// For each entry that not all states agree on: what each has there.
    keys: BTreeMap<Key, Vec<Option<OwnedEventId>>>,
    /// Number of states.
    states: usize,
}

impl<'n, N: NodeSource + ?Sized> Conflict<'n, N> {
    fn between<E>(nodes: &'n N, base: StateMap, others: &[StateMap]) -> Result<Self, ResolveError<N::Error, E>> {
        let states = others.len() + 1;
        let mut keys: BTreeMap<Key, Vec<Option<OwnedEventId>>> = BTreeMap::new();
        for (at, other) in others.iter().enumerate() {
            for difference in base.diff(nodes, *other).map_err(ResolveError::Nodes)? {
                let key = (difference.kind.to_string(), difference.state_key.into());
                // A state that does not differ from the base here has what the base has.
                let values = keys.entry(key).or_insert_with(|| vec![difference.before; states]);
                if let Some(value) = values.get_mut(at + 1) {
                    *value = difference.after;
                }
            }
        }
        Ok(Self { nodes, base, keys, states })
    }

    /// The events that not all states have, for each state.
    fn sets(&self) -> Vec<Vec<OwnedEventId>> {
        (0..self.states)
            .map(|at| self.keys.values().filter_map(|values| values.get(at).cloned().flatten()).collect())
            .collect()
    }

    /// The events that not all states have.
    fn events(&self) -> BTreeSet<OwnedEventId> {
        self.keys.values().flatten().flatten().cloned().collect()
    }

    /// What all states have for this type and state key.
    fn unconflicted(&self, kind: &str, state_key: &str) -> Result<Option<OwnedEventId>, N::Error> {
        if self.keys.contains_key(&(kind.to_owned(), state_key.to_owned())) {
            return Ok(None);
        }
        self.base.get(self.nodes, kind, state_key)
    }

    /// Calls `use_them` with the events that all states have.
    fn with_unconflicted<T>(
        &self,
        use_them: impl FnOnce(&mut dyn Iterator<Item = OwnedEventId>) -> T,
    ) -> Result<T, N::Error> {
        let mut failed = None;
        let mut entries = self.base.iter(self.nodes);
        let mut unconflicted = std::iter::from_fn(|| {
            loop {
                match entries.next()? {
                    Err(error) => {
                        failed = Some(error);
                        return None;
                    }
                    Ok(entry) if self.keys.contains_key(&(entry.kind.to_string(), entry.state_key.to_string())) => {}
                    Ok(entry) => return Some(entry.event_id),
                }
            }
        });
        let result = use_them(&mut unconflicted);
        failed.map_or(Ok(result), Err)
    }

    /// The edits that make `base` the resolved state: `resolved` where the states differ, or have nothing at all.
    fn edits(&self, resolved: &HashMap<Key, Event>) -> Result<Vec<Edit>, N::Error> {
        let mut edits = Vec::with_capacity(self.keys.len());
        for (kind, state_key) in self.keys.keys().filter(|key| !resolved.contains_key(*key)) {
            edits.push(Edit::remove(kind, state_key));
        }
        for ((kind, state_key), event) in resolved {
            if self.unconflicted(kind, state_key)?.is_none() {
                edits.push(Edit::set(kind, state_key, event.event_id().to_owned()));
            }
        }
        Ok(edits)
    }
}

/// Events that were read once.
struct Loader<'e, E: ?Sized> {
    source: &'e E,
    events: RefCell<HashMap<OwnedEventId, Event>>,
}

impl<'e, E: EventSource + ?Sized> Loader<'e, E> {
    fn new(source: &'e E) -> Self {
        Self { source, events: RefCell::default() }
    }

    fn find(&self, id: &EventId) -> Result<Option<Event>, WalkError<E::Error>> {
        if let Some(event) = self.events.borrow().get(id) {
            return Ok(Some(event.clone()));
        }
        let event = self.source.event(id).map_err(WalkError::Source)?;
        if let Some(event) = &event {
            self.events.borrow_mut().insert(id.to_owned(), event.clone());
        }
        Ok(event)
    }

    fn get(&self, id: &EventId) -> Result<Event, WalkError<E::Error>> {
        self.find(id)?.ok_or_else(|| WalkError::Missing(vec![id.to_owned()]))
    }

    /// All of them, or all that are missing.
    fn all<'i>(&self, ids: impl IntoIterator<Item = &'i OwnedEventId>) -> Result<Vec<Event>, WalkError<E::Error>> {
        let (mut events, mut missing) = (Vec::new(), Vec::new());
        for id in ids {
            match self.find(id)? {
                Some(event) => events.push(event),
                None => missing.push(id.clone()),
            }
        }
        if missing.is_empty() { Ok(events) } else { Err(WalkError::Missing(missing)) }
    }

    /// The event of this type and state key among the auth events of `event`.
    fn auth_event(&self, event: &Event, kind: &str, state_key: &str) -> Result<Option<Event>, WalkError<E::Error>> {
        for id in event.auth_events() {
            let auth_event = self.get(id)?;
            if auth_event.is(kind, state_key) {
                return Ok(Some(auth_event));
            }
        }
        Ok(None)
    }

    /// The create event of the room that `event` is in, by its auth events or by the room's id.
    fn create_of(&self, rules: &RoomVersionRules, event: &Event) -> Result<Option<Event>, WalkError<E::Error>> {
        if !rules.authorization.room_create_event_id_as_room_id {
            return self.auth_event(event, "m.room.create", "");
        }
        let hash = event.room_id().as_str().strip_prefix('!').unwrap_or_default();
        match OwnedEventId::try_from(format!("${hash}")) {
            Ok(id) => self.get(&id).map(Some),
            Err(_) => Ok(None),
        }
    }
}
