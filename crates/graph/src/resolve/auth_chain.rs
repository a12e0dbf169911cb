//! Walks over auth events, from the top down. [RV2 §definitions] [RV12 §definitions]
//!
//! Each event has a height: the create event 0, any other one more than the highest of its auth events. An event can
//! only reach lower ones. So walks that begin at several places go down together, highest first, and end where they
//! are all in the same events: what is below is common to all of them, however much it is.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

use ruma_common::{EventId, OwnedEventId};

use super::{EventSource, Loader, WalkError};

/// How high events stand.
pub(super) struct Heights<'l, 'e, E: ?Sized> {
    loader: &'l Loader<'e, E>,
    known: RefCell<HashMap<OwnedEventId, u32>>,
    /// What the source did not know.
    learned: RefCell<Vec<(OwnedEventId, u32)>>,
}

impl<'l, 'e, E: EventSource + ?Sized> Heights<'l, 'e, E> {
    pub(super) fn new(loader: &'l Loader<'e, E>) -> Self {
        Self { loader, known: RefCell::default(), learned: RefCell::default() }
    }

    fn at_hand(&self, id: &EventId) -> Result<Option<u32>, WalkError<E::Error>> {
        if let Some(height) = self.known.borrow().get(id) {
            return Ok(Some(*height));
        }
        let height = self.loader.source.height(id).map_err(WalkError::Source)?;
        if let Some(height) = height {
            self.known.borrow_mut().insert(id.to_owned(), height);
        }
        Ok(height)
    }

    /// The height of an event. Events that are not here are named all at once.
    fn of(&self, id: &EventId) -> Result<u32, WalkError<E::Error>> {
        if let Some(height) = self.at_hand(id)? {
            return Ok(height);
        }
        let mut missing = BTreeSet::new();
        let mut on_the_way: HashSet<OwnedEventId> = HashSet::new();
        let mut stack = vec![id.to_owned()];
        while let Some(id) = stack.last().cloned() {
            if self.known.borrow().contains_key(&id) {
                stack.pop();
                continue;
            }
            let Some(event) = self.loader.find(&id)? else {
                // Whatever it is: the walk goes on to see what else is missing.
                self.known.borrow_mut().insert(id.clone(), 0);
                missing.insert(id);
                stack.pop();
                continue;
            };
            on_the_way.insert(id.clone());
            let (mut height, mut waits) = (0, false);
            for auth_event in event.auth_events() {
                match self.at_hand(auth_event)? {
                    Some(below) => height = height.max(below.saturating_add(1)),
                    None if on_the_way.contains(auth_event) => return Err(WalkError::Ring(auth_event.clone())),
                    None => {
                        stack.push(auth_event.clone());
                        waits = true;
                    }
                }
            }
            if !waits {
                stack.pop();
                self.known.borrow_mut().insert(id.clone(), height);
                self.learned.borrow_mut().push((id, height));
            }
        }
        if !missing.is_empty() {
            // None of this is to be believed.
            self.learned.borrow_mut().clear();
            return Err(WalkError::Missing(missing.into_iter().collect()));
        }
        let height = self.known.borrow().get(id).copied();
        Ok(height.unwrap_or_default())
    }

    /// The heights of all of them, or all that is missing.
    fn of_all<'i>(&self, ids: impl IntoIterator<Item = &'i OwnedEventId>) -> Result<Vec<u32>, WalkError<E::Error>> {
        let (mut heights, mut missing) = (Vec::new(), BTreeSet::new());
        for id in ids {
            match self.of(id) {
                Ok(height) => heights.push(height),
                Err(WalkError::Missing(more)) => missing.extend(more),
                Err(error) => return Err(error),
            }
        }
        if missing.is_empty() { Ok(heights) } else { Err(WalkError::Missing(missing.into_iter().collect())) }
    }
}

impl<E: EventSource + ?Sized> Heights<'_, '_, E> {
    /// Gives what was found out to the source, for the next time.
    pub(super) fn tell(&self) {
        let learned = std::mem::take(&mut *self.learned.borrow_mut());
        if !learned.is_empty() {
            self.loader.source.learned_heights(learned);
        }
    }
}

/// Which of several walks came by, as bits.
#[derive(Clone, PartialEq, Eq)]
struct Walks(Vec<u64>);

impl Walks {
    fn one(at: usize, of: usize) -> Self {
        let mut words = vec![0; of.div_ceil(64)];
        if let Some(word) = words.get_mut(at / 64) {
            *word = 1 << (at % 64);
        }
        Self(words)
    }

    fn all(of: usize) -> Self {
        let mut all = Self(vec![0; of.div_ceil(64)]);
        (0..of).for_each(|at| all.join(&Self::one(at, of)));
        all
    }

    fn join(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }
}

