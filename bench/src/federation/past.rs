//! What was said in a room while a server was away, and how others are told of it.

use std::collections::{HashMap, HashSet, VecDeque};

use koine_graph::Event;
use ruma_common::OwnedEventId;
use serde::Deserialize;

/// Events given out at once, whoever asks for more: what servers in the wild do.
const ANSWER_EVENTS_MAX: usize = 100;
/// What is given out when nothing is said. [SS-API §post_matrixfederationv1get_missing_eventsroomid]
const MISSING_DEFAULT: usize = 10;

/// Events by their ids.
#[derive(Debug, Default)]
pub struct Past {
    events: HashMap<OwnedEventId, Event>,
}

/// A question for what lies between.
#[derive(Debug, Deserialize)]
pub struct Between {
    earliest_events: Vec<OwnedEventId>,
    latest_events: Vec<OwnedEventId>,
    limit: Option<usize>,
}

impl Past {
    /// Keeps an event.
    pub fn keep(&mut self, event: Event) {
        self.events.insert(event.event_id().to_owned(), event);
    }

    /// One of them.
    pub fn get(&self, id: &str) -> Option<&Event> {
        self.events.get(<&ruma_common::EventId>::try_from(id).ok()?)
    }

    /// What lies before the latest and after the earliest, the nearest first taken, told oldest first.
    /// [SS-API §post_matrixfederationv1get_missing_eventsroomid]
    pub fn between(&self, asked: &Between) -> Vec<&Event> {
        let limit = asked.limit.unwrap_or(MISSING_DEFAULT);
        let stops = asked.earliest_events.iter().chain(&asked.latest_events).cloned().collect();
        let latest = asked.latest_events.iter().filter_map(|id| self.events.get(id));
        let from: Vec<OwnedEventId> = latest.flat_map(|event| event.prev_events().iter().cloned()).collect();
        let mut found = self.walk(from, stops, limit);
        found.sort_by_key(|event| event.depth());
        found
    }

    /// These and what lies before them, newest first. [SS-API §get_matrixfederationv1backfillroomid]
    pub fn before(&self, from: Vec<OwnedEventId>, limit: usize) -> Vec<&Event> {
        self.walk(from, HashSet::new(), limit)
    }

    /// Backwards from `from`, which are included, not beyond `stops`, which are not.
    fn walk(&self, from: Vec<OwnedEventId>, mut passed: HashSet<OwnedEventId>, limit: usize) -> Vec<&Event> {
        let mut next = VecDeque::from(from);
        let mut found = Vec::new();
        while found.len() < limit.min(ANSWER_EVENTS_MAX)
            && let Some(id) = next.pop_front()
        {
            if !passed.insert(id.clone()) {
                continue;
            }
            // What was before the outage whoever asks has.
            let Some(event) = self.events.get(&id) else { continue };
            next.extend(event.prev_events().iter().cloned());
            found.push(event);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use koine_graph::SigningKey;
    use ruma_common::OwnedServerName;

    use super::*;
    use crate::federation::room::{Room, Signer};

    /// A past of so many messages, and their ids.
    fn past(count: usize) -> (Past, Vec<OwnedEventId>) {
        let name = OwnedServerName::try_from("127.0.0.2:1").expect("a name");
        let servers = [Signer { name, key: SigningKey::from_seed("1", &[7; 32]).expect("a key") }];
        let mut room = Room::new("past", &servers, 1);
        let (mut past, mut ids) = (Past::default(), Vec::new());
        for number in 0..count {
            let event = room.message(&servers[0], &format!("{number}"));
            ids.push(event.event_id().to_owned());
            past.keep(event);
        }
        (past, ids)
    }

    fn ids(events: Vec<&Event>) -> Vec<OwnedEventId> {
        events.into_iter().map(|event| event.event_id().to_owned()).collect()
    }

    #[test]
    fn events_in_between_are_the_newest_and_come_oldest_first() {
        let (past, all) = past(10);
        let asked = |earliest: usize, limit| Between {
            earliest_events: vec![all[earliest].clone()],
            latest_events: vec![all[9].clone()],
            limit: Some(limit),
        };
        assert_eq!(ids(past.between(&asked(0, 3))), all[6..9]);
        assert_eq!(ids(past.between(&asked(4, 50))), all[5..9]);
    }

    #[test]
    fn what_lies_before_begins_with_what_was_asked_and_has_a_bound() {
        let (past, all) = past(ANSWER_EVENTS_MAX + 10);
        let newest = all.last().expect("messages").clone();
        let page = ids(past.before(vec![newest.clone()], 10_000));
        assert_eq!((page.len(), &page[0], &page[1]), (ANSWER_EVENTS_MAX, &newest, &all[all.len() - 2]));
        assert_eq!(ids(past.before(vec![all[1].clone()], 10)), [all[1].clone(), all[0].clone()]);
    }
}
