//! Coming into rooms that live on other servers, and being asked into them. [SS-API §joining-rooms] [SS-API
//! §inviting-to-a-room]

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use koine_graph::{
    Event,
    auth::{self, Refusal},
    state::Edit,
};
use koine_store::{Commit, Direction, LogEntry, bytes::Bytes};
use ruma_common::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId, UserId};
use serde_json::value::RawValue;

use crate::{
    core::Core,
    error::ReadError,
    log::{self, Kind},
    receive::{Given, ReceiveError},
    registry::Rooms,
    room::{Head, Published, Room},
    state::{NewNodes, Root},
    tables::{
        ASIDE, Aside, AsideRecord, EVENT, HEAD, MEMBER, MEMBERSHIP, MemberRecord, Membership, MembershipRecord, Order,
        Place, ROOM, ROOM_ID, RoomRecord, SERVER, SHOWN, TIMELINE,
    },
    write::RoomAt,
};

/// Bytes of events that one command writes when many come at once.
const CHUNK_BYTES: usize = 2 * 1024 * 1024;

/// What a server that is in a room tells one that joins. All events are parsed, and their signatures checked.
#[derive(Debug)]
pub struct Entry {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// The membership event by which somebody of ours comes in.
    pub event: Event,
    /// The state before it.
    pub state: Vec<Event>,
    /// Whatever allows the state.
    pub auth_chain: Vec<Event>,
}

impl Rooms {
    /// Comes into a room through another server.
    ///
    /// # Errors
    /// `Refused` when the rules do not allow the event in the state that the other server told.
    pub async fn enter(&self, entry: Entry) -> Result<(), EnterError> {
        let room = self.known_or_new(&entry.room_id, &entry.version)?;
        let Entry { event, state, mut auth_chain, .. } = entry;
        let ids: Vec<OwnedEventId> = state.iter().map(|event| event.event_id().to_owned()).collect();
        auth_chain.extend(state);
        for commit in room.keep_outliers(auth_chain)? {
            commit.await.map_err(ReceiveError::from)?;
        }
        let commit = {
            let mut head = room.head.lock();
            let mut holding = Vec::with_capacity(ids.len());
            for id in &ids {
                match room.known(id).map_err(ReceiveError::from)? {
                    Some(event) if !room.is_rejected(id).map_err(ReceiveError::from)? => holding.push(event),
                    Some(_) => {}
                    None => return Err(ReceiveError::Missing { prev: Vec::new(), auth: vec![id.clone()] }.into()),
                }
            }
            let (before, mut nodes) = self.core.state_made_of(&holding).map_err(ReceiveError::from)?;
            let at = RoomAt { room: &room, state: before };
            if let Err(error) = auth::check(room.rules(), &event, &at) {
                return Err(match error.into_refusal() {
                    Ok(refusal) => EnterError::Refused(refusal),
                    Err(error) => ReceiveError::from(error).into(),
                });
            }
            let members: Vec<(OwnedUserId, Membership, OwnedEventId)> = holding.iter().filter_map(member_of).collect();
            let count = |wanted| members.iter().filter(|(_, membership, _)| *membership == wanted).count() as u64;
            let mut new = Head {
                state: before,
                extremities: Vec::new(),
                depth: event.depth(),
                joined: count(Membership::Join),
                invited: count(Membership::Invite),
            };
            let mut staged = room.place(&mut new, event, before).map_err(ReceiveError::from)?;
            staged.add_nodes(&mut nodes);
            let known = room.known_before().map_err(ReceiveError::from)?;
            *head = new.clone();
            self.adopt(&room);
            room.commit_after(&new, vec![staged], {
                let room = room.clone();
                move |txn| {
                    room.write_itself(txn);
                    room.write_members(txn, &known, &members);
                }
            })
        };
        commit.await.map_err(ReceiveError::from)?;
        Ok(())
    }

    /// Somebody of ours is asked into a room that nobody of ours is in. `shown` is what the inviting server tells of
    /// the room, stripped. [SS-API §put_matrixfederationv2inviteroomideventid]
    pub async fn invited(
        &self,
        version: &RoomVersionId,
        event: Event,
        shown: Vec<Box<RawValue>>,
    ) -> Result<(), EnterError> {
        self.outside(version, event, Some(shown)).await
    }

