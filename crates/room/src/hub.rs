//! Who must be told at once: the in-memory ends of the log for everybody who is connected.
//!
//! A connected account has an [`Inbox`]. The dispatcher (`dispatch.rs`) reads the log and notes in the inbox of each
//! account concerned *which room or which part of the account changed, and where in the log*. A reader such as
//! `/sync` then asks "what changed after my position?" and is told in time proportional to what changed, however
//! many rooms the account is in. An account that nobody reads for has no inbox and costs nothing; when it comes back,
//! [`Inbox::covers`] says that the inbox is younger than the reader's position, and the reader looks at all its rooms.
//!
//! Invariant: for every position at or below [`Hub::position`] and above an inbox's floor, each change that
//! concerns the inbox's owner is in it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use koine_store::Position;
use parking_lot::Mutex;
use ruma_common::{OwnedUserId, UserId};
use tokio::sync::watch;

use crate::tables::RoomNo;

/// Most accounts that have an inbox at the same time; past it, the one unused for longest makes room.
pub const INBOXES_MAX: usize = 100_000;
/// An inbox that nobody asked for this long is dropped.
pub const INBOX_IDLE_MAX: Duration = Duration::from_secs(15 * 60);
/// Most changes one inbox keeps; past it the oldest half is forgotten and the floor rises.
pub const INBOX_CHANGES_MAX: usize = 10_000;

/// What changed for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// Something in this room: an event, a receipt, the account's membership.
    Room(RoomNo),
    /// The account's own data: account data, devices, messages to them, profile.
    Account,
    /// The keys of somebody who shares a room with the account, or its own.
    Contacts,
}

/// What changed for one account after some position.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Rooms with something new in the log.
    pub rooms: Vec<RoomNo>,
    /// Rooms with something new that is not in the log (typing).
    pub fleeting: Vec<RoomNo>,
    /// The account's own data changed.
    pub account: bool,
    /// Keys of somebody who shares a room with the account changed, or its own.
    pub contacts: bool,
    /// People whose presence changed who share a room with the account, by the numbers given with the changes.
    pub people: Vec<u64>,
    /// More people's presence may have changed than is known here: look at everybody's.
    pub all_people: bool,
}

impl Changes {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
            && self.fleeting.is_empty()
            && !self.account
            && !self.contacts
            && self.people.is_empty()
            && !self.all_people
    }
}

/// All inboxes of a domain.
pub struct Hub {
    inboxes: Mutex<Inboxes>,
    /// Newest log position whose changes are in the inboxes.
    position: watch::Sender<Position>,
    /// Counts changes that are not in the log; starts anew with the process. Grows under the lock of the inboxes, with the
    /// change noted in them: who reads a mark has the changes up to it.
    fleeting: AtomicU64,
    /// Rooms with new events, for the one who asks.
    stirred: Mutex<Stirred>,
    /// Rooms in which somebody began to type, or stopped, for readers of all rooms.
    typed: tokio::sync::broadcast::Sender<RoomNo>,
}

/// Most rooms that are remembered as stirred while nobody asks.
const STIRRED_MAX: usize = 100_000;

/// Rooms in which something happened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stirred {
    /// These.
    pub rooms: HashSet<RoomNo>,
    /// Perhaps others too: there were too many to remember.
    pub all: bool,
}

/// Changes of typing that a reader of all rooms may be behind.
const TYPED_BEHIND_MAX: usize = 1_024;

struct Inboxes {
    of: HashMap<OwnedUserId, Arc<Inbox>>,
    /// Greatest position of which some inbox has been told: an inbox made now may lack everything up to it.
    delivered: Position,
}

/// What happened to one connected account lately.
pub struct Inbox {
    state: Mutex<InboxState>,
    /// Grows with every change, so that waiting readers wake up.
    bell: watch::Sender<u64>,
}

struct InboxState {
    /// Changes at or below this position may be missing.
    floor: Position,
    latest: Latest<Subject>,
    fleeting: Latest<RoomNo>,
    people: Latest<u64>,
    /// Changes of presence at or below this mark may be missing.
    people_floor: u64,
    last_read: Instant,
    /// Somebody asked what comes behind this position: whatever is up to there, they have.
    acknowledged: Position,
}

/// The newest mark of each thing, searchable by mark.
struct Latest<T> {
    by_mark: BTreeMap<(u64, T), ()>,
    mark_of: HashMap<T, u64>,
}

impl<T: Copy + Eq + std::hash::Hash + Ord> Latest<T> {
    fn new() -> Self {
        Self { by_mark: BTreeMap::new(), mark_of: HashMap::new() }
    }

