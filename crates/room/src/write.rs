//! The one way into a room: stage an event against the writer's head, then commit what was staged.
//!
//! Staging is pure computation under the room's head lock: select auth events, hash, sign, check the rules, work out
//! the next state. Committing hands the rows to the shard's writer and lets go of the lock at once, so that the next
//! command builds on this one while the disk is still busy; nothing is acknowledged or shown before the sync.
//! [SS-API §pdus] [RV11 §authorization-rules]

use std::sync::Arc;

use koine_graph::{Draft, Event, auth};
use koine_store::{Commit, LogEntry, Txn, bytes::Bytes};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, UserId};
use serde_json::value::RawValue;

use crate::{
    error::{CommandError, ReadError},
    keep::Member,
    log::{self, Kind},
    relations,
    retention::RETENTION_TYPE,
    room::{Head, Pending, Placed, Published, Room},
    state::{NewNodes, Root, root_bytes},
    tables::{
        ASIDE, Aside, EVENT, HEAD, HeadRecord, MEMBER, MEMBERSHIP, MemberRecord, Membership, MembershipRecord, OUTLIER,
        Order, PARENT, Place, REDACTION, RELATION, REMOTE_ROOM, RETENTION, SERVER, STATE_NODE, TIMELINE, TXN,
    },
    unsettled::Unsettled,
};

/// Most events that a new event refers to; further extremities wait for the next one. [SS-API §pdus]
const PREV_EVENTS_MAX: usize = 20;

/// Extremities of a room beyond which those that say nothing of their own about its state are let go. Before that they
/// are tied together, unless nobody of ours may. [SS-API §pdus]
const EXTREMITIES_KEPT: usize = 100;
/// Extremities beyond which the oldest is let go whatever it says.
const EXTREMITIES_KEPT_MAX: usize = 500;

/// Lets an extremity go where there are too many: the work for each event, and what is written for it, grow with them.
/// Of two with the same state one is enough.
fn bound(extremities: &mut Vec<(OwnedEventId, Root)>) {
    if extremities.len() <= EXTREMITIES_KEPT {
        return;
    }
    let is_twin = |at: usize, state: &Root| extremities.iter().skip(at + 1).any(|(_, other)| other == state);
    let twin = extremities.iter().enumerate().find(|(at, (_, state))| is_twin(*at, state)).map(|(at, _)| at);
    match twin {
        Some(at) => drop(extremities.remove(at)),
        None if extremities.len() > EXTREMITIES_KEPT_MAX => drop(extremities.remove(0)),
        None => {}
    }
}

/// An event that somebody here wants to add.
pub(crate) struct NewEvent<'a> {
    pub(crate) sender: &'a UserId,
    pub(crate) kind: &'a str,
    pub(crate) state_key: Option<&'a str>,
    pub(crate) content: &'a RawValue,
    pub(crate) redacts: Option<OwnedEventId>,
    pub(crate) txn: Option<TxnKey>,
    /// When it is said to be from; now, if that is not said.
    pub(crate) sent_at: Option<MilliSecondsSinceUnixEpoch>,
}

impl<'a> NewEvent<'a> {
    pub(crate) fn state(sender: &'a UserId, kind: &'a str, state_key: &'a str, content: &'a RawValue) -> Self {
        Self { sender, kind, state_key: Some(state_key), content, redacts: None, txn: None, sent_at: None }
    }
}

/// Which request of which device an event comes from. [CS-API §transaction-identifiers]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TxnKey {
    pub(crate) user: String,
    pub(crate) device: String,
    /// What the transaction id is unique within: the request's kind, room and event type.
    pub(crate) request: String,
    pub(crate) id: String,
}

/// An event ready to be committed.
pub(crate) struct Staged {
    pub(crate) event: Event,
    state_before: Root,
    state_after: Root,
    current: Root,
    nodes: NewNodes,
    replaces: Option<OwnedEventId>,
    members: Vec<MemberChange>,
    /// It was known before, as part of a state.
    pub(crate) was_outlier: bool,
    /// Events that refer to it came before it.
    pub(crate) is_parent: bool,
    /// It redacts an event that is not here yet.
    pub(crate) redacts_later: Option<OwnedEventId>,
    /// The redaction that was here before it: it comes in emptied.
    pub(crate) redacted_by: Option<OwnedEventId>,
    /// The event that this one empties, in its new form.
    pub(crate) redacted: Option<Redacted>,
    txn: Option<TxnKey>,
}