    /// A membership of somebody of ours changed in a room that nobody of ours is in: an invitation refused or taken
    /// back, a knock answered.
    pub async fn changed_outside(&self, version: &RoomVersionId, event: Event) -> Result<(), EnterError> {
        self.outside(version, event, None).await
    }

    async fn outside(
        &self,
        version: &RoomVersionId,
        event: Event,
        shown: Option<Vec<Box<RawValue>>>,
    ) -> Result<(), EnterError> {
        let room = self.known_or_new(&event.room_id().to_owned(), version)?;
        let Some((user, membership, _)) = member_of(&event) else { return Err(EnterError::NoMembership) };
        let commit = {
            let head = room.head.lock();
            self.adopt(&room);
            let (this, head) = (room.clone(), head.clone());
            let (domain, no) = (self.core.domain(), room.no());
            self.core.shard.submit(move |txn| {
                this.write_itself(txn);
                let body = Bytes::copy_from_slice(user.as_bytes());
                let entry = LogEntry { domain, subject: log::room_subject(no), kind: Kind::Event as u8, body };
                let order = Order::try_from(txn.append(entry).0).expect("positions stay far below 2^63");
                let placed = Arc::new(crate::room::Placed {
                    order,
                    event: event.clone(),
                    state_before: Root::EMPTY,
                    state_after: Root::EMPTY,
                    current: head.state,
                    redacted_by: None,
                    replaces: None,
                    txn: None,
                });
                txn.put(&TIMELINE, domain, &(no, order), &placed.record());
                txn.put(&EVENT, domain, event.event_id().as_str(), &Place { room: no, order });
                txn.put(&MEMBER, domain, &(no, false, user.to_string()), &MemberRecord { membership, order });
                let record = this.write_membership(txn, &user, membership, order, event.event_id());
                if let Some(shown) = shown {
                    let shown = shown.iter().map(|event| event.get()).collect::<Vec<_>>().join(",");
                    txn.put(&SHOWN, domain, &(no, user.to_string()), &format!("[{shown}]"));
                }
                txn.put(&HEAD, domain, &no, &head.record(order));
                let published = Published { order, ..Published::clone(&this.published()) };
                txn.on_durable(move |_| this.publish(published, vec![placed], vec![(user, record)]));
            })
        };
        commit.await.map_err(ReceiveError::from)?;
        Ok(())
    }

    /// The room, made anew under this version when it is not known. It is in nobody's sight until a commit writes it.
    fn known_or_new(&self, id: &OwnedRoomId, version: &RoomVersionId) -> Result<Arc<Room>, EnterError> {
        match self.room(id) {
            Ok(room) if room.version() == version => return Ok(room),
            Ok(room) => return Err(EnterError::OtherVersion(room.version().to_string())),
            Err(ReadError::NoSuchRoom) => {}
            Err(error) => return Err(ReceiveError::from(error).into()),
        }
        let rules = koine_graph::rules(version).ok_or_else(|| EnterError::OtherVersion(version.to_string()))?;
        let head = Head { state: Root::EMPTY, extremities: Vec::new(), depth: 0, joined: 0, invited: 0 };
        let place = (self.next_no(), id.clone());
        let room = Room::new(self.core.clone(), place, (version.clone(), rules), head, 0, HashMap::new());
        room.receipts_newest.store(0, std::sync::atomic::Ordering::Relaxed);
        Ok(Arc::new(room))
    }
}

/// Why a room could not be entered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnterError {
    /// The rules do not allow the event in the state that the other server told.
    #[error("the room's own state does not allow this: {0}")]
    Refused(Refusal),
    /// The room is known, or told, to have another version.
    #[error("the room has version {0}")]
    OtherVersion(String),
    /// The event is no membership event.
    #[error("the event is no membership event")]
    NoMembership,
    /// As when receiving events.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
}

/// See [`Room::known_before`].
struct KnownBefore {
    users: Vec<String>,
    servers: Vec<String>,
}

fn member_of(event: &Event) -> Option<(OwnedUserId, Membership, OwnedEventId)> {
    let user = event.state_key().filter(|_| event.kind() == "m.room.member")?;
    let user = OwnedUserId::try_from(user).ok()?;
    Some((user, event.membership()?.into(), event.event_id().to_owned()))
}

