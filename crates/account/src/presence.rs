//! Presence: who is there, who is idle, and what they say of it. [CS-API §presence]
//!
//! Kept in memory alone: after a restart everybody is offline until their client comes back. Each device has a wish (what
//! it last said of itself), and counts while it polls and for [`OFFLINE_AFTER`] from then; the best wish of those that
//! count is the user's state, but for `online` without activity for [`IDLE_AFTER`], which is `unavailable`. So a state
//! follows from what is written here and the time, and nobody is told of anything but a change of it.
//!
//! While somebody is `online` they are "currently active": no further updates of the time of their last activity are sent.
//! Who has to be told of a change is for the caller to find out ([`Presences::changed`]).
//!
//! People of other servers are as their servers say, until [`SAID_FOR`] passed without a word. Ours are told again before
//! that passes elsewhere.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use ruma_common::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use tokio::sync::Notify;

use crate::Accounts;

/// How long after its last request a device counts as connected.
pub const OFFLINE_AFTER: Duration = Duration::from_secs(30);
/// How long somebody who does nothing stays online.
pub const IDLE_AFTER: Duration = Duration::from_secs(5 * 60);
/// How long it is remembered of somebody offline when they were there, and what they said.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long the word of another server holds.
pub const SAID_FOR: Duration = Duration::from_secs(30 * 60);
/// After how long it is told again that somebody is there still: other servers forget it, as we do.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(25 * 60);
/// Longest status message.
pub const STATUS_CHARS_MAX: usize = 1024;
/// Most people whose presence is known; whoever comes beyond is shown to nobody.
const PRESENCES_MAX: usize = 200_000;
/// Most people known at which people of other servers are still added.
const ELSEWHERE_MAX: usize = PRESENCES_MAX / 2;
/// Most devices of one user that count; past it the one unseen for longest is forgotten.
const DEVICES_MAX: usize = 32;

/// A number for somebody whose presence is known, good as long as the process lives.
pub type Person = u64;

/// How much somebody is there; more is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PresenceState {
    /// Not connected, or hiding.
    #[default]
    Offline,
    /// Connected, but idle.
    Unavailable,
    /// There.
    Online,
}

impl PresenceState {
    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Offline, Self::Unavailable, Self::Online].into_iter().find(|state| state.as_str() == name)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Unavailable => "unavailable",
            Self::Online => "online",
        }
    }
}

/// What others are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// How much they are there.
    pub state: PresenceState,
    /// For how long they have done nothing, if they ever did anything.
    pub last_active_ago: Option<Duration>,
    /// What they say of it.
    pub status_msg: Option<String>,
    /// They are doing something right now.
    pub currently_active: bool,
}

/// The presence of everybody here. Cloning copies a pointer.
#[derive(Clone)]
pub struct Presences(Arc<Shared>);

struct Shared {
    started: Instant,
    board: Mutex<Board>,
    bell: Notify,
    /// Who changed, for further listeners.
    told: tokio::sync::broadcast::Sender<OwnedUserId>,
}

/// Changes that a further listener may be behind.
const BEHIND_MAX: usize = 4_096;

/// A device is connected as long as this lives.
#[must_use = "the device counts as polling until this is dropped"]
pub struct Polling {
    presences: Presences,
    user: OwnedUserId,
    device: OwnedDeviceId,
}

/// All there is to know, with the time as an argument. Invariant: `users` is the inverse of the numbers in `of`.
#[derive(Default)]
struct Board {
    of: HashMap<OwnedUserId, Entry>,
    users: HashMap<Person, OwnedUserId>,
    next: Person,
    /// Whose presence changed and was not told yet.
    changed: BTreeSet<Person>,
}

struct Entry {
    person: Person,
    devices: Vec<Device>,
    status: Option<String>,
    active: Option<Duration>,
    /// Last moment at which they were not offline.
    seen: Duration,
    /// The state as others know it, or are about to.
    told: PresenceState,
    /// When it was told last.
    told_at: Duration,
    /// Somebody of another server: what that server said last.
    said: Option<Said>,
}