impl Staged {
    /// More nodes to store in the same commit.
    pub(crate) fn add_nodes(&mut self, nodes: &mut NewNodes) {
        self.nodes.append(nodes);
    }
}

/// A change of somebody's membership in the current state.
struct MemberChange {
    user: OwnedUserId,
    before: Option<Membership>,
    membership: Membership,
    /// The membership event that holds now.
    event_id: OwnedEventId,
}

pub(crate) struct Redacted {
    placed: Arc<Placed>,
    /// The relation that goes with the content.
    relation: Option<OwnedEventId>,
}

impl Room {
    /// Checks `new` against the room as the writer sees it and moves `head` past it. On an error `head` is as it was.
    pub(crate) fn stage(&self, head: &mut Head, new: NewEvent<'_>) -> Result<Staged, CommandError> {
        if self.is_broken() {
            return Err(CommandError::Unsettled);
        }
        // Whether somebody else may be let in, or put out, the members say.
        if self.is_partial() && new.kind == "m.room.member" && new.state_key != Some(new.sender.as_str()) {
            return Err(CommandError::Partial);
        }
        let policy = self.policy(head, new.kind, new.state_key)?;
        let signed = head.signed.take().filter(|signed| new.is(signed));
        let signed = signed.filter(|signed| policy.as_ref().is_some_and(|policy| policy.has_signed(self, signed)));
        let is_undecided = policy.is_some() && signed.is_none();
        let (event, state, mut nodes) = match signed {
            // The room may have gone on while it was signed: then it stands on a branch of its own.
            Some(signed) => {
                let (state, nodes) = self.state_before(&signed, &[])?;
                self.check_rules(&signed, head.state)?;
                (signed, state, nodes)
            }
            None => {
                let newest = head.extremities.len().saturating_sub(PREV_EVENTS_MAX);
                let (state, nodes) = self.state_over(head, newest)?;
                let auth_events = self.auth_events_for(state, &new)?;
                let draft = self.unsigned_draft(head, &new, auth_events);
                (self.core.seal(draft, self.rules(), self)?, state, nodes)
            }
        };
        self.check_rules(&event, state)?;
        if is_undecided {
            return Err(CommandError::Undecided(Box::new(event)));
        }

        let mut staged = self.place(head, event, state)?;
        staged.nodes.append(&mut nodes);
        staged.txn = new.txn;
        if new.kind == "m.room.redaction"
            && let Some(target) = &new.redacts
        {
            match self.event(target)?.filter(|target| !target.is_outlier()) {
                Some(_) => staged.redacted = self.redact_target(&staged.event, target)?,
                None => staged.redacts_later = Some(target.clone()),
            }
        }
        Ok(staged)
    }

    fn check_rules(&self, event: &Event, state: Root) -> Result<(), CommandError> {
        auth::check(self.rules(), event, &RoomAt { room: self, state })
            .map_err(|error| error.into_refusal().map_or_else(CommandError::from, CommandError::from))
    }

    /// The event that `new` becomes at the end of the graph.
    pub(crate) fn unsigned_draft(&self, head: &Head, new: &NewEvent<'_>, auth_events: Vec<OwnedEventId>) -> Draft {
        let newest = head.extremities.len().saturating_sub(PREV_EVENTS_MAX);
        let names_room = new.kind == "m.room.create"
            && head.extremities.is_empty()
            && self.rules().authorization.room_create_event_id_as_room_id;
        Draft {
            room_id: (!names_room).then(|| self.id().to_owned()),
            sender: new.sender.to_owned(),
            kind: new.kind.to_owned(),
            state_key: new.state_key.map(ToOwned::to_owned),
            content: new.content.to_owned(),
            redacts: new.redacts.clone(),
            prev_events: head.extremities.iter().skip(newest).map(|(id, _)| id.clone()).collect(),
            auth_events,
            depth: head.depth + 1,
            origin_server_ts: new.sent_at.unwrap_or_else(self.core.config.now),
        }
    }

