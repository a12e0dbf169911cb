//! Events that other servers send: the checks that need the room, in the order of the specification, and the place in
//! the graph. [SS-API §checks-performed-on-receipt-of-a-pdu]
//!
//! Format, signatures and content hash (checks 1 to 3) are the caller's, who has the keys. What is missing is never
//! guessed around: [`ReceiveError::Missing`] names it, and the caller fetches it and comes again. Whatever an event's
//! fate is, it is kept, so that it stays: rejected stays rejected.

use std::sync::Arc;

use koine_graph::{
    Event, PowerLevels,
    auth::{self, AuthState, CheckError, Refusal},
};
use koine_store::{Commit, CommitError, StoreError, bytes::Bytes};
use ruma_common::{EventId, OwnedEventId, RoomId};
use serde_json::value::RawValue;

use crate::{
    error::{CommandError, ReadError},
    partial::Provisional,
    registry::Rooms,
    room::{Head, Pending, Room},
    state::{NewNodes, Root, root_bytes},
    tables::{ASIDE, Aside, AsideRecord, REDACTION, STATE_NODE},
    unsettled::Unsettled,
    write::{NewEvent, RoomAt},
};

/// Extremities that a room bears before we tie them together with an event of our own.
pub const EXTREMITIES_MAX: usize = 20;
/// People of ours in whose name that is tried.
const TYING_TRIED_MAX: usize = 20;

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// It was here before.
    Known,
    /// It is in the room.
    Accepted,
    /// Its own branch allows it, the room's present state does not: kept, but not shown. [SS-API §soft-failure]
    SoftFailed(Refusal),
    /// The rules forbid it. [SS-API §rejection]
    Rejected(Refusal),
}

/// The state after an event that stands in no timeline here, as another server tells it.
#[derive(Clone, Debug)]
pub struct ToldState {
    /// The event.
    pub after: OwnedEventId,
    /// The state events that hold after it. Of two with the same type and state key, the later one.
    pub state: Vec<OwnedEventId>,
}

/// Why there is no verdict about an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// There is no such room here, or nobody of ours is in it.
    #[error("this server is not in the room")]
    NotInRoom,
    /// The event is of another room.
    #[error("the event is of the room {0}")]
    OtherRoom(String),
    /// Events that it follows, or that allow it, are not here: fetch them first.
    #[error("{} events before it and {} that allow it are missing", prev.len(), auth.len())]
    Missing {
        /// Events that it follows and of whose state we know nothing.
        prev: Vec<OwnedEventId>,
        /// Auth events that we do not know.
        auth: Vec<OwnedEventId>,
    },
    /// A state and its auth chain are larger than anything we take in.
    #[error("a state of more than {max} events")]
    TooMany {
        /// How many there may be.
        max: usize,
    },
    /// The room recovers from a change that could not be kept.
    #[error("the room is recovering from a change that could not be kept: try again")]
    Unsettled,
    /// The store could not be read, or holds what cannot be.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The verdict did not become durable.
    #[error("the event could not be kept: {0}")]
    Commit(#[from] CommitError),
}

impl From<StoreError> for ReceiveError {
    fn from(error: StoreError) -> Self {
        Self::Read(error.into())
    }
}

impl From<ReceiveError> for CommandError {
    /// Of an event of our own, which follows and rests on what is here.
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Read(error) => error.into(),
            ReceiveError::Commit(error) => Self::Commit(error),
            ReceiveError::Unsettled => Self::Unsettled,
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<CommandError> for ReceiveError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Unsettled => Self::Unsettled,
            CommandError::Store(error) => Self::Read(error.into()),
            CommandError::Commit(error) => Self::Commit(error),
            other => Self::Read(ReadError::Damaged(other.to_string())),
        }
    }
}

/// How far an event came.
enum Taking {
    /// What became of it, and the commit that says so, if there is one.
    Done(Option<Commit>, Received),
    /// The policy server has to be asked.
    Undecided,
}