struct Said {
    state: PresenceState,
    active_ago: Option<Duration>,
    currently_active: bool,
    at: Duration,
}

struct Device {
    id: OwnedDeviceId,
    wish: PresenceState,
    polls: u32,
    seen: Duration,
}

impl Device {
    fn is_connected(&self, now: Duration) -> bool {
        self.polls > 0 || now.saturating_sub(self.seen) < OFFLINE_AFTER
    }
}

impl Entry {
    fn state(&self, now: Duration) -> PresenceState {
        if let Some(said) = &self.said {
            let holds = now.saturating_sub(said.at) < SAID_FOR;
            return if holds { said.state } else { PresenceState::Offline };
        }
        let wishes = self.devices.iter().filter(|device| device.is_connected(now)).map(|device| device.wish);
        match wishes.max().unwrap_or_default() {
            PresenceState::Online if self.is_idle(now) => PresenceState::Unavailable,
            wish => wish,
        }
    }

    fn is_idle(&self, now: Duration) -> bool {
        self.active.is_none_or(|active| now.saturating_sub(active) >= IDLE_AFTER)
    }

    /// The device, made if need be.
    fn device(&mut self, id: &DeviceId, now: Duration) -> &mut Device {
        if let Some(at) = self.devices.iter().position(|device| device.id == id) {
            return &mut self.devices[at];
        }
        if self.devices.len() >= DEVICES_MAX {
            let oldest = self.devices.iter().enumerate().min_by_key(|(_, device)| device.seen).map(|(at, _)| at);
            oldest.map(|at| self.devices.swap_remove(at));
        }
        self.devices.push(Device { id: id.to_owned(), wish: PresenceState::Offline, polls: 0, seen: now });
        let last = self.devices.len() - 1;
        &mut self.devices[last]
    }
}

impl Board {
    fn entry(&mut self, user: &UserId, now: Duration) -> Option<&mut Entry> {
        if !self.of.contains_key(user) {
            if self.of.len() >= PRESENCES_MAX {
                return None;
            }
            self.next += 1;
            let (person, devices) = (self.next, Vec::new());
            self.users.insert(person, user.to_owned());
            let (told, told_at) = (PresenceState::Offline, now);
            let entry = Entry { person, devices, status: None, active: None, seen: now, told, told_at, said: None };
            self.of.insert(user.to_owned(), entry);
        }
        self.of.get_mut(user)
    }

    /// Compares what is with what was told.
    fn note(&mut self, user: &UserId, now: Duration) {
        let Some(entry) = self.of.get_mut(user) else { return };
        let state = entry.state(now);
        if state != PresenceState::Offline {
            entry.seen = now;
        }
        if state != entry.told {
            (entry.told, entry.told_at) = (state, now);
            self.changed.insert(entry.person);
        }
    }

    fn say(&mut self, user: &UserId, presence: Presence, now: Duration) {
        if !self.of.contains_key(user) && self.of.len() >= ELSEWHERE_MAX {
            return;
        }
        let Some(entry) = self.entry(user, now) else { return };
        let Presence { state, last_active_ago, status_msg, currently_active } = presence;
        entry.said = Some(Said { state, active_ago: last_active_ago, currently_active, at: now });
        if entry.status != status_msg {
            entry.status = status_msg;
            let person = entry.person;
            self.changed.insert(person);
        }
        self.note(user, now);
    }

    fn begin_poll(&mut self, user: &UserId, device: &DeviceId, wish: PresenceState, now: Duration) {
        let Some(entry) = self.entry(user, now) else { return };
        let device = entry.device(device, now);
        // To ask again and again is no activity; to come back, or to say something else than before, is.
        let is_news = device.wish != wish || !device.is_connected(now);
        device.wish = wish;
        device.polls += 1;
        device.seen = now;
        if is_news && wish == PresenceState::Online {
            entry.active = Some(now);
        }
        self.note(user, now);
    }