    /// The events of `state` that can allow `new`.
    pub(crate) fn auth_events_for(&self, state: Root, new: &NewEvent<'_>) -> Result<Vec<OwnedEventId>, ReadError> {
        let needed = auth::needed(self.rules(), new.kind, new.sender, new.state_key, new.content);
        let found = needed.iter().map(|(kind, state_key)| self.core.state_get(state, kind, state_key));
        found.filter_map(Result::transpose).collect()
    }

    /// The state that an event has before it which follows the extremities from `newest` on: the current one, unless
    /// there are more extremities than one event can name.
    fn state_over(&self, head: &Head, newest: usize) -> Result<(Root, NewNodes), CommandError> {
        match head.extremities.get(newest..) {
            Some(some) if newest > 0 => {
                let states: Vec<Root> = some.iter().map(|(_, state)| *state).collect();
                Ok(self.resolve(&states)?)
            }
            _ => Ok((head.state, NewNodes::default())),
        }
    }

    /// Works out what an accepted event, which has `state_before` before it, does to the head, and moves the head.
    pub(crate) fn place(&self, head: &mut Head, event: Event, state_before: Root) -> Result<Staged, CommandError> {
        let mut nodes = NewNodes::default();
        let mut state_after = state_before;
        if event.is_state() {
            let (root, mut new) = self.core.state_after(state_before, &event)?;
            state_after = root;
            nodes.append(&mut new);
        }
        let mut extremities: Vec<(OwnedEventId, Root)> = head.extremities.clone();
        extremities.retain(|(id, _)| !event.prev_events().iter().any(|prev| prev == id));
        extremities.push((event.event_id().to_owned(), state_after));
        bound(&mut extremities);
        self.pending.lock().insert(
            event.event_id().to_owned(),
            Pending { event: event.clone(), state_after: Some(state_after), aside: None },
        );
        let (current, mut new) = match extremities.as_slice() {
            [_] => (state_after, NewNodes::default()),
            branches => self.resolve(&branches.iter().map(|(_, state)| *state).collect::<Vec<_>>())?,
        };
        nodes.append(&mut new);
        let replaces = match event.state_key() {
            Some(state_key) => self.core.state_get(head.state, event.kind(), state_key)?,
            None => None,
        };
        let members = self.member_changes(head.state, current, &event)?;
        for change in &members {
            head.count(change.before, change.membership);
        }
        head.state = current;
        head.extremities = extremities;
        head.depth = head.depth.max(event.depth());
        Ok(Staged {
            event,
            state_before,
            state_after,
            current,
            nodes,
            replaces,
            members,
            was_outlier: false,
            is_parent: false,
            redacts_later: None,
            redacted_by: None,
            redacted: None,
            txn: None,
        })
    }

    /// Who came, went or is called otherwise when the current state goes from `before` to `after`, which `event` made.
    fn member_changes(&self, before: Root, after: Root, event: &Event) -> Result<Vec<MemberChange>, CommandError> {
        if before == after {
            return Ok(Vec::new());
        }
        let mut changes = Vec::new();
        for difference in self.core.state_differences(before, after)? {
            if &*difference.kind != "m.room.member" {
                continue;
            }
            let Ok(user) = OwnedUserId::try_from(&*difference.state_key) else { continue };
            let before = match &difference.before {
                Some(id) => self.membership_of(id)?,
                None => None,
            };
            let membership = match &difference.after {
                Some(id) if id == event.event_id() => event.membership().map(Membership::from),
                Some(id) => self.membership_of(id)?,
                None => None,
            };
            let event_id = difference.after.unwrap_or_else(|| event.event_id().to_owned());
            changes.push(MemberChange { user, before, membership: membership.unwrap_or(Membership::Leave), event_id });
        }
        Ok(changes)
    }

    fn membership_of(&self, id: &OwnedEventId) -> Result<Option<Membership>, ReadError> {
        let event = self.known(id)?;
        Ok(event.and_then(|event| event.membership()).map(Membership::from))
    }