/// What to do about an event, once that is known.
enum Verdict {
    Accept,
    SoftFail(Refusal),
    Reject(Refusal),
}

impl Rooms {
    /// Takes an event of another server into its room. Returns when its fate is durable.
    pub async fn receive(&self, room: &RoomId, event: Event) -> Result<Received, ReceiveError> {
        self.receive_after(room, event, &[]).await
    }

    /// The same, but returns when its fate is decided: the next event can be judged while the disk is busy with this one.
    pub async fn decide(&self, room: &RoomId, event: Event) -> Result<Decided, ReceiveError> {
        self.decide_after(room, event, &[]).await
    }

    /// The same, for an event some of whose predecessors stand in no timeline here: `told` says what another server
    /// tells of the state after them. All events of it must be known, see [`keep_outliers`](Self::keep_outliers).
    pub async fn receive_after(
        &self,
        room: &RoomId,
        event: Event,
        told: &[ToldState],
    ) -> Result<Received, ReceiveError> {
        self.decide_after(room, event, told).await?.durable().await
    }

    async fn decide_after(&self, room: &RoomId, event: Event, told: &[ToldState]) -> Result<Decided, ReceiveError> {
        if event.room_id() != room {
            return Err(ReceiveError::OtherRoom(event.room_id().to_string()));
        }
        let room = match self.room(room) {
            Err(ReadError::NoSuchRoom) => return Err(ReceiveError::NotInRoom),
            room => room?,
        };
        let mut taking = room.take_in(&mut room.head.lock(), &event, told, false)?;
        if matches!(taking, Taking::Undecided) {
            // 7. Is validated by the policy server, otherwise it is "soft failed".
            let signed = self.ask_for_policy(&room, event.clone(), false).await;
            let event = signed.unwrap_or_else(|reason| {
                tracing::debug!(room_id = %room.id(), event_id = %event.event_id(), %reason, "an event is not recommended");
                event
            });
            taking = room.take_in(&mut room.head.lock(), &event, told, true)?;
        }
        let (commit, received) = match taking {
            Taking::Done(commit, received) => (commit, received),
            Taking::Undecided => return Err(ReceiveError::Unsettled),
        };
        self.tie(&room).await;
        Ok(Decided { received, commit: commit.unwrap_or_else(|| self.shard().submit(|_| {})) })
    }

    /// Ties branches together with an event of our own once there are too many: the work for each event that comes
    /// would grow with them.
    async fn tie(&self, room: &Arc<Room>) {
        if room.head.lock().extremities.len() <= EXTREMITIES_MAX {
            return;
        }
        let content = RawValue::from_string("{}".to_owned()).expect("an empty object is JSON");
        for user in room.local_joined().into_iter().take(TYING_TRIED_MAX) {
            let tie = |head: &mut Head| {
                let new = NewEvent {
                    sender: &user,
                    kind: "org.matrix.dummy_event",
                    state_key: None,
                    content: &content,
                    redacts: None,
                    txn: None,
                    sent_at: None,
                };
                let staged = room.stage(head, new)?;
                Ok(room.commit(head, vec![staged], |_| {}))
            };
            match self.change_for(room, false, tie).await {
                // Whether it becomes durable is for the events that come after.
                Ok(commit) => return drop(commit),
                Err(CommandError::Refused(_)) => {}
                Err(error) => {
                    tracing::debug!(room_id = %room.id(), reason = %error, "branches were not tied together");
                    return;
                }
            }
        }
    }
}

/// An event whose fate is decided, and on its way to the disk.
#[must_use]
pub struct Decided {
    received: Received,
    commit: Commit,
}

impl Decided {
    /// What became of it, once that is durable.
    pub async fn durable(self) -> Result<Received, ReceiveError> {
        self.commit.await?;
        Ok(self.received)
    }
}