impl Room {
    /// See [`Rooms::keep_outliers`]. The commits are in order; the events can be read from now on.
    pub(crate) fn keep_outliers(self: &Arc<Self>, events: Vec<Event>) -> Result<Vec<Commit>, ReceiveError> {
        let mut new = Vec::with_capacity(events.len());
        let mut seen = HashSet::with_capacity(events.len());
        for event in events {
            if event.room_id() != self.id() {
                return Err(ReceiveError::OtherRoom(event.room_id().to_string()));
            }
            if seen.insert(event.event_id().to_owned()) && self.known(event.event_id())?.is_none() {
                new.push(event);
            }
        }
        let mut commits = Vec::new();
        let mut chunk = Vec::new();
        let mut bytes = 0;
        for event in in_order_of_auth(new) {
            let why = match self.is_allowed_by_its_auth_events(&event)? {
                Some(true) => Aside::Outlier,
                Some(false) => Aside::Rejected,
                // Without what allows it there is no verdict, and what has none is not kept: asked for the event later,
                // we say that it is missing.
                None => continue,
            };
            self.remember_pending(&event, why);
            bytes += event.json().len();
            chunk.push((event, why));
            if bytes > CHUNK_BYTES {
                commits.push(self.commit_outliers(std::mem::take(&mut chunk)));
                bytes = 0;
            }
        }
        if !chunk.is_empty() {
            commits.push(self.commit_outliers(chunk));
        }
        Ok(commits)
    }

    /// `None` where an auth event is not known.
    fn is_allowed_by_its_auth_events(&self, event: &Event) -> Result<Option<bool>, ReceiveError> {
        let mut given = Vec::with_capacity(event.auth_events().len());
        for id in event.auth_events() {
            match self.known(id)? {
                Some(event) => given.push(event),
                None => return Ok(None),
            }
        }
        let rejected = |id: &EventId| self.is_rejected(id).unwrap_or(true);
        if auth::check_auth_events(self.rules(), event, &given, rejected).is_err() {
            return Ok(Some(false));
        }
        match auth::check(self.rules(), event, &Given { room: self, events: &given }) {
            Ok(()) => Ok(Some(true)),
            Err(error) => error.into_refusal().map(|_| Some(false)).map_err(ReceiveError::from),
        }
    }

    fn commit_outliers(self: &Arc<Self>, events: Vec<(Event, Aside)>) -> Commit {
        let (room, domain) = (self.clone(), self.core.domain());
        self.core.shard.submit(move |txn| {
            for (event, why) in &events {
                let record = AsideRecord { room: room.no(), why: *why, state_after: None, json: event.json().clone() };
                txn.put(&ASIDE, domain, event.event_id().as_str(), &record);
            }
            txn.on_durable(move |_| {
                let mut pending = room.pending.lock();
                for (event, _) in &events {
                    // What came into the timeline meanwhile is not ours to take out.
                    if pending.get(event.event_id()).is_some_and(|known| known.aside.is_some()) {
                        pending.remove(event.event_id());
                    }
                }
            });
        })
    }

    /// Remote people and servers of whom rows are left from an earlier stay.
    fn known_before(&self) -> Result<KnownBefore, ReadError> {
        let (view, domain) = (self.core.shard.view(), self.core.domain());
        let users = view.prefix(&MEMBER, domain, &(self.no(), true), Direction::Forward);
        let users = users.map(|row| row.map(|((_, _, user), _)| user)).collect::<Result<_, _>>()?;
        let servers = view.prefix(&SERVER, domain, &(self.no(),), Direction::Forward);
        let servers = servers.map(|row| row.map(|((_, server), _)| server)).collect::<Result<_, _>>()?;
        Ok(KnownBefore { users, servers })
    }

    /// The rows by which the registry finds the room.
    fn write_itself(&self, txn: &mut koine_store::Txn) {
        let domain = self.core.domain();
        let record = RoomRecord { no: self.no(), version: self.version().to_string() };
        txn.put(&ROOM, domain, self.id().as_str(), &record);
        txn.put(&ROOM_ID, domain, &self.no(), &self.id().to_string());
    }