    fn end_poll(&mut self, user: &UserId, device: &DeviceId, now: Duration) {
        let Some(entry) = self.of.get_mut(user) else { return };
        if let Some(device) = entry.devices.iter_mut().find(|other| other.id == device) {
            device.polls = device.polls.saturating_sub(1);
            device.seen = now;
        }
        // A state changes by the passing of time alone from here on.
    }

    fn set(&mut self, user: &UserId, device: &DeviceId, wish: PresenceState, status: Option<String>, now: Duration) {
        let Some(entry) = self.entry(user, now) else { return };
        let device = entry.device(device, now);
        device.wish = wish;
        device.seen = now;
        if wish == PresenceState::Online {
            entry.active = Some(now);
        }
        if entry.status != status {
            entry.status = status;
            let person = entry.person;
            self.changed.insert(person);
        }
        self.note(user, now);
    }

    fn act(&mut self, user: &UserId, device: &DeviceId, now: Duration) {
        let Some(entry) = self.of.get_mut(user) else { return };
        entry.active = Some(now);
        // [CS-API §idle-timeout] Whatever is done brings the user back, but for a device that hides.
        if let Some(device) = entry.devices.iter_mut().find(|other| other.id == device)
            && device.wish == PresenceState::Unavailable
        {
            device.wish = PresenceState::Online;
        }
        if entry.told != PresenceState::Online {
            self.note(user, now);
        }
    }

    fn get(&self, user: &UserId, now: Duration) -> Option<Presence> {
        let entry = self.of.get(user)?;
        let (state, status_msg) = (entry.state(now), entry.status.clone());
        let Some(said) = &entry.said else {
            let last_active_ago = entry.active.map(|active| now.saturating_sub(active));
            let currently_active = state == PresenceState::Online;
            return Some(Presence { state, last_active_ago, status_msg, currently_active });
        };
        let last_active_ago = said.active_ago.map(|ago| ago + now.saturating_sub(said.at));
        let currently_active = said.currently_active && state == PresenceState::Online;
        Some(Presence { state, last_active_ago, status_msg, currently_active })
    }

    /// Notes what the passing of time changed, and forgets who has been away for long.
    fn sweep(&mut self, now: Duration) {
        let Self { of, users, changed, .. } = self;
        of.retain(|_, entry| {
            entry.devices.retain(|device| device.is_connected(now));
            let state = entry.state(now);
            if state != PresenceState::Offline {
                entry.seen = now;
            }
            let is_worth_telling = entry.said.is_none()
                && state != PresenceState::Offline
                && now.saturating_sub(entry.told_at) >= TOLD_AGAIN_AFTER;
            if state != entry.told || is_worth_telling {
                (entry.told, entry.told_at) = (state, now);
                changed.insert(entry.person);
            }
            let is_kept = now.saturating_sub(entry.seen) < FORGOTTEN_AFTER || changed.contains(&entry.person);
            if !is_kept {
                users.remove(&entry.person);
            }
            is_kept
        });
    }

    fn take_changed(&mut self) -> Vec<(Person, OwnedUserId)> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        changed.filter_map(|person| Some((person, self.users.get(&person)?.clone()))).collect()
    }
}

impl Default for Presences {
    fn default() -> Self {
        let told = tokio::sync::broadcast::Sender::new(BEHIND_MAX);
        Self(Arc::new(Shared { started: Instant::now(), board: Mutex::default(), bell: Notify::new(), told }))
    }
}

impl Presences {
    /// A device asks what is new, and wishes to be shown like this meanwhile. Who wishes to be offline is not shown.
    pub fn poll(&self, user: &UserId, device: &DeviceId, wish: PresenceState) -> Option<Polling> {
        if wish == PresenceState::Offline {
            return None;
        }
        self.with(|board, now| board.begin_poll(user, device, wish, now));
        Some(Polling { presences: self.clone(), user: user.to_owned(), device: device.to_owned() })
    }