impl Room {
    /// Judges an event and stages it where it belongs. `asked`: the policy server, who has not signed it if it is not
    /// signed.
    fn take_in(
        self: &Arc<Self>,
        head: &mut Head,
        event: &Event,
        told: &[ToldState],
        asked: bool,
    ) -> Result<Taking, ReceiveError> {
        if self.is_broken() {
            return Err(ReceiveError::Unsettled);
        }
        if head.extremities.is_empty() {
            return Err(ReceiveError::NotInRoom);
        }
        let id = event.event_id().to_owned();
        let pending = self.pending.lock().get(&id).map(|pending| pending.aside);
        let aside = match pending {
            Some(None) => return Ok(Taking::Done(None, Received::Known)),
            Some(why) => why,
            None if self.core.place_of(&id)?.is_some() => return Ok(Taking::Done(None, Received::Known)),
            None => self.core.aside(&id)?.map(|record| record.why),
        };
        // Rejected stays rejected.
        if matches!(aside, Some(Aside::Rejected | Aside::SoftFailed)) {
            return Ok(Taking::Done(None, Received::Known));
        }
        let auth_events = self.auth_events_of(event)?;
        let (before, mut nodes) = self.state_before(event, told)?;
        let mut verdict = self.judge(head, event, &auth_events, before)?;
        if matches!(verdict, Verdict::Accept)
            && let Some(policy) = self.policy(head, event.kind(), event.state_key())?
            && !policy.has_signed(self, event)
        {
            if !asked {
                return Ok(Taking::Undecided);
            }
            verdict = Verdict::SoftFail(Refusal::NotRecommended(policy.server().to_owned()));
        }
        let event = event.clone();
        match verdict {
            Verdict::Accept => {
                let mut staged = self.place(head, event, before)?;
                staged.add_nodes(&mut nodes);
                staged.was_outlier = aside.is_some();
                staged.is_parent = self.has_children(&id)?;
                self.apply_redaction(&mut staged, before)?;
                self.apply_earlier_redaction(&mut staged)?;
                Ok(Taking::Done(Some(self.commit(head, vec![staged], |_| {})), Received::Accepted))
            }
            Verdict::SoftFail(refusal) => {
                let mut after = before;
                if event.is_state() {
                    let (root, mut new) = self.core.state_after(before, &event)?;
                    after = root;
                    nodes.append(&mut new);
                }
                let commit = self.put_aside(event, Aside::SoftFailed, Some(after), nodes);
                Ok(Taking::Done(Some(commit), Received::SoftFailed(refusal)))
            }
            Verdict::Reject(refusal) => {
                // A state that lacks members is not one to build upon once it is whole.
                let after = (!self.is_partial()).then_some(before);
                let commit = self.put_aside(event, Aside::Rejected, after, nodes);
                Ok(Taking::Done(Some(commit), Received::Rejected(refusal)))
            }
        }
    }

    /// Checks 4 to 6.
    fn judge(&self, head: &Head, event: &Event, auth_events: &[Event], before: Root) -> Result<Verdict, ReceiveError> {
        let rules = self.rules();
        // 4. Passes authorization rules based on the event's auth events, otherwise it is rejected.
        let rejected = |id: &EventId| self.is_rejected(id).unwrap_or(true);
        if let Err(refusal) = auth::check_auth_events(rules, event, auth_events, rejected) {
            return Ok(Verdict::Reject(refusal));
        }
        if let Some(refusal) = refusal(auth::check(rules, event, &Given { room: self, events: auth_events }))? {
            return Ok(Verdict::Reject(refusal));
        }
        // 5. Passes authorization rules based on the state before the event, otherwise it is rejected.
        let given = Given { room: self, events: auth_events };
        let state = Provisional { at: RoomAt { room: self, state: before }, given };
        if let Some(refusal) = refusal(auth::check(rules, event, &state))? {
            return Ok(Verdict::Reject(refusal));
        }
        // 6. Passes authorization rules based on the current state of the room, otherwise it is "soft failed".
        if head.state != before
            && !self.is_partial()
            && let Some(refusal) = refusal(auth::check(rules, event, &RoomAt { room: self, state: head.state }))?
        {
            return Ok(Verdict::SoftFail(refusal));
        }
        Ok(Verdict::Accept)
    }