    /// The members of a room that we come into, in place of whatever was known of them.
    fn write_members(
        &self,
        txn: &mut koine_store::Txn,
        known: &KnownBefore,
        members: &[(OwnedUserId, Membership, OwnedEventId)],
    ) {
        let (domain, no) = (self.core.domain(), self.no());
        for user in &known.users {
            txn.delete(&MEMBER, domain, &(no, true, user.clone()));
        }
        for server in &known.servers {
            txn.delete(&SERVER, domain, &(no, server.clone()));
        }
        let mut servers: HashMap<&str, u64> = HashMap::new();
        for (user, membership, event_id) in members {
            let is_local = user.server_name() == self.core.config.server_name;
            let order = crate::tables::OUTLIER;
            if *membership == Membership::Join {
                *servers.entry(user.server_name().as_str()).or_default() += 1;
            }
            txn.put(
                &MEMBER,
                domain,
                &(no, !is_local, user.to_string()),
                &MemberRecord { membership: *membership, order },
            );
            if is_local {
                self.keep_membership(txn, user, *membership, event_id);
            }
        }
        for (server, joined) in servers {
            txn.put(&SERVER, domain, &(no, server.to_owned()), &joined);
        }
    }

    /// What the state told of somebody of ours, if we did not know better.
    fn keep_membership(&self, txn: &mut koine_store::Txn, user: &UserId, membership: Membership, event_id: &EventId) {
        let (domain, key) = (self.core.domain(), (user.to_string(), self.no()));
        if txn.get(&MEMBERSHIP, domain, &key).ok().flatten().is_some_and(|known| known.membership == membership) {
            return;
        }
        let order = Order::try_from(txn.position().0).expect("positions stay far below 2^63");
        let record = MembershipRecord {
            membership,
            order,
            since: order,
            event_id: event_id.to_string(),
            forgotten: false,
            joined_at: (membership == Membership::Join).then_some(order),
            left_at: None,
        };
        txn.put(&MEMBERSHIP, domain, &key, &record);
    }
}

impl Core {
    /// The state in which these events hold, and its nodes.
    pub(crate) fn state_made_of(&self, events: &[Event]) -> Result<(Root, NewNodes), ReadError> {
        let edits = events
            .iter()
            .filter_map(|event| Some(Edit::set(event.kind(), event.state_key()?, event.event_id().to_owned())));
        self.state_with(Root::EMPTY, edits)
    }
}

/// Events so that each comes after those of its auth events that are among them. What goes in a ring comes last.
fn in_order_of_auth(mut events: Vec<Event>) -> Vec<Event> {
    // Since version 12 everything rests on the create event without naming it.
    events.sort_by_key(|event| event.kind() != "m.room.create");
    let mut waiting: HashMap<OwnedEventId, Event> =
        events.iter().map(|event| (event.event_id().to_owned(), event.clone())).collect();
    let mut sorted = Vec::with_capacity(events.len());
    let mut stack: Vec<(Event, usize)> = Vec::new();
    for event in events {
        if waiting.remove(event.event_id()).is_none() {
            continue;
        }
        stack.push((event, 0));
        while let Some((event, next)) = stack.last_mut() {
            match event.auth_events().get(*next) {
                Some(id) => {
                    *next += 1;
                    if let Some(before) = waiting.remove(id) {
                        stack.push((before, 0));
                    }
                }
                None => sorted.extend(stack.pop().map(|(event, _)| event)),
            }
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, auth: &[&str]) -> Event {
        let rules = koine_graph::rules(&RoomVersionId::V1).expect("known");
        let auth: Vec<_> = auth.iter().map(|id| serde_json::json!([id, {}])).collect();
        let json = serde_json::json!({
            "event_id": id, "room_id": "!r:x", "sender": "@a:x", "type": "m", "content": {}, "depth": 1,
            "origin_server_ts": 1, "prev_events": [], "auth_events": auth, "hashes": { "sha256": "" }, "signatures": {}
        });
        Event::parse(&rules, json.to_string().as_bytes()).expect("an event")
    }

    #[test]
    fn events_come_after_what_allows_them_also_in_a_ring() {
        let events = vec![
            event("$c:x", &["$b:x"]),
            event("$b:x", &["$a:x"]),
            event("$a:x", &[]),
            event("$r:x", &["$s:x"]),
            event("$s:x", &["$r:x"]),
        ];
        let sorted = in_order_of_auth(events);
        let ids: Vec<_> = sorted.iter().map(|event| event.event_id().as_str()).collect();
        assert_eq!(ids, ["$a:x", "$b:x", "$c:x", "$s:x", "$r:x"]);
    }
}
