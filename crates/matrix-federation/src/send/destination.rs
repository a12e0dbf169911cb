//! One server that is told things: its queue, and the task that empties it.
//!
//! Invariants: there is at most one task for each server; the queue is in the order of the log; what is in a transaction
//! under way stays at the front of the queue until the server has answered for it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::Engine as _;
use http::Method;
use koine_account::{Outgoing, StoreUnavailable};
use koine_graph::Event;
use koine_room::{ReadError, RoomNo};
use koine_store::Position;
use parking_lot::Mutex;
use ruma_common::{OwnedServerName, ServerName, UserId};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::{
    QUEUE_MAX, UNITS_WAITING_MAX,
    lists::{Lists, News, NewsError, Told},
    presence::Presences,
};
use crate::{Federation, PeerError, answer::Writer, peers::Bounds};

/// Most events of a transaction. [SS-API §transactions]
const PDUS_MAX: usize = 50;
/// Most ephemeral units of a transaction. [SS-API §transactions]
const EDUS_MAX: usize = 100;
/// Bytes of events beyond which no more are put into a transaction.
const PDU_BYTES: usize = 1024 * 1024;
/// Units of messages to devices in one transaction.
const MESSAGES_AT_ONCE: usize = 50;
/// Bytes of them, if it is more than one.
const MESSAGE_BYTES: usize = 1024 * 1024;
/// The first wait after a failure; each one after is twice as long.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(3_600);
/// How long a server may work on a transaction.
const SEND_BOUNDS: Bounds = Bounds { bytes: 1024 * 1024, time: Duration::from_secs(120), urgent: false };
/// Rooms looked at in one go when a server catches up.
const ROOMS_PAGE: usize = 500;

pub(super) struct Destination {
    server: OwnedServerName,
    queue: Mutex<Queue>,
    back: Notify,
    /// When the first transaction was made: tells all of them from those before the last start.
    begun_ms: OnceLock<u64>,
    /// How many transactions the server has answered for since then.
    sent: AtomicU64,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<(Position, RoomNo)>,
    units: VecDeque<(Option<String>, Value)>,
    presences: Presences,
    lists: Lists,
    /// Messages to devices may wait in the store.
    messages: bool,
    /// The queue overflowed: the place in the log behind which things were dropped.
    lost_since: Option<u64>,
    runs: bool,
}

/// What is told in one transaction.
struct Parcel {
    places: Vec<(Position, RoomNo)>,
    told: Told,
    messages: Vec<Outgoing>,
    people: Presences,
    passing: Vec<Value>,
    /// All units, as JSON.
    units: Vec<String>,
}

impl Destination {
    pub(super) fn new(server: &ServerName) -> Self {
        Self {
            server: server.to_owned(),
            queue: Mutex::default(),
            back: Notify::new(),
            begun_ms: OnceLock::new(),
            sent: AtomicU64::new(0),
        }
    }

    pub(super) fn server(&self) -> &ServerName {
        &self.server
    }

    /// The place in the log behind which the server does not know everything.
    pub(super) fn behind_since(&self) -> Option<u64> {
        let queue = self.queue.lock();
        let event = queue.events.front().map(|(position, _)| position.0.saturating_sub(1));
        queue.lost_since.or_else(|| [event, queue.lists.since()].into_iter().flatten().min())
    }

    pub(super) fn wake(&self) {
        self.back.notify_waiters();
    }

    pub(super) fn add_event(self: &Arc<Self>, federation: &Federation, position: Position, room: RoomNo) {
        let mut queue = self.queue.lock();
        if queue.lost_since.is_none() {
            queue.events.push_back((position, room));
            if queue.events.len() > QUEUE_MAX {
                queue.lost_since = queue.events.front().map(|(first, _)| first.0.saturating_sub(1));
                queue.events.clear();
            }
        }
        self.run(federation, &mut queue);
    }

    pub(super) fn catch_up(self: &Arc<Self>, federation: &Federation, since: u64) {
        let mut queue = self.queue.lock();
        queue.lost_since = Some(since);
        queue.events.clear();
        self.run(federation, &mut queue);
    }

    pub(super) fn add_unit(self: &Arc<Self>, federation: &Federation, key: Option<String>, unit: &Value) {
        let mut queue = self.queue.lock();
        if key.is_some() {
            queue.units.retain(|(known, _)| *known != key);
        }
        if queue.units.len() >= UNITS_WAITING_MAX {
            queue.units.pop_front();
        }
        queue.units.push_back((key, unit.clone()));
        self.run(federation, &mut queue);
    }

    /// Something about one of our people's devices changed.
    pub(super) fn add_news(self: &Arc<Self>, federation: &Federation, user: &UserId, position: Position, news: News) {
        let mut queue = self.queue.lock();
        queue.lists.add(user, position, news);
        if queue.lists.is_full() && queue.lost_since.is_none() {
            queue.lost_since = queue.lists.since();
            queue.lists.clear();
        }
        self.run(federation, &mut queue);
    }