    pub(crate) fn auth_events_of(&self, event: &Event) -> Result<Vec<Event>, ReceiveError> {
        let mut found = Vec::with_capacity(event.auth_events().len());
        let mut auth = Vec::new();
        for id in event.auth_events() {
            match self.known(id)? {
                Some(event) => found.push(event),
                None => auth.push(id.clone()),
            }
        }
        if auth.is_empty() { Ok(found) } else { Err(ReceiveError::Missing { prev: Vec::new(), auth }) }
    }

    /// The state before an event: that after what it follows, or what is told of it, resolved where it follows several.
    pub(crate) fn state_before(&self, event: &Event, told: &[ToldState]) -> Result<(Root, NewNodes), ReceiveError> {
        let mut states = Vec::with_capacity(event.prev_events().len());
        let mut nodes = NewNodes::default();
        let mut prev = Vec::new();
        for id in event.prev_events() {
            match (self.state_after_event(id)?, told.iter().find(|told| told.after == *id)) {
                (Some(state), _) => states.push(state),
                (None, Some(told)) => {
                    let (state, mut new) = self.state_of(&told.state)?;
                    states.push(state);
                    nodes.append(&mut new);
                }
                (None, None) => prev.push(id.clone()),
            }
        }
        if !prev.is_empty() {
            return Err(ReceiveError::Missing { prev, auth: Vec::new() });
        }
        match states.as_slice() {
            [only] => Ok((*only, nodes)),
            several => {
                let (state, mut new) = self.resolve(several)?;
                nodes.append(&mut new);
                Ok((state, nodes))
            }
        }
    }

    /// The state after an event of the graph, `None` where the event or what is around it is not known.
    pub(crate) fn state_after_event(&self, id: &EventId) -> Result<Option<Root>, ReadError> {
        if let Some(pending) = self.pending.lock().get(id) {
            return Ok(pending.state_after);
        }
        if let Some((room, placed)) = self.core.event_in(id)?.filter(|(_, placed)| !placed.is_outlier()) {
            // What was told while nobody of ours was in the room, an invitation for one, came without any state.
            return Ok((room == self.no() && !placed.state_after.is_empty()).then_some(placed.state_after));
        }
        let aside = self.core.aside(id)?.filter(|record| record.room == self.no());
        Ok(aside.and_then(|record| record.state_after).map(crate::state::root_of))
    }

    /// The state made of the given events.
    pub(crate) fn state_of(&self, ids: &[OwnedEventId]) -> Result<(Root, NewNodes), ReceiveError> {
        let mut events = Vec::with_capacity(ids.len());
        let mut auth = Vec::new();
        for id in ids {
            match self.known(id)? {
                Some(event) if !self.is_rejected(id)? => events.push(event),
                Some(_) => {}
                None => auth.push(id.clone()),
            }
        }
        if !auth.is_empty() {
            return Err(ReceiveError::Missing { prev: Vec::new(), auth });
        }
        Ok(self.core.state_made_of(&events)?)
    }

    /// A redaction takes effect if the room lets its sender redact. [RV3 §handling-redactions]
    fn apply_redaction(&self, staged: &mut crate::write::Staged, before: Root) -> Result<(), ReceiveError> {
        let redaction = staged.event.clone();
        let Some(target) = (redaction.kind() == "m.room.redaction").then(|| redaction.redacts(self.rules())).flatten()
        else {
            return Ok(());
        };
        match self.event(&target)?.filter(|placed| !placed.is_outlier()) {
            Some(event) if self.lets_redact(before, &redaction, &event.event)? => {
                staged.redacted = self.redact_target(&redaction, &target)?;
            }
            Some(_) => {}
            None => staged.redacts_later = Some(target),
        }
        Ok(())
    }

