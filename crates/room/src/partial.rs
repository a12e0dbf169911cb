//! Rooms of which we know the state without its members, for a while after coming in: what may be decided meanwhile,
//! and how that ends. [SS-API §put_matrixfederationv2send_joinroomideventid] `omit_members`
//!
//! Whoever is not in such a state may be in the room or not. So an event of theirs is judged by what it rests on: the
//! membership among its auth events stands in for the one that the state lacks. Nothing is soft-failed, for that takes
//! the room's present state, and nobody's membership but our own people's is changed from here.
//!
//! Once the state before our coming in is there ([`Rooms::complete`]), everything after it is worked out and judged
//! anew, in order, as if it had been there from the start. What the rules refuse then leaves the timeline. A program
//! that ends in the middle begins again: the room stays partial until the last commit of it.

use std::{collections::HashMap, sync::Arc};

use koine_graph::{
    Event,
    auth::{self, AuthState},
    state::Edit,
};
use koine_store::{Commit, Direction, LogEntry, bytes::Bytes};
use ruma_common::{OwnedEventId, OwnedServerName, ServerName, UserId};

use crate::{
    error::ReadError,
    keep::{Member, member_of},
    log::{self, Kind},
    receive::{Given, ReceiveError, ToldState, refusal},
    registry::Rooms,
    room::{Head, Placed, Published, Room},
    state::{NewNodes, Root},
    tables::{
        ASIDE, Aside, AsideRecord, EVENT, HEAD, MEMBER, Membership, Order, PARTIAL, PartialRecord, STATE_NODE,
        TIMELINE, WHOLE,
    },
    unsettled::Unsettled,
    write::RoomAt,
};

/// Members that one command writes.
const MEMBERS_AT_ONCE: usize = 500;
/// Events that one command writes anew.
const EVENTS_AT_ONCE: usize = 500;
/// How often the end is tried while commits of the room are under way.
const QUIET_TRIES_MAX: usize = 1_000;

/// What is known of a room beside its state, while that lacks members.
#[derive(Clone, Debug)]
pub(crate) struct Partial {
    /// The event by which we came in.
    pub(crate) join: OwnedEventId,
    /// The servers in the room, as we were told.
    pub(crate) servers: Vec<OwnedServerName>,
}

impl Partial {
    pub(crate) fn record(&self) -> PartialRecord {
        let servers = self.servers.iter().map(ToString::to_string).collect();
        PartialRecord { join: self.join.to_string(), servers }
    }

    pub(crate) fn of(record: PartialRecord) -> Option<Self> {
        let servers = record.servers.into_iter().filter_map(|server| server.try_into().ok()).collect();
        Some(Self { join: record.join.try_into().ok()?, servers })
    }
}

impl Rooms {
    /// The rooms whose state lacks members.
    pub fn partial_rooms(&self) -> Result<Vec<Arc<Room>>, ReadError> {
        let view = self.core.shard.view();
        let rows = view.scan(&PARTIAL, self.core.domain(), .., Direction::Forward);
        rows.map(|row| self.room_by_no(row?.0)).collect()
    }

    /// Ends a room's being partial: `told` is the state after each event that our coming in follows. All events of it
    /// must be known, see [`keep_outliers`](Self::keep_outliers).
    pub async fn complete(&self, room: &Arc<Room>, told: Vec<ToldState>) -> Result<(), ReceiveError> {
        let Some(partial) = room.partial() else { return Ok(()) };
        let join = room.event(&partial.join)?.ok_or_else(|| crate::room::missing(&partial.join))?;
        let working_out = {
            let (room, join) = (room.clone(), join.clone());
            move || {
                let (before, nodes) = room.state_before(&join.event, &told)?;
                let members = room.state_events(before, Some("m.room.member"))?;
                let members: Vec<Member> = members.iter().filter_map(|placed| member_of(&placed.event)).collect();
                Ok::<_, ReceiveError>((before, nodes, members))
            }
        };
        let (before, nodes, members) = match tokio::task::spawn_blocking(working_out).await {
            Ok(worked_out) => worked_out?,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        self.core.store_nodes(nodes).await?;
        room.write_absent_members(members).await?;
        for _ in 0..QUIET_TRIES_MAX {
            let commit = {
                let mut head = room.head.lock();
                match room.is_quiet() {
                    true => Some(room.end_partial(&mut head, join.order, before)?),
                    false => None,
                }
            };
            match commit {
                Some(commit) => return Ok(commit.await.map(drop)?),
                None => self.core.shard.submit(|_| {}).await?,
            };
        }
        Err(ReceiveError::Unsettled)
    }
}

impl Room {
    /// What is known of the room while its state lacks members; `None` when it is whole.
    pub(crate) fn partial(&self) -> Option<Arc<Partial>> {
        self.partial.borrow().clone()
    }

