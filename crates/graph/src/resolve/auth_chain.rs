//! Walks over auth events. [RV2 §definitions] [RV12 §definitions]

use std::collections::{BTreeSet, HashMap, HashSet};

use ruma_common::OwnedEventId;

use super::{EventSource, Loader, WalkError};

/// Adds to `seen` what is reachable by auth events from `from`, without what is in `seen` already.
fn walk<'i, E: EventSource + ?Sized>(
    loader: &Loader<'_, E>,
    from: impl IntoIterator<Item = &'i OwnedEventId>,
    seen: &mut HashSet<OwnedEventId>,
) -> Result<(), WalkError<E::Error>> {
    let mut missing = BTreeSet::new();
    let mut step = |id: &OwnedEventId, next: &mut Vec<OwnedEventId>| match loader.find(id) {
        Ok(Some(event)) => {
            next.extend(event.auth_events().iter().cloned());
            Ok(())
        }
        Ok(None) => {
            missing.insert(id.clone());
            Ok(())
        }
        Err(error) => Err(error),
    };
    let mut next = Vec::new();
    for id in from {
        step(id, &mut next)?;
        while let Some(id) = next.pop() {
            if seen.insert(id.clone()) {
                step(&id, &mut next)?;
            }
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(WalkError::Missing(missing.into_iter().collect())) }
}

/// The auth difference, by walking the graph; see [`EventSource::auth_difference`].
///
/// The auth chain of what is unconflicted is part of every state's. So only the chains of the conflicted parts can
/// make a difference, less what the unconflicted part reaches as well.
pub fn auth_difference<E: EventSource + ?Sized>(
    events: &E,
    conflicted: &[Vec<OwnedEventId>],
    unconflicted: &mut dyn Iterator<Item = OwnedEventId>,
) -> Result<HashSet<OwnedEventId>, WalkError<E::Error>> {
    let loader = Loader::new(events);
    let mut times: HashMap<OwnedEventId, usize> = HashMap::new();
    let mut missing = Vec::new();
    for set in conflicted {
        let mut chain = HashSet::new();
        match walk(&loader, set, &mut chain) {
            Err(WalkError::Missing(more)) => missing.extend(more),
            walked => walked?,
        }
        for id in chain {
            *times.entry(id).or_default() += 1;
        }
    }
    if !missing.is_empty() {
        missing.sort();
        missing.dedup();
        return Err(WalkError::Missing(missing));
    }
    let mut difference: HashSet<OwnedEventId> =
        times.into_iter().filter(|(_, times)| *times < conflicted.len()).map(|(id, _)| id).collect();
    let mut common = HashSet::new();
    while !difference.is_empty() {
        let Some(id) = unconflicted.next() else { break };
        walk(&loader, [&id], &mut common)?;
        difference.retain(|id| !common.contains(id));
    }
    Ok(difference)
}

/// The conflicted state subgraph: all that lies on a way by auth events from one conflicted event to another.
pub(super) fn conflicted_subgraph<E: EventSource + ?Sized>(
    loader: &Loader<'_, E>,
    conflicted: &BTreeSet<OwnedEventId>,
) -> Result<HashSet<OwnedEventId>, WalkError<E::Error>> {
    let mut reached: HashSet<OwnedEventId> = HashSet::new();
    walk(loader, conflicted, &mut reached)?;
    reached.extend(conflicted.iter().cloned());
    let mut back: HashMap<OwnedEventId, Vec<OwnedEventId>> = HashMap::new();
    for id in &reached {
        for auth_event in loader.get(id)?.auth_events() {
            back.entry(auth_event.clone()).or_default().push(id.clone());
        }
    }
    // All in `back` is reached from a conflicted event. What also reaches one lies on a way between two.
    let mut between: HashSet<OwnedEventId> = conflicted.iter().cloned().collect();
    let mut next: Vec<OwnedEventId> = conflicted.iter().cloned().collect();
    while let Some(id) = next.pop() {
        for from in back.get(&id).into_iter().flatten() {
            if between.insert(from.clone()) {
                next.push(from.clone());
            }
        }
    }
    Ok(between)
}