    /// An event whose redaction came first comes in emptied.
    fn apply_earlier_redaction(&self, staged: &mut crate::write::Staged) -> Result<(), ReceiveError> {
        let key = (self.no(), staged.event.event_id().as_str());
        let Some(id) = self.core.shard.get(&REDACTION, self.core.domain(), &key)? else { return Ok(()) };
        let Ok(id) = OwnedEventId::try_from(id) else { return Ok(()) };
        let Some(redaction) = self.event(&id)? else { return Ok(()) };
        if self.lets_redact(redaction.state_before, &redaction.event, &staged.event)? {
            let emptied = koine_graph::redact(self.rules(), &staged.event);
            staged.event =
                emptied.map_err(|error| ReadError::Damaged(format!("an event cannot be redacted: {error}")))?;
            staged.redacted_by = Some(id);
        }
        Ok(())
    }

    /// Whether the room, in this state, lets `redaction` empty `target`.
    fn lets_redact(&self, state: Root, redaction: &Event, target: &Event) -> Result<bool, ReadError> {
        let at = RoomAt { room: self, state };
        let (create, levels) = (at.get("m.room.create", "")?, at.get("m.room.power_levels", "")?);
        let levels = PowerLevels::new(&self.rules().authorization, create.as_ref(), levels.as_ref());
        Ok(auth::may_redact(self.rules(), &levels, redaction, target))
    }

    /// Keeps an event outside of the timeline.
    pub(crate) fn put_aside(
        self: &Arc<Self>,
        event: Event,
        why: Aside,
        state_after: Option<Root>,
        nodes: NewNodes,
    ) -> Commit {
        let pending = Pending { event: event.clone(), state_after, aside: Some(why) };
        self.pending.lock().insert(event.event_id().to_owned(), pending);
        let unsettled = Unsettled::new(self);
        let (room, domain) = (self.clone(), self.core.domain());
        let record =
            AsideRecord { room: self.no(), why, state_after: state_after.map(root_bytes), json: event.json().clone() };
        self.core.shard.submit(move |txn| {
            txn.put(&ASIDE, domain, event.event_id().as_str(), &record);
            for new in &nodes {
                txn.put(&STATE_NODE, domain, &new.id.to_bytes(), &Bytes::from(new.bytes.clone()));
            }
            txn.on_durable(move |position| {
                unsettled.settle();
                room.core.nodes_stored(&nodes, position);
                // It may have been part of a state before.
                room.core.forget(event.event_id());
                room.pending.lock().remove(event.event_id());
            });
        })
    }
}

/// The refusal in a verdict of the rules, unless there was none because the state could not be read.
pub(crate) fn refusal(verdict: Result<(), CheckError<ReadError>>) -> Result<Option<Refusal>, ReadError> {
    match verdict {
        Ok(()) => Ok(None),
        Err(error) => error.into_refusal().map(Some),
    }
}

/// A state that is no more than the auth events of one event. Where the rules of the room leave the create event out
/// of them, it is implied by the room's id. [RV12 §authorization-rules]
pub(crate) struct Given<'a> {
    pub(crate) room: &'a Room,
    pub(crate) events: &'a [Event],
}

impl AuthState for Given<'_> {
    type Error = ReadError;

    fn get(&self, kind: &str, state_key: &str) -> Result<Option<Event>, ReadError> {
        if let Some(event) = self.events.iter().find(|event| event.is(kind, state_key)) {
            return Ok(Some(event.clone()));
        }
        if kind != "m.room.create" || !self.room.rules().authorization.room_create_event_id_as_room_id {
            return Ok(None);
        }
        let hash = self.room.id().as_str().trim_start_matches('!');
        match OwnedEventId::try_from(format!("${hash}")) {
            Ok(create) => self.room.known(&create),
            Err(_) => Ok(None),
        }
    }
}