    /// Makes an event that will stand aside known to what is judged after it.
    pub(crate) fn remember_pending(&self, event: &Event, why: Aside) {
        let pending = Pending { event: event.clone(), state_after: None, aside: Some(why) };
        self.pending.lock().insert(event.event_id().to_owned(), pending);
    }

    /// Makes a staged event known to what is staged after it, where it was staged under another roof.
    pub(crate) fn announce(&self, staged: &Staged) {
        let pending = Pending { event: staged.event.clone(), state_after: Some(staged.state_after), aside: None };
        self.pending.lock().insert(staged.event.event_id().to_owned(), pending);
    }

    /// The event of the writer's state with this type and state key.
    pub(crate) fn head_state(&self, head: &Head, kind: &str, state_key: &str) -> Result<Option<Event>, ReadError> {
        match self.core.state_get(head.state, kind, state_key)? {
            Some(id) => self.known(&id),
            None => Ok(None),
        }
    }

    /// What `target` becomes when `redaction` is applied; `None` when it is not here or was emptied before.
    /// [CS-API §redactions]
    pub(crate) fn redact_target(
        &self,
        redaction: &Event,
        target: &ruma_common::EventId,
    ) -> Result<Option<Redacted>, CommandError> {
        let Some(old) = self.event(target)? else { return Ok(None) };
        if old.redacted_by.is_some() {
            return Ok(None);
        }
        let event = koine_graph::redact(self.rules(), &old.event)
            .map_err(|error| CommandError::Damaged(format!("{target} cannot be redacted: {error}")))?;
        let relation = relations::of(&old.event).map(|(parent, _)| parent);
        let placed = Placed { event, redacted_by: Some(redaction.event_id().to_owned()), ..Placed::clone(&old) };
        Ok(Some(Redacted { placed: Arc::new(placed), relation }))
    }

    /// Hands staged events to the shard's writer. `head` is the state of affairs after the last of them; `extra`
    /// writes what belongs into the same commit. Call it with the head still locked, so that commits keep its order.
    pub(crate) fn commit(
        self: &Arc<Self>,
        head: &Head,
        staged: Vec<Staged>,
        extra: impl FnOnce(&mut Txn) + Send + 'static,
    ) -> Commit {
        self.commit_with(head, staged, |_| {}, extra)
    }

    /// The same, with `first` written before the events, which may depend on it.
    pub(crate) fn commit_after(
        self: &Arc<Self>,
        head: &Head,
        staged: Vec<Staged>,
        first: impl FnOnce(&mut Txn) + Send + 'static,
    ) -> Commit {
        self.commit_with(head, staged, first, |_| {})
    }

    fn commit_with(
        self: &Arc<Self>,
        head: &Head,
        staged: Vec<Staged>,
        first: impl FnOnce(&mut Txn) + Send + 'static,
        extra: impl FnOnce(&mut Txn) + Send + 'static,
    ) -> Commit {
        let head = head.clone();
        let unsettled = Unsettled::new(self);
        let this = self.clone();
        self.core.shard.submit(move |txn| {
            let room = this;
            if room.is_broken() {
                // It builds on something that did not become durable.
                txn.refuse("an earlier change of the room could not be kept");
                return;
            }
            first(txn);
            let mut placed = Vec::with_capacity(staged.len());
            let mut nodes = Vec::new();
            let mut replaced = Vec::new();
            let mut locals = Vec::new();
            let mut order = 0;
            for staged in staged {
                order = room.write(txn, &staged, &mut locals);
                if let Some(redacted) = staged.redacted {
                    replaced.push(redacted.placed);
                }
                placed.push(Arc::new(Placed {
                    order,
                    event: staged.event,
                    state_before: staged.state_before,
                    state_after: staged.state_after,
                    current: staged.current,
                    redacted_by: staged.redacted_by,
                    replaces: staged.replaces,
                    txn: staged.txn.map(|txn| (txn.device, txn.id)),
                }));
                nodes.extend(staged.nodes);
            }
            txn.put(&HEAD, room.core.domain(), &room.no(), &head.record(order));
            extra(txn);
            let published = Published { state: head.state, order, joined: head.joined, invited: head.invited };
            txn.on_durable(move |position| {
                unsettled.settle();
                for event in &replaced {
                    room.replace(event);
                }
                room.core.nodes_stored(&nodes, position);
                room.publish(published, placed, locals);
            });
        })
    }