/// The auth difference, by walking down; see [`EventSource::auth_difference`].
///
/// The auth chain of what is unconflicted is part of every state's. So only the chains of the conflicted parts can
/// make a difference, less what the unconflicted part reaches as well. Costs what differs, and, if something does, a
/// look at the heights of what is unconflicted.
pub fn auth_difference<E: EventSource + ?Sized>(
    events: &E,
    conflicted: &[Vec<OwnedEventId>],
    unconflicted: &mut dyn Iterator<Item = OwnedEventId>,
) -> Result<HashSet<OwnedEventId>, WalkError<E::Error>> {
    let loader = Loader::new(events);
    let heights = Heights::new(&loader);
    let mut difference = chains_difference(&loader, &heights, conflicted)?;
    take_out_what_is_common(&loader, &heights, &mut difference, unconflicted)?;
    heights.tell();
    Ok(difference.into_keys().collect())
}

/// What the auth chains of some sets have and those of others have not, with its heights.
fn chains_difference<E: EventSource + ?Sized>(
    loader: &Loader<'_, E>,
    heights: &Heights<'_, '_, E>,
    sets: &[Vec<OwnedEventId>],
) -> Result<HashMap<OwnedEventId, u32>, WalkError<E::Error>> {
    let all = Walks::all(sets.len());
    // Where the walks are, by height. What lies highest has been reached by all that ever will.
    let mut front: BTreeMap<(u32, OwnedEventId), Walks> = BTreeMap::new();
    let mut missing = BTreeSet::new();
    for (at, set) in sets.iter().enumerate() {
        let walk = Walks::one(at, sets.len());
        for event in set {
            match step(loader, heights, event, &walk, &mut front) {
                Err(WalkError::Missing(more)) => missing.extend(more),
                stepped => stepped?,
            }
        }
    }
    if !missing.is_empty() {
        return Err(WalkError::Missing(missing.into_iter().collect()));
    }
    let mut apart = front.values().filter(|walks| **walks != all).count();
    let mut difference = HashMap::new();
    while apart > 0 {
        let Some(((height, id), walks)) = front.pop_last() else { break };
        if walks != all {
            apart -= 1;
            difference.insert(id.clone(), height);
        }
        for auth_event in loader.get(&id)?.auth_events() {
            let key = (heights.of(auth_event)?, auth_event.clone());
            match front.get_mut(&key) {
                Some(there) => {
                    let was_apart = *there != all;
                    there.join(&walks);
                    apart -= usize::from(was_apart && *there == all);
                }
                None => {
                    apart += usize::from(walks != all);
                    front.insert(key, walks.clone());
                }
            }
        }
    }
    Ok(difference)
}

/// The first step of a walk: to the auth events of an event.
fn step<E: EventSource + ?Sized>(
    loader: &Loader<'_, E>,
    heights: &Heights<'_, '_, E>,
    from: &EventId,
    walk: &Walks,
    front: &mut BTreeMap<(u32, OwnedEventId), Walks>,
) -> Result<(), WalkError<E::Error>> {
    let event = loader.get(from)?;
    let below = heights.of_all(event.auth_events())?;
    for (auth_event, height) in event.auth_events().iter().zip(below) {
        front.entry((height, auth_event.clone())).and_modify(|there| there.join(walk)).or_insert_with(|| walk.clone());
    }
    Ok(())
}

/// Takes out of `difference` what the unconflicted part reaches. What stands no higher than all of it reaches none.
fn take_out_what_is_common<E: EventSource + ?Sized>(
    loader: &Loader<'_, E>,
    heights: &Heights<'_, '_, E>,
    difference: &mut HashMap<OwnedEventId, u32>,
    unconflicted: &mut dyn Iterator<Item = OwnedEventId>,
) -> Result<(), WalkError<E::Error>> {
    let Some(lowest) = difference.values().min().copied() else { return Ok(()) };
    let mut common: HashSet<OwnedEventId> = HashSet::new();
    while !difference.is_empty()
        && let Some(id) = unconflicted.next()
    {
        let mut next = vec![id];
        while let Some(id) = next.pop() {
            if heights.of(&id)? <= lowest {
                continue;
            }
            for auth_event in loader.get(&id)?.auth_events() {
                if heights.of(auth_event)? >= lowest && common.insert(auth_event.clone()) {
                    difference.remove(auth_event);
                    next.push(auth_event.clone());
                }
            }
        }
    }
    Ok(())
}

/// The conflicted state subgraph: all that lies on a way by auth events from one conflicted event to another. Nothing
/// below the lowest of them does.
pub(super) fn conflicted_subgraph<E: EventSource + ?Sized>(
    loader: &Loader<'_, E>,
    conflicted: &BTreeSet<OwnedEventId>,
) -> Result<HashSet<OwnedEventId>, WalkError<E::Error>> {
    let heights = Heights::new(loader);
    let lowest = heights.of_all(conflicted)?.into_iter().min().unwrap_or_default();
    let mut back: HashMap<OwnedEventId, Vec<OwnedEventId>> = HashMap::new();
    let mut reached: HashSet<OwnedEventId> = conflicted.iter().cloned().collect();
    let mut next: Vec<OwnedEventId> = conflicted.iter().cloned().collect();
    while let Some(id) = next.pop() {
        for auth_event in loader.get(&id)?.auth_events() {
            if heights.of(auth_event)? < lowest {
                continue;
            }
            back.entry(auth_event.clone()).or_default().push(id.clone());
            if reached.insert(auth_event.clone()) {
                next.push(auth_event.clone());
            }
        }
    }
    heights.tell();
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