    /// Whether the state lacks members.
    pub fn is_partial(&self) -> bool {
        self.partial.borrow().is_some()
    }

    /// Waits until the state is whole.
    pub async fn until_whole(&self) {
        // The sender is the room's own, so that it cannot be gone.
        let _ = self.partial.subscribe().wait_for(Option::is_none).await;
    }

    /// The event by which we came into a room that is partial since, and the servers that were in it.
    pub fn partial_since(&self) -> Option<(Event, Vec<OwnedServerName>)> {
        let partial = self.partial()?;
        let join = self.event(&partial.join).ok().flatten()?;
        Some((join.event.clone(), partial.servers.clone()))
    }

    /// Whether somebody elsewhere is in the room, or may be: while it is partial, whoever's server was in it, as long as nothing
    /// else is known of them. [MSC3902]
    pub(crate) fn may_be_joined(&self, user: &UserId) -> bool {
        if self.is_joined(user) {
            return true;
        }
        let Some(partial) = self.partial() else { return false };
        matches!(self.current("m.room.member", user.as_str()), Ok(None))
            && partial.servers.iter().any(|server| server == user.server_name())
    }

    /// The membership of its sender that an event rests on: for who looks for it in a state that lacks members.
    pub fn membership_below(&self, placed: &Placed) -> Result<Option<Arc<Placed>>, ReadError> {
        for id in placed.event.auth_events() {
            let found = self.event(id)?.filter(|found| found.event.is("m.room.member", placed.event.sender().as_str()));
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// When the state became whole, for a room that was partial: what was told of it before lacks members.
    pub fn whole_since(&self) -> Result<Option<Order>, ReadError> {
        Ok(self.core.shard.get(&WHOLE, self.core.domain(), &self.no())?)
    }

    pub(crate) fn has_partial_server(&self, server: &ServerName) -> bool {
        self.partial.borrow().as_ref().is_some_and(|partial| partial.servers.iter().any(|known| known == server))
    }

    /// No event's commit is under way.
    fn is_quiet(&self) -> bool {
        self.pending.lock().values().all(|pending| pending.aside.is_some())
    }

    /// Writes members that nothing is written of. What is written is newer: events since we came in say so.
    async fn write_absent_members(self: &Arc<Self>, mut members: Vec<Member>) -> Result<(), ReceiveError> {
        while !members.is_empty() {
            let some = members.split_off(members.len().saturating_sub(MEMBERS_AT_ONCE));
            let room = self.clone();
            let commit = self.core.shard.submit(move |txn| {
                let domain = room.core.domain();
                for member in some {
                    let is_remote = member.0.server_name() != room.core.config.server_name;
                    let key = (room.no(), is_remote, member.0.to_string());
                    if is_remote && txn.get(&MEMBER, domain, &key).ok().flatten().is_none() {
                        room.write_member_of_state(txn, member);
                    }
                }
            });
            commit.await?;
        }
        Ok(())
    }

    /// Works everything since our coming in out anew, with `before` as the state before that. Call it with the head
    /// locked and nothing under way.
    fn end_partial(self: &Arc<Self>, head: &mut Head, since: Order, before: Root) -> Result<Commit, ReceiveError> {
        let anew = self.work_out_anew(head, since, before)?;
        let (domain, no) = (self.core.domain(), self.no());
        *head = anew.head.clone();
        let order = self.published().order;
        let unsettled = Unsettled::new(self);
        for some in anew.placed.chunks(EVENTS_AT_ONCE) {
            let some = some.to_vec();
            // The last commit comes after all of them, and fails with them.
            drop(self.core.shard.submit(move |txn| {
                for placed in &some {
                    txn.put(&TIMELINE, domain, &(no, placed.order), &placed.record());
                }
            }));
        }
        let room = self.clone();
        Ok(self.core.shard.submit(move |txn| {
            for new in &anew.nodes {
                txn.put(&STATE_NODE, domain, &new.id.to_bytes(), &Bytes::from(new.bytes.clone()));
            }
            for refused in &anew.refused {
                let id = refused.event.event_id();
                txn.delete(&TIMELINE, domain, &(no, refused.order));
                txn.delete(&EVENT, domain, id.as_str());
                let json = refused.event.json().clone();
                let record = AsideRecord { room: no, why: Aside::Rejected, state_after: None, json };
                txn.put(&ASIDE, domain, id.as_str(), &record);
            }
            let locals =
                anew.members.into_iter().filter_map(|member| room.write_member_of_state(txn, member)).collect();
            txn.put(&HEAD, domain, &no, &anew.head.record(order));
            txn.delete(&PARTIAL, domain, &no);
            let entry =
                LogEntry { domain, subject: log::room_subject(no), kind: Kind::Whole as u8, body: Bytes::new() };
            let position = Order::try_from(txn.append(entry).0).expect("positions stay far below 2^63");
            txn.put(&WHOLE, domain, &no, &position);
            let Head { state, joined, invited, .. } = anew.head;
            txn.on_durable(move |position| {
                unsettled.settle();
                for placed in &anew.placed {
                    room.replace(placed);
                }
                for refused in &anew.refused {
                    room.drop_recent(refused);
                }
                room.core.nodes_stored(&anew.nodes, position);
                room.publish(Published { state, order, joined, invited }, Vec::new(), locals);
                room.partial.send_replace(None);
            });
        }))
    }

    fn work_out_anew(&self, head: &Head, since: Order, before: Root) -> Result<Anew, ReceiveError> {
        let events = self.core.timeline(self.no(), since - 1, Order::MAX - 1, usize::MAX, Direction::Forward)?;
        let head =
            Head { state: before, extremities: Vec::new(), depth: head.depth, joined: 0, invited: 0, signed: None };
        let mut anew = Anew { head, placed: Vec::new(), refused: Vec::new(), members: Vec::new(), nodes: Vec::new() };
        let mut after: HashMap<OwnedEventId, Root> = HashMap::new();
        for old in &events {
            let event = &old.event;
            let (state_before, mut nodes) = match old.order == since {
                true => (before, NewNodes::default()),
                false => self.state_before_anew(old, &after, before)?,
            };
            anew.nodes.append(&mut nodes);
            let refused = match old.order == since {
                true => None,
                false => refusal(auth::check(self.rules(), event, &RoomAt { room: self, state: state_before }))?,
            };
            if let Some(refusal) = refused {
                tracing::debug!(room_id = %self.id(), event_id = %event.event_id(), reason = %refusal, "refused at last");
                after.insert(event.event_id().to_owned(), state_before);
                anew.refused.push(old.clone());
                continue;
            }
            let mut state_after = state_before;
            if event.is_state() {
                let (root, mut nodes) = self.core.state_after(state_before, event)?;
                state_after = root;
                anew.nodes.append(&mut nodes);
            }
            after.insert(event.event_id().to_owned(), state_after);
            let extremities = &mut anew.head.extremities;
            extremities.retain(|(id, _)| !event.prev_events().contains(id));
            extremities.push((event.event_id().to_owned(), state_after));
            let (current, mut nodes) = match extremities.as_slice() {
                [_] => (state_after, NewNodes::default()),
                branches => self.resolve(&branches.iter().map(|(_, state)| *state).collect::<Vec<_>>())?,
            };
            anew.nodes.append(&mut nodes);
            anew.head.state = current;
            let placed = Placed { state_before, state_after, current, ..Placed::clone(old) };
            anew.placed.push(Arc::new(placed));
        }
        self.count_anew(&mut anew)?;
        Ok(anew)
    }

    /// The state before an event once more. Where what it follows is not known, the one that another server told
    /// stays, with the members that it may lack through other branches.
    fn state_before_anew(
        &self,
        old: &Placed,
        after: &HashMap<OwnedEventId, Root>,
        whole: Root,
    ) -> Result<(Root, NewNodes), ReceiveError> {
        let mut states = Vec::new();
        for id in old.event.prev_events() {
            match after.get(id) {
                Some(state) => states.push(*state),
                None => match self.state_after_event(id)? {
                    Some(state) => states.push(state),
                    None => return Ok(self.with_members_of(old.state_before, whole)?),
                },
            }
        }
        match states.as_slice() {
            [only] => Ok((*only, NewNodes::default())),
            several => Ok(self.resolve(several)?),
        }
    }

    /// A state with the members of another of whom it knows nothing.
    fn with_members_of(&self, state: Root, whole: Root) -> Result<(Root, NewNodes), ReadError> {
        let differences = self.core.state_differences(state, whole)?;
        let absent = differences.into_iter().filter(|found| &*found.kind == "m.room.member" && found.before.is_none());
        let edits: Vec<Edit> =
            absent.filter_map(|found| Some(Edit::set(&found.kind, &found.state_key, found.after?))).collect();
        self.core.state_with(state, edits)
    }

    /// The members joined and invited, and those of whom something else is written than the state says now.
    fn count_anew(&self, anew: &mut Anew) -> Result<(), ReadError> {
        let mut written = HashMap::new();
        let view = self.core.shard.view();
        for row in view.prefix(&MEMBER, self.core.domain(), &(self.no(),), Direction::Forward) {
            let ((_, _, user), record) = row?;
            written.insert(user, record.membership);
        }
        let mut count = |membership| match membership {
            Membership::Join => anew.head.joined += 1,
            Membership::Invite => anew.head.invited += 1,
            _ => {}
        };
        for refused in &anew.refused {
            let Some((user, _, _)) = member_of(&refused.event) else { continue };
            let id = self.core.state_get(anew.head.state, "m.room.member", user.as_str())?;
            let event = id.map(|id| self.known(&id)).transpose()?.flatten();
            let (membership, event_id) = match event.as_ref().and_then(member_of) {
                Some((_, membership, event_id)) => (membership, event_id),
                None => (Membership::Leave, refused.event.event_id().to_owned()),
            };
            written.insert(user.to_string(), membership);
            anew.members.push((user, membership, event_id));
        }
        written.into_values().for_each(&mut count);
        Ok(())
    }
}

/// A room worked out anew.
struct Anew {
    head: Head,
    placed: Vec<Arc<Placed>>,
    /// What the rules refuse, now that all is known.
    refused: Vec<Arc<Placed>>,
    /// Whose membership was what refused events said.
    members: Vec<Member>,
    nodes: NewNodes,
}

/// A state that lacks members, as an event is judged against it: the memberships that it rests on stand in for those
/// that are not there.
pub(crate) struct Provisional<'a> {
    pub(crate) at: RoomAt<'a>,
    pub(crate) given: Given<'a>,
}

impl AuthState for Provisional<'_> {
    type Error = ReadError;

    fn get(&self, kind: &str, state_key: &str) -> Result<Option<Event>, ReadError> {
        match self.at.get(kind, state_key)? {
            None if kind == "m.room.member" && self.at.room.is_partial() => self.given.get(kind, state_key),
            found => Ok(found),
        }
    }
}