    fn note(&mut self, thing: T, mark: u64) {
        if let Some(old) = self.mark_of.insert(thing, mark) {
            self.by_mark.remove(&(old, thing));
        }
        self.by_mark.insert((mark, thing), ());
    }

    fn after(&self, mark: u64) -> impl Iterator<Item = (u64, T)> {
        self.by_mark.iter().rev().map(|((at, thing), ())| (*at, *thing)).take_while(move |(at, _)| *at > mark)
    }

    /// Drops the oldest half; the greatest mark dropped.
    fn drop_oldest_half(&mut self) -> u64 {
        let mut dropped = 0;
        for _ in 0..self.by_mark.len() / 2 {
            if let Some(((mark, thing), ())) = self.by_mark.pop_first() {
                self.mark_of.remove(&thing);
                dropped = mark;
            }
        }
        dropped
    }
}

impl Hub {
    /// A hub whose readers start at `position`.
    pub fn new(position: Position) -> Self {
        Self {
            inboxes: Mutex::new(Inboxes { of: HashMap::new(), delivered: position }),
            position: watch::Sender::new(position),
            fleeting: AtomicU64::new(0),
            stirred: Mutex::default(),
            typed: tokio::sync::broadcast::Sender::new(TYPED_BEHIND_MAX),
        }
    }

    /// Rooms in which somebody begins to type, or stops, from now on. Whoever is slow misses some.
    pub fn typed(&self) -> tokio::sync::broadcast::Receiver<RoomNo> {
        self.typed.subscribe()
    }

    /// Somebody began to type in a room, or stopped.
    pub(crate) fn tell_typed(&self, room: RoomNo) {
        // Nobody may be listening.
        let _ = self.typed.send(room);
    }

    /// Rooms with new events up to [`position`](Self::position) at least since this was asked last. For one asker.
    pub fn take_stirred(&self) -> Stirred {
        std::mem::take(&mut self.stirred.lock())
    }

    /// There is a new event in this room. Called in the order of the log.
    pub(crate) fn note_stirred(&self, room: RoomNo) {
        let mut stirred = self.stirred.lock();
        if stirred.rooms.len() >= STIRRED_MAX {
            *stirred = Stirred { rooms: HashSet::new(), all: true };
        }
        stirred.rooms.insert(room);
    }

    /// The newest position whose changes have all been delivered to the inboxes.
    pub fn position(&self) -> Position {
        *self.position.borrow()
    }

    /// The newest mark of things that are not in the log.
    pub fn fleeting(&self) -> u64 {
        let _noted = self.inboxes.lock();
        self.fleeting.load(Ordering::Acquire)
    }

    /// Waits until everything up to `position` is delivered.
    pub async fn reached(&self, position: Position) {
        let mut seen = self.position.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = seen.wait_for(|at| *at >= position).await;
    }

    /// The inbox of an account that is being read for; made when there is none.
    pub fn inbox(&self, user: &UserId) -> Arc<Inbox> {
        let mut inboxes = self.inboxes.lock();
        if let Some(inbox) = inboxes.of.get(user) {
            inbox.state.lock().last_read = Instant::now();
            return inbox.clone();
        }
        if inboxes.of.len() >= INBOXES_MAX {
            let oldest =
                inboxes.of.iter().min_by_key(|(_, inbox)| inbox.state.lock().last_read).map(|(user, _)| user.clone());
            if let Some(oldest) = oldest {
                inboxes.of.remove(&oldest);
            }
        }
        // Read under the lock that `deliver` also takes: nothing falls between.
        let inbox = Arc::new(Inbox {
            state: Mutex::new(InboxState {
                floor: inboxes.delivered,
                latest: Latest::new(),
                fleeting: Latest::new(),
                people: Latest::new(),
                people_floor: self.fleeting.load(Ordering::Acquire),
                last_read: Instant::now(),
                acknowledged: Position(0),
            }),
            bell: watch::Sender::new(0),
        });
        inboxes.of.insert(user.to_owned(), inbox.clone());
        inbox
    }

    /// Up to where a device of somebody who is connected has what happened.
    pub fn acknowledged(&self, user: &UserId) -> Option<Position> {
        self.inboxes.lock().of.get(user).map(|inbox| inbox.state.lock().acknowledged)
    }