    /// A device says how it wishes to be shown, with a message or without.
    pub fn set(&self, user: &UserId, device: &DeviceId, wish: PresenceState, status_msg: Option<String>) {
        self.with(|board, now| board.set(user, device, wish, status_msg, now));
    }

    /// Another server says how somebody of theirs is.
    pub fn say(&self, user: &UserId, mut presence: Presence) {
        presence.status_msg = presence.status_msg.filter(|message| !message.is_empty());
        if let Some(message) = &mut presence.status_msg
            && let Some((end, _)) = message.char_indices().nth(STATUS_CHARS_MAX)
        {
            message.truncate(end);
        }
        self.with(|board, now| board.say(user, presence, now));
    }

    /// People of other servers who are there, at most `limit` of them.
    pub fn elsewhere(&self, limit: usize) -> Vec<OwnedUserId> {
        let (board, now) = (self.0.board.lock(), self.now());
        let said =
            board.of.iter().filter(|(_, entry)| entry.said.is_some() && entry.state(now) != PresenceState::Offline);
        said.take(limit).map(|(user, _)| user.clone()).collect()
    }

    /// Somebody did something on a device: wrote, read, typed.
    pub fn act(&self, user: &UserId, device: &DeviceId) {
        self.with(|board, now| board.act(user, device, now));
    }

    /// The presence of somebody; nothing if they were not here lately.
    pub fn get(&self, user: &UserId) -> Option<Presence> {
        self.0.board.lock().get(user, self.now())
    }

    /// Who has this number.
    pub fn user(&self, person: Person) -> Option<OwnedUserId> {
        self.0.board.lock().users.get(&person).cloned()
    }

    /// Notes what the passing of time changed. To be called every few seconds; looks at everybody known.
    pub fn sweep(&self) {
        self.with(Board::sweep);
    }

    /// Whose presence changed, as the one asker of [`changed`](Self::changed) learns of it. Whoever is slow misses some.
    pub fn told(&self) -> tokio::sync::broadcast::Receiver<OwnedUserId> {
        self.0.told.subscribe()
    }

    /// Waits until something changed, and answers whose presence did since this was asked last. For one asker.
    pub async fn changed(&self) -> Vec<(Person, OwnedUserId)> {
        loop {
            let rung = self.0.bell.notified();
            let changed = self.0.board.lock().take_changed();
            if !changed.is_empty() {
                // Nobody may be listening.
                changed.iter().for_each(|(_, user)| drop(self.0.told.send(user.clone())));
                return changed;
            }
            rung.await;
        }
    }

    fn with(&self, change: impl FnOnce(&mut Board, Duration)) {
        let mut board = self.0.board.lock();
        change(&mut board, self.now());
        if !board.changed.is_empty() {
            self.0.bell.notify_one();
        }
    }

    fn now(&self) -> Duration {
        self.0.started.elapsed()
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        self.presences.with(|board, now| board.end_poll(&self.user, &self.device, now));
    }
}

impl Accounts {
    /// The presence of everybody here.
    pub fn presences(&self) -> &Presences {
        &self.presences
    }
}

#[cfg(test)]
mod tests {
    use ruma_common::{device_id, user_id};

    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn state(board: &mut Board, now: Duration) -> PresenceState {
        state_of(user_id!("@alice:example.org"), board, now)
    }

    fn state_of(user: &UserId, board: &mut Board, now: Duration) -> PresenceState {
        board.sweep(now);
        board.get(user, now).expect("known").state
    }