    /// Messages to devices may wait.
    pub(super) fn add_messages(self: &Arc<Self>, federation: &Federation) {
        let mut queue = self.queue.lock();
        queue.messages = true;
        self.run(federation, &mut queue);
    }

    pub(super) fn with_lists<T>(&self, look: impl FnOnce(&mut Lists) -> T) -> T {
        look(&mut self.queue.lock().lists)
    }

    pub(super) fn add_presence(self: &Arc<Self>, federation: &Federation, add: impl FnOnce(&mut Presences)) {
        let mut queue = self.queue.lock();
        add(&mut queue.presences);
        self.run(federation, &mut queue);
    }

    fn run(self: &Arc<Self>, federation: &Federation, queue: &mut Queue) {
        if queue.runs {
            return;
        }
        queue.runs = true;
        let (this, weak) = (self.clone(), federation.downgrade());
        tokio::spawn(async move {
            let mut wait = WAIT_MIN;
            loop {
                let Some(federation) = weak.upgrade() else { return };
                match this.send_some(&federation).await {
                    Ok(true) => wait = WAIT_MIN,
                    Ok(false) => return,
                    Err(error) => {
                        tracing::debug!(peer = %this.server, reason = %error, "a server could not be told what is new");
                        drop(federation);
                        let rest = match error {
                            PeerError::Resting(rest) => rest,
                            _ => wait,
                        };
                        let back = this.back.notified();
                        tokio::select! {
                            () = tokio::time::sleep(rest) => {}
                            () = back => {}
                        }
                        wait = (wait * 2).min(WAIT_MAX);
                    }
                }
            }
        });
    }

    /// Sends one transaction. `false` if there is nothing to send; the task has ended then.
    async fn send_some(&self, federation: &Federation) -> Result<bool, PeerError> {
        if self.queue.lock().lost_since.is_some() {
            self.send_newest(federation).await?;
            return Ok(true);
        }
        let Some(parcel) = self.gather(federation)? else { return Ok(false) };
        let first = parcel.places.first().map_or(0, |(position, _)| position.0);
        let sending = async {
            let (events, taken) = events_at(federation, &parcel.places)?;
            self.transact(federation, first, &events, &parcel.units).await?;
            Ok(taken)
        };
        let taken = match sending.await {
            Ok(taken) => taken,
            Err(error) => {
                let mut queue = self.queue.lock();
                queue.presences.put_back(parcel.people);
                queue.lists.put_back(parcel.told);
                return Err(error);
            }
        };
        let written: Vec<u64> = parcel.messages.iter().map(|message| message.position).collect();
        // What costs a commit waits for one that has something to say: the next transaction stands behind this.
        if !written.is_empty()
            && let Err(error) = federation.accounts().outgoing_done(&self.server, written).await
        {
            tracing::warn!(peer = %self.server, reason = %error, "messages that were sent may be sent again");
        }
        let mut queue = self.queue.lock();
        // The queue may have overflown meanwhile: then what is in it now is not what was sent.
        let still = queue.events.front().map(|(position, _)| position.0) == Some(first);
        if still {
            queue.events.drain(..taken);
        }
        queue.lists.told();
        for unit in &parcel.passing {
            if let Some(at) = queue.units.iter().position(|(_, known)| known == unit) {
                queue.units.remove(at);
            }
        }
        Ok(true)
    }