    /// Notes a change of the log for those of `users` who are connected. Called in the order of the log.
    pub(crate) fn deliver<'a>(&self, users: impl Iterator<Item = &'a UserId>, subject: Subject, position: Position) {
        self.deliver_among(0, users, |_| false, (subject, position));
    }

    /// The same for those who are `among` so many: costs the smaller of them and of those who are connected, so that a message in a
    /// room of thousands costs what one in a room of two does while hardly anybody looks.
    pub(crate) fn deliver_among<'a>(
        &self,
        members: usize,
        all: impl Iterator<Item = &'a UserId>,
        among: impl Fn(&UserId) -> bool,
        (subject, position): (Subject, Position),
    ) {
        let mut inboxes = self.inboxes.lock();
        inboxes.delivered = inboxes.delivered.max(position);
        if inboxes.of.is_empty() {
            return;
        }
        if inboxes.of.len() < members {
            let told = inboxes.of.iter().filter(|(user, _)| among(user));
            told.for_each(|(_, inbox)| inbox.note(subject, position));
        } else {
            all.filter_map(|user| inboxes.of.get(user)).for_each(|inbox| inbox.note(subject, position));
        }
    }

    /// Everything up to `position` has been delivered.
    pub(crate) fn advance(&self, position: Position) {
        self.position.send_replace(position);
    }

    /// Notes a change that is not in the log (typing) for those of `users` who are connected; its mark.
    pub(crate) fn deliver_fleeting<'a>(&self, users: impl Iterator<Item = &'a UserId>, room: RoomNo) -> u64 {
        let inboxes = self.inboxes.lock();
        let mark = self.fleeting.fetch_add(1, Ordering::AcqRel) + 1;
        for user in users {
            if let Some(inbox) = inboxes.of.get(user) {
                inbox.note_fleeting(room, mark);
            }
        }
        mark
    }

    /// Notes that the presence of `person` changed, for those of `users` who are connected.
    pub(crate) fn deliver_presence<'a>(&self, users: impl Iterator<Item = &'a UserId>, person: u64) {
        let inboxes = self.inboxes.lock();
        let mark = self.fleeting.fetch_add(1, Ordering::AcqRel) + 1;
        for user in users {
            if let Some(inbox) = inboxes.of.get(user) {
                inbox.note_person(person, mark);
            }
        }
    }

    /// Adds those of `users` who are connected.
    pub(crate) fn add_connected<'a>(&self, users: impl Iterator<Item = &'a UserId>, to: &mut HashSet<OwnedUserId>) {
        let inboxes = self.inboxes.lock();
        to.extend(users.filter(|user| inboxes.of.contains_key(*user)).map(ToOwned::to_owned));
    }

    /// Drops inboxes that nobody reads any more.
    pub(crate) fn sweep(&self, now: Instant) {
        self.inboxes.lock().of.retain(|_, inbox| {
            Arc::strong_count(inbox) > 1 || now.duration_since(inbox.state.lock().last_read) < INBOX_IDLE_MAX
        });
    }
}

impl Inbox {
    /// Whether every change after `position` is known here.
    pub fn covers(&self, position: Position) -> bool {
        self.state.lock().floor <= position
    }

    /// What changed after `position` and after the mark `fleeting`; `None` when the inbox does not reach back that far.
    pub fn changes_after(&self, position: Position, fleeting: u64) -> Option<Changes> {
        let mut state = self.state.lock();
        state.last_read = Instant::now();
        state.acknowledged = state.acknowledged.max(position);
        if state.floor > position {
            return None;
        }
        let mut changes = Changes::default();
        for (_, subject) in state.latest.after(position.0) {
            match subject {
                Subject::Room(room) => changes.rooms.push(room),
                Subject::Account => changes.account = true,
                Subject::Contacts => changes.contacts = true,
            }
        }
        changes.people = state.people.after(fleeting).map(|(_, person)| person).collect();
        changes.all_people = fleeting < state.people_floor;
        changes.fleeting = state.fleeting.after(fleeting).map(|(_, room)| room).collect();
        Some(changes)
    }

    /// A receiver that wakes up at every change from now on. Take it *before* looking at
    /// [`changes_after`](Self::changes_after), then wait: no change can fall between.
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    fn note(&self, subject: Subject, position: Position) {
        {
            let mut state = self.state.lock();
            state.latest.note(subject, position.0);
            if state.latest.by_mark.len() > INBOX_CHANGES_MAX {
                let dropped = state.latest.drop_oldest_half();
                state.floor = state.floor.max(Position(dropped));
            }
        }
        self.bell.send_modify(|rings| *rings += 1);
    }

