//! The two orders of state resolution v2. [RV2 §definitions]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
};

use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedEventId, room_version_rules::RoomVersionRules};

use super::{EventSource, Loader, WalkError};
use crate::{
    event::Event,
    power_levels::{Level, PowerLevels},
};

/// The reverse topological power ordering, earliest event first: auth events before what they allow, and among those
/// that could come next the smallest by power level (the greater is the smaller), time and id.
pub(super) fn by_power<E: EventSource + ?Sized>(
    rules: &RoomVersionRules,
    events: &BTreeMap<OwnedEventId, Event>,
    loader: &Loader<'_, E>,
) -> Result<Vec<Event>, WalkError<E::Error>> {
    type Rank = (Reverse<Level>, MilliSecondsSinceUnixEpoch, OwnedEventId);
    let mut ranks: HashMap<OwnedEventId, Rank> = HashMap::with_capacity(events.len());
    let mut waits_for: HashMap<OwnedEventId, usize> = HashMap::with_capacity(events.len());
    let mut allows: HashMap<OwnedEventId, Vec<OwnedEventId>> = HashMap::new();
    let mut ready: BinaryHeap<Reverse<Rank>> = BinaryHeap::new();
    for (id, event) in events {
        let rank = (Reverse(sender_level(rules, event, loader)?), event.origin_server_ts(), id.clone());
        let mut auth_events: Vec<&OwnedEventId> =
            event.auth_events().iter().filter(|id| events.contains_key(*id)).collect();
        auth_events.sort();
        auth_events.dedup();
        if auth_events.is_empty() {
            ready.push(Reverse(rank.clone()));
        }
        waits_for.insert(id.clone(), auth_events.len());
        for auth_event in auth_events {
            allows.entry(auth_event.clone()).or_default().push(id.clone());
        }
        ranks.insert(id.clone(), rank);
    }

    let mut sorted = Vec::with_capacity(events.len());
    while let Some(Reverse((_, _, id))) = ready.pop() {
        for allowed in allows.remove(&id).unwrap_or_default() {
            if let Some(count) = waits_for.get_mut(&allowed) {
                *count -= 1;
                if *count == 0 {
                    ready.extend(ranks.get(&allowed).cloned().map(Reverse));
                }
            }
        }
        sorted.extend(events.get(&id).cloned());
    }
    Ok(sorted)
}

/// The level of an event's sender, as the event's own auth events have it.
fn sender_level<E: EventSource + ?Sized>(
    rules: &RoomVersionRules,
    event: &Event,
    loader: &Loader<'_, E>,
) -> Result<Level, WalkError<E::Error>> {
    let create = if event.kind() == "m.room.create" { Some(event.clone()) } else { loader.create_of(rules, event)? };
    let power_levels = loader.auth_event(event, "m.room.power_levels", "")?;
    let levels = PowerLevels::new(&rules.authorization, create.as_ref(), power_levels.as_ref());
    Ok(levels.user_level(event.sender()))
}

/// The mainline ordering based on the power levels event `power_levels`.
pub(super) fn by_mainline<E: EventSource + ?Sized>(
    mut events: Vec<Event>,
    power_levels: Option<Event>,
    loader: &Loader<'_, E>,
) -> Result<Vec<Event>, WalkError<E::Error>> {
    // Position of each power levels event that was looked at; `None` is infinity. To begin with, the mainline itself.
    let mut positions: HashMap<OwnedEventId, Option<usize>> = HashMap::new();
    let mut next = power_levels;
    while let Some(event) = next {
        if positions.insert(event.event_id().to_owned(), Some(positions.len())).is_some() {
            break;
        }
        next = loader.auth_event(&event, "m.room.power_levels", "")?;
    }

    let mut ranks = HashMap::with_capacity(events.len());
    for event in &events {
        let position = position(event, &mut positions, loader)?;
        // Greater positions come first, and infinity is greater than all.
        let rank = (position.is_some(), Reverse(position), event.origin_server_ts(), event.event_id().to_owned());
        ranks.insert(event.event_id().to_owned(), rank);
    }
    events.sort_by_cached_key(|event| ranks.get(event.event_id()).cloned());
    Ok(events)
}

fn position<E: EventSource + ?Sized>(
    event: &Event,
    positions: &mut HashMap<OwnedEventId, Option<usize>>,
    loader: &Loader<'_, E>,
) -> Result<Option<usize>, WalkError<E::Error>> {
    let mut way = Vec::new();
    let mut at = loader.auth_event(event, "m.room.power_levels", "")?;
    let position = loop {
        let Some(power_levels) = at else { break None };
        if let Some(position) = positions.get(power_levels.event_id()) {
            break *position;
        }
        // Should auth events go in a circle, which hashes forbid, this ends it.
        positions.insert(power_levels.event_id().to_owned(), None);
        way.push(power_levels.event_id().to_owned());
        at = loader.auth_event(&power_levels, "m.room.power_levels", "")?;
    };
    for id in way {
        positions.insert(id, position);
    }
    Ok(position)
}