    /// The rows of one event; its order.
    fn write(&self, txn: &mut Txn, staged: &Staged, locals: &mut Vec<(OwnedUserId, MembershipRecord)>) -> Order {
        let (domain, no, event) = (self.core.domain(), self.no(), &staged.event);
        // One change is the rule; where branches meet there may be more, and each is told by an entry of its own below.
        let body = match staged.members.first() {
            Some(change) => Bytes::copy_from_slice(change.user.as_bytes()),
            None => Bytes::new(),
        };
        let position = txn.append(LogEntry { domain, subject: log::room_subject(no), kind: Kind::Event as u8, body });
        let order = Order::try_from(position.0).expect("positions stay far below 2^63");
        let placed = Placed {
            order,
            event: event.clone(),
            state_before: staged.state_before,
            state_after: staged.state_after,
            current: staged.current,
            redacted_by: staged.redacted_by.clone(),
            replaces: staged.replaces.clone(),
            txn: staged.txn.as_ref().map(|txn| (txn.device.clone(), txn.id.clone())),
        };
        txn.put(&TIMELINE, domain, &(no, order), &placed.record());
        txn.put(&EVENT, domain, event.event_id().as_str(), &Place { room: no, order });
        self.core.inscribe(txn, no, &placed);
        if event.is(RETENTION_TYPE, "") {
            txn.put(&RETENTION, domain, &no, &Order::MIN);
        }
        if let Some(target) = &staged.redacts_later {
            txn.put(&REDACTION, domain, &(no, target.to_string()), &event.event_id().to_string());
        }
        if staged.redacted_by.is_some() {
            txn.delete(&REDACTION, domain, &(no, event.event_id().to_string()));
        }
        if staged.is_parent {
            txn.put(&PARENT, domain, &(no, order), &());
        }
        if staged.was_outlier {
            txn.delete(&ASIDE, domain, event.event_id().as_str());
        }
        for new in &staged.nodes {
            txn.put(&STATE_NODE, domain, &new.id.to_bytes(), &Bytes::from(new.bytes.clone()));
        }
        if let Some((parent, relation)) = relations::of(event) {
            if let Some(place) = txn.get(&EVENT, domain, parent.as_str()).ok().flatten().filter(|at| at.room == no) {
                txn.put(&PARENT, domain, &(no, place.order), &());
            }
            txn.put(&RELATION, domain, &(no, parent.to_string(), order), &relation);
        }
        if let Some(key) = &staged.txn {
            let TxnKey { user, device, request, id } = key.clone();
            txn.put(&TXN, domain, &(user, device, request, id), &event.event_id().to_string());
        }
        if let Some(redacted) = &staged.redacted {
            let target = &redacted.placed;
            txn.put(&TIMELINE, domain, &(no, target.order), &target.record());
            if let Some(parent) = &redacted.relation {
                txn.delete(&RELATION, domain, &(no, parent.to_string(), target.order));
            }
        }
        for (place, change) in staged.members.iter().enumerate() {
            if place > 0 {
                let body = Bytes::copy_from_slice(change.user.as_bytes());
                txn.append(LogEntry { domain, subject: log::room_subject(no), kind: Kind::Member as u8, body });
            }
            self.write_member(txn, change, order, locals);
        }
        order
    }