    fn note_fleeting(&self, room: RoomNo, mark: u64) {
        self.state.lock().fleeting.note(room, mark);
        self.bell.send_modify(|rings| *rings += 1);
    }

    fn note_person(&self, person: u64, mark: u64) {
        {
            let mut state = self.state.lock();
            state.people.note(person, mark);
            if state.people.by_mark.len() > INBOX_CHANGES_MAX {
                let dropped = state.people.drop_oldest_half();
                state.people_floor = state.people_floor.max(dropped);
            }
        }
        self.bell.send_modify(|rings| *rings += 1);
    }
}

#[cfg(test)]
mod tests {
    use ruma_common::user_id;

    use super::*;

    #[test]
    fn a_reader_is_told_each_changed_room_once() {
        let hub = Hub::new(Position(10));
        let alice = user_id!("@alice:example.org");
        let inbox = hub.inbox(alice);
        for position in 11..15 {
            hub.deliver([alice].into_iter(), Subject::Room(position % 2), Position(position));
            hub.advance(Position(position));
        }
        let changes = inbox.changes_after(Position(10), 0).unwrap();
        assert_eq!(changes, Changes { rooms: vec![0, 1], ..Changes::default() });
        let changes = inbox.changes_after(Position(13), 0).unwrap();
        assert_eq!(changes.rooms, vec![0]);
        assert!(inbox.changes_after(Position(14), 0).unwrap().is_empty());
    }

    #[test]
    fn in_a_room_of_many_those_are_told_who_are_connected_and_in_it() {
        let (alice, bob) = (user_id!("@alice:example.org"), user_id!("@bob:example.org"));
        for members in [1, 1_000] {
            let hub = Hub::new(Position(10));
            let inboxes = [alice, bob].map(|user| hub.inbox(user));
            hub.deliver_among(members, [alice].into_iter(), |user| user == alice, (Subject::Room(7), Position(11)));
            let told = inboxes.map(|inbox| inbox.changes_after(Position(10), 0).unwrap().rooms);
            assert_eq!(told, [vec![7], vec![]]);
            assert_eq!(hub.inbox(user_id!("@carol:example.org")).changes_after(Position(10), 0), None);
        }
    }

    #[test]
    fn rooms_that_stirred_are_told_once_and_too_many_as_all() {
        let hub = Hub::new(Position(10));
        for room in [7, 8, 7] {
            hub.note_stirred(room);
        }
        assert_eq!(hub.take_stirred(), Stirred { rooms: [7, 8].into(), all: false });
        assert_eq!(hub.take_stirred(), Stirred::default());
        (0..=STIRRED_MAX as RoomNo).for_each(|room| hub.note_stirred(room));
        assert_eq!(hub.take_stirred(), Stirred { rooms: [STIRRED_MAX as RoomNo].into(), all: true });
    }

    #[test]
    fn an_inbox_says_when_it_is_younger_than_the_reader() {
        let hub = Hub::new(Position(10));
        let inbox = hub.inbox(user_id!("@alice:example.org"));
        assert_eq!(inbox.changes_after(Position(9), 0), None);
        assert!(inbox.covers(Position(10)));
    }

    #[test]
    fn presence_is_noted_once_a_person_and_a_young_inbox_says_so() {
        let hub = Hub::new(Position(0));
        let alice = user_id!("@alice:example.org");
        hub.deliver_presence([alice].into_iter(), 7);
        let inbox = hub.inbox(alice);
        assert!(inbox.changes_after(Position(0), 0).unwrap().all_people);
        let mark = hub.fleeting();
        for person in [8, 9, 8] {
            hub.deliver_presence([alice].into_iter(), person);
        }
        let changes = inbox.changes_after(Position(0), mark).unwrap();
        assert_eq!((changes.people, changes.all_people), (vec![8, 9], false));
        assert!(inbox.changes_after(Position(0), hub.fleeting()).unwrap().is_empty());
    }

    #[test]
    fn a_crowded_inbox_forgets_the_oldest_and_says_so() {
        let hub = Hub::new(Position(0));
        let alice = user_id!("@alice:example.org");
        let inbox = hub.inbox(alice);
        for n in 1..=(INBOX_CHANGES_MAX as u64 + 1) {
            hub.deliver([alice].into_iter(), Subject::Room(n), Position(n));
        }
        assert_eq!(inbox.changes_after(Position(0), 0), None);
        let floor = inbox.state.lock().floor;
        assert_eq!(inbox.changes_after(floor, 0).unwrap().rooms.len(), INBOX_CHANGES_MAX + 1 - floor.0 as usize);
    }
}