    #[test]
    fn who_polls_is_online_then_idle_then_gone() {
        let (alice, phone) = (user_id!("@alice:example.org"), device_id!("PHONE"));
        let mut board = Board::default();
        board.begin_poll(alice, phone, PresenceState::Online, START);
        assert_eq!(state(&mut board, START), PresenceState::Online);
        assert_eq!(board.take_changed(), [(1, alice.to_owned())]);
        // Polling on is no activity.
        board.begin_poll(alice, phone, PresenceState::Online, START + IDLE_AFTER);
        assert_eq!(state(&mut board, START + IDLE_AFTER), PresenceState::Unavailable);
        board.act(alice, phone, START + IDLE_AFTER);
        assert_eq!(state(&mut board, START + IDLE_AFTER), PresenceState::Online);
        board.end_poll(alice, phone, START + IDLE_AFTER);
        board.end_poll(alice, phone, START + IDLE_AFTER);
        board.take_changed();
        let gone = START + IDLE_AFTER + OFFLINE_AFTER;
        assert_eq!(state(&mut board, gone), PresenceState::Offline);
        assert_eq!(board.take_changed().len(), 1);
        board.sweep(gone + Duration::from_secs(60));
        assert!(board.take_changed().is_empty(), "only changes are told");
        board.sweep(gone + FORGOTTEN_AFTER);
        assert!(board.of.is_empty() && board.users.is_empty());
    }

    #[test]
    fn the_word_of_another_server_holds_for_a_while() {
        let bob = user_id!("@bob:elsewhere.example");
        let mut board = Board::default();
        let ago = Some(Duration::from_secs(5));
        let online = Presence { state: PresenceState::Online, last_active_ago: ago, ..Presence::default() };
        board.say(bob, online, START);
        let presence = board.get(bob, START + Duration::from_secs(10)).expect("known");
        assert_eq!(presence.last_active_ago, Some(Duration::from_secs(15)));
        assert_eq!(state_of(bob, &mut board, START + Duration::from_secs(10)), PresenceState::Online);
        assert_eq!(board.take_changed().len(), 1);
        assert_eq!(state_of(bob, &mut board, START + SAID_FOR), PresenceState::Offline);
        assert_eq!(board.take_changed().len(), 1);
    }

    #[test]
    fn who_stays_is_told_again_before_other_servers_forget() {
        let (alice, phone) = (user_id!("@alice:example.org"), device_id!("PHONE"));
        let mut board = Board::default();
        board.begin_poll(alice, phone, PresenceState::Unavailable, START);
        board.take_changed();
        board.sweep(START + TOLD_AGAIN_AFTER / 2);
        assert!(board.take_changed().is_empty());
        board.sweep(START + TOLD_AGAIN_AFTER);
        assert_eq!(board.take_changed().len(), 1);
    }

    #[test]
    fn the_best_device_counts_and_the_message_stays() {
        let (alice, phone, desk) = (user_id!("@alice:example.org"), device_id!("PHONE"), device_id!("DESK"));
        let mut board = Board::default();
        board.set(alice, phone, PresenceState::Online, Some("here".to_owned()), START);
        board.begin_poll(alice, desk, PresenceState::Unavailable, START);
        assert_eq!(state(&mut board, START), PresenceState::Online);
        board.set(alice, phone, PresenceState::Offline, Some("here".to_owned()), START);
        assert_eq!(state(&mut board, START), PresenceState::Unavailable);
        board.begin_poll(alice, desk, PresenceState::Online, START);
        let presence = board.get(alice, START + Duration::from_secs(2)).expect("known");
        assert_eq!(presence.state, PresenceState::Online);
        assert_eq!(presence.status_msg.as_deref(), Some("here"));
        assert_eq!(presence.last_active_ago, Some(Duration::from_secs(2)));
    }

    #[test]
    fn devices_have_a_bound() {
        let alice = user_id!("@alice:example.org");
        let mut board = Board::default();
        for number in 0..DEVICES_MAX * 2 {
            let device: OwnedDeviceId = format!("D{number}").into();
            board.set(alice, &device, PresenceState::Online, None, START);
        }
        assert_eq!(board.of[alice].devices.len(), DEVICES_MAX);
    }
}