    /// What goes into the next transaction; nothing if nothing waits, and the task ends then.
    ///
    /// Devices come before messages: who reads a message wants to know the device that sent it.
    fn gather(&self, federation: &Federation) -> Result<Option<Parcel>, PeerError> {
        let unreadable = |error: StoreUnavailable| PeerError::Unusable(error.to_string());
        // Not after reading: what is queued in between would wait for the next.
        let messages = std::mem::take(&mut self.queue.lock().messages);
        let messages = match messages {
            true => federation.accounts().outgoing(&self.server, MESSAGES_AT_ONCE, MESSAGE_BYTES),
            false => Ok(Vec::new()),
        };
        let messages = messages.inspect_err(|_| self.queue.lock().messages = true).map_err(unreadable)?;
        let told = self.lists_to_tell(federation).map_err(unreadable)?;
        let mut queue = self.queue.lock();
        queue.messages |= !messages.is_empty();
        let is_idle = queue.events.is_empty() && queue.units.is_empty() && queue.presences.is_empty();
        if is_idle && told.units.is_empty() && queue.lists.is_empty() && !queue.messages {
            queue.lists.told();
            queue.runs = false;
            return Ok(None);
        }
        let mut units = told.units.clone();
        let messages: Vec<Outgoing> = messages.into_iter().take(EDUS_MAX.saturating_sub(units.len() + 1)).collect();
        for message in &messages {
            let content = std::str::from_utf8(&message.content).unwrap_or("{}");
            units.push(format!(r#"{{"edu_type":"m.direct_to_device","content":{content}}}"#));
        }
        let people = queue.presences.take_some();
        units.extend(people.unit().map(|unit| unit.to_string()));
        let free = EDUS_MAX.saturating_sub(units.len());
        let passing: Vec<Value> = queue.units.iter().take(free).map(|(_, unit)| unit.clone()).collect();
        units.extend(passing.iter().map(ToString::to_string));
        let places = queue.events.iter().take(PDUS_MAX).copied().collect();
        Ok(Some(Parcel { places, told, messages, people, passing, units }))
    }

    /// The newest events of every room that is shared with the server, after it was away for long.
    async fn send_newest(&self, federation: &Federation) -> Result<(), PeerError> {
        let unreadable = |error: ReadError| PeerError::Unusable(error.to_string());
        let since = self.queue.lock().lost_since.unwrap_or(0);
        let news = federation.news_since(&self.server, Position(since));
        let news = news.map_err(|error: NewsError| PeerError::Unusable(error.to_string()))?;
        let mut after = 0;
        loop {
            let rooms = federation.rooms().list(after, ROOMS_PAGE).map_err(unreadable)?;
            let Some((last, _)) = rooms.last() else { break };
            after = *last;
            let mut events: Vec<Event> = Vec::new();
            for (no, _) in rooms {
                let room = federation.rooms().room_by_no(no).map_err(unreadable)?;
                if !room.is_attended() || !room.has_server(&self.server).map_err(unreadable)? {
                    continue;
                }
                for id in room.extremities() {
                    events.extend(room.event(&id).map_err(unreadable)?.map(|placed| placed.event.clone()));
                }
            }
            for some in events.chunks(PDUS_MAX) {
                self.transact(federation, 0, some, &[]).await?;
            }
        }
        let mut queue = self.queue.lock();
        queue.lost_since = None;
        for (user, news) in news {
            queue.lists.add(&user, Position(since + 1), news);
        }
        Ok(())
    }

    /// [SS-API §put_matrixfederationv1sendtxnid]
    async fn transact(
        &self,
        federation: &Federation,
        first: u64,
        events: &[Event],
        units: &[String],
    ) -> Result<(), PeerError> {
        if events.is_empty() && units.is_empty() {
            return Ok(());
        }
        // Told again it has the same name if its content is the same, and another one if not. What was told is never told
        // again: the same content, as of somebody who types again, is something new.
        let mut hash = Sha256::new();
        hash.update(self.begun_ms.get_or_init(|| federation.now_ms()).to_be_bytes());
        hash.update(self.sent.load(Ordering::Relaxed).to_be_bytes());
        for part in events.iter().map(|event| event.event_id().as_bytes()).chain(units.iter().map(String::as_bytes)) {
            hash.update(part);
            hash.update([0]);
        }
        let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&hash.finalize()[..12]);
        let made = events.last().map_or_else(|| federation.now(), Event::origin_server_ts);
        let body = Writer::new()
            .value("origin", &json!(federation.server_name()))
            .value("origin_server_ts", &json!(made))
            .events("pdus", events)
            .list("edus", units.iter().map(String::as_bytes))
            .bytes();
        let path = format!("/_matrix/federation/v1/send/{first}-{hash}");
        let answer = federation.ask_bytes(&self.server, (Method::PUT, &path), Some(&body), SEND_BOUNDS).await?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        if let Ok(answer) = serde_json::from_slice::<Value>(&answer) {
            for (id, result) in answer["pdus"].as_object().into_iter().flatten() {
                if let Some(reason) = result["error"].as_str() {
                    tracing::debug!(peer = %self.server, event_id = %id, %reason, "a server did not take an event");
                }
            }
        }
        Ok(())
    }
}

/// The events at these places, as far as they go into one transaction, and how many places that are. Those of rooms that
/// are gone are left out.
fn events_at(federation: &Federation, places: &[(Position, RoomNo)]) -> Result<(Vec<Event>, usize), PeerError> {
    let unreadable = |error: ReadError| PeerError::Unusable(error.to_string());
    let (mut events, mut bytes, mut taken) = (Vec::with_capacity(places.len()), 0, 0);
    for (position, no) in places {
        if bytes > PDU_BYTES {
            break;
        }
        taken += 1;
        let room = match federation.rooms().room_by_no(*no) {
            Ok(room) => room,
            Err(ReadError::NoSuchRoom) => continue,
            Err(error) => return Err(unreadable(error)),
        };
        let order = i64::try_from(position.0).unwrap_or(i64::MAX);
        if let Some(placed) = room.event_at(order).map_err(unreadable)? {
            bytes += placed.event.json().len();
            events.push(placed.event.clone());
        }
    }
    Ok((events, taken))
}