    fn write_member(
        &self,
        txn: &mut Txn,
        change: &MemberChange,
        order: Order,
        locals: &mut Vec<(OwnedUserId, MembershipRecord)>,
    ) {
        let (domain, no, user) = (self.core.domain(), self.no(), &change.user);
        let is_local = user.server_name() == self.core.config.server_name;
        let record = MemberRecord { membership: change.membership, order };
        txn.put(&MEMBER, domain, &(no, !is_local, user.to_string()), &record);
        let (was, is) = (change.before == Some(Membership::Join), change.membership == Membership::Join);
        if was != is {
            let key = (no, user.server_name().to_string());
            let joined = txn.get(&SERVER, domain, &key).ok().flatten().unwrap_or(0);
            match if is { joined + 1 } else { joined.saturating_sub(1) } {
                0 => txn.delete(&SERVER, domain, &key),
                joined => txn.put(&SERVER, domain, &key, &joined),
            }
            match (is_local, is) {
                (true, _) => {}
                (false, true) => txn.put(&REMOTE_ROOM, domain, &(user.to_string(), no), &()),
                (false, false) => txn.delete(&REMOTE_ROOM, domain, &(user.to_string(), no)),
            }
        }
        if is_local {
            let record = self.write_membership(txn, user, change.membership, order, &change.event_id);
            locals.push((user.clone(), record));
        }
    }

    /// Writes a member as a state tells of them, in place of whatever is written; a local one's own record, if it is one.
    pub(crate) fn write_member_of_state(
        &self,
        txn: &mut Txn,
        (user, membership, event_id): Member,
    ) -> Option<(OwnedUserId, MembershipRecord)> {
        let is_remote = user.server_name() != self.core.config.server_name;
        let key = (self.no(), is_remote, user.to_string());
        let before = txn.get(&MEMBER, self.core.domain(), &key).ok().flatten().map(|record| record.membership);
        let order = match is_remote {
            true => OUTLIER,
            false => Order::try_from(txn.position().0).expect("positions stay far below 2^63"),
        };
        let mut locals = Vec::new();
        self.write_member(txn, &MemberChange { user, before, membership, event_id }, order, &mut locals);
        locals.pop()
    }

    pub(crate) fn write_membership(
        &self,
        txn: &mut Txn,
        user: &UserId,
        membership: Membership,
        order: Order,
        event_id: &ruma_common::EventId,
    ) -> MembershipRecord {
        let key = (user.to_string(), self.no());
        let old = txn.get(&MEMBERSHIP, self.core.domain(), &key).ok().flatten();
        let same = old.as_ref().filter(|old| old.membership == membership);
        let was_joined = old.as_ref().is_some_and(|old| old.membership == Membership::Join);
        let is_joined = membership == Membership::Join;
        let joined_at = old.as_ref().and_then(|old| old.joined_at);
        let left_at = old.as_ref().and_then(|old| old.left_at);
        let record = MembershipRecord {
            membership,
            order,
            since: same.map_or(order, |old| old.since),
            event_id: event_id.to_string(),
            forgotten: false,
            joined_at: if is_joined && !was_joined { Some(order) } else { joined_at },
            left_at: if was_joined && !is_joined { Some(order) } else { left_at },
        };
        txn.put(&MEMBERSHIP, self.core.domain(), &key, &record);
        record
    }
}

impl Head {
    fn count(&mut self, old: Option<Membership>, new: Membership) {
        match old {
            Some(Membership::Join) => self.joined -= 1,
            Some(Membership::Invite) => self.invited -= 1,
            _ => {}
        }
        match new {
            Membership::Join => self.joined += 1,
            Membership::Invite => self.invited += 1,
            _ => {}
        }
    }

    pub(crate) fn record(&self, order: Order) -> HeadRecord {
        HeadRecord {
            state: root_bytes(self.state),
            extremities: self.extremities.iter().map(|(id, state)| (id.to_string(), root_bytes(*state))).collect(),
            depth: self.depth,
            order,
            joined: self.joined,
            invited: self.invited,
        }
    }
}

/// A room's state as the auth rules look at it, with events whose commit is under way.
pub(crate) struct RoomAt<'a> {
    pub(crate) room: &'a Room,
    pub(crate) state: Root,
}

impl auth::AuthState for RoomAt<'_> {
    type Error = ReadError;

    fn get(&self, kind: &str, state_key: &str) -> Result<Option<Event>, ReadError> {
        match self.room.core.state_get(self.state, kind, state_key)? {
            Some(id) => self.room.known(&id),
            None => Ok(None),
        }
    }
}
