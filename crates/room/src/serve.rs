//! What another server in the room may ask for: state and auth chains, history, drafts of membership events.
//! [SS-API §retrieving-events] [SS-API §backfilling-and-retrieving-missing-events] [SS-API §joining-rooms]

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    sync::Arc,
};

use koine_graph::{Event, auth};
use koine_store::Direction;
use ruma_common::{EventId, OwnedEventId, OwnedServerName, RoomVersionId, ServerName, UserId};
use serde_json::{Value, json, value::RawValue, value::to_raw_value};

use crate::{
    error::{CommandError, ReadError},
    keep::Part,
    membership::Profile,
    registry::Rooms,
    room::{Placed, Room, missing},
    state::Root,
    tables::{Membership, SERVER},
    visibility::HistoryVisibility,
    write::{NewEvent, RoomAt},
};

/// Most events that one walk through the graph gives out.
pub const WALK_EVENTS_MAX: usize = 1_000;
/// Most events of an auth chain.
pub const AUTH_CHAIN_MAX: usize = 200_000;

/// A membership event to be hashed and signed by the server of who it is about.
#[derive(Clone, Debug)]
pub struct Template {
    /// The version of the room.
    pub version: RoomVersionId,
    /// The event without hashes and signatures.
    pub event: Value,
}

/// An event and the room that it is of.
pub type InRoom = (Arc<Room>, Arc<Placed>);

impl Rooms {
    /// An event by its id alone, in whatever room it is. Ask `visibility.rs` before anybody sees it.
    pub fn find_event(&self, id: &EventId) -> Result<Option<InRoom>, ReadError> {
        match self.core.event_in(id)? {
            Some((no, placed)) => Ok(Some((self.room_by_no(no)?, placed))),
            None => Ok(None),
        }
    }

    /// A membership event that lets `user`, of another server, come in, knock or leave, as far as the rules allow it
    /// now. [SS-API §get_matrixfederationv1make_joinroomiduserid]
    pub fn template(&self, room: &Room, user: &UserId, membership: Membership) -> Result<Template, CommandError> {
        let mut content = Profile::default().content(membership.as_str());
        let head = room.head.lock().clone();
        if membership == Membership::Join
            && !matches!(room.head_membership(&head, user)?, Some(Membership::Invite | Membership::Join))
            && let Some(voucher) = self.voucher(room, &head, user)?
        {
            content["join_authorised_via_users_server"] = json!(voucher);
        }
        let content = to_raw_value(&content).map_err(|error| CommandError::BadContent(error.to_string()))?;
        let new = NewEvent::state(user, "m.room.member", user.as_str(), &content);
        let auth_events = room.auth_events_for(head.state, &new)?;
        let draft = room.unsigned_draft(&head, &new, auth_events);
        // The rules are asked with our own signature below it, which leaves the room with nobody.
        let event = self.core.seal(draft.clone(), room.rules(), room)?;
        auth::check(room.rules(), &event, &RoomAt { room, state: head.state })
            .map_err(|error| error.into_refusal().map_or_else(CommandError::from, CommandError::from))?;
        let mut event: Value =
            serde_json::from_slice(event.json()).map_err(|error| CommandError::Damaged(error.to_string()))?;
        if let Some(fields) = event.as_object_mut() {
            for ours in ["hashes", "signatures", "event_id"] {
                fields.remove(ours);
            }
            fields.insert("origin".into(), json!(user.server_name()));
        }
        Ok(Template { version: room.version().clone(), event })
    }
}

/// A state and what allows it, one event after the other; see [`Room::walk_state`]. Holds their ids, not the events.
pub struct StateWalk {
    room: Arc<Room>,
    state: std::vec::IntoIter<OwnedEventId>,
    seen: HashSet<OwnedEventId>,
    next: Vec<OwnedEventId>,
    chain: usize,
}

impl Iterator for StateWalk {
    type Item = Result<(Part, Event), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(id) = self.state.next() {
            let event = self.room.known(&id).and_then(|event| event.ok_or_else(|| missing(&id)));
            return Some(event.map(|event| {
                self.next.extend(event.auth_events().iter().filter(|id| !self.seen.contains(*id)).cloned());
                // Otherwise the many that all rest on the same would be held for each.
                if self.next.len() > WALK_EVENTS_MAX {
                    let mut few: HashSet<OwnedEventId> = HashSet::new();
                    self.next.retain(|id| few.insert(id.clone()));
                }
                (Part::State, event)
            }));
        }
        while let Some(id) = self.next.pop() {
            if self.chain >= AUTH_CHAIN_MAX || !self.seen.insert(id.clone()) {
                continue;
            }
            match self.room.known(&id) {
                Ok(Some(event)) => {
                    self.chain += 1;
                    self.next.extend(event.auth_events().iter().filter(|id| !self.seen.contains(*id)).cloned());
                    return Some(Ok((Part::AuthChain, event)));
                }
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}

impl Room {
    /// Somebody of ours is in the room, so that what we say of it is not out of date.
    pub fn is_attended(&self) -> bool {
        self.for_local_joined(|joined| joined.next().is_some())
    }

    /// The servers whose people are in the room, ours among them.
    pub fn servers(&self) -> Result<Vec<OwnedServerName>, ReadError> {
        let view = self.core.shard.view();
        let rows = view.prefix(&SERVER, self.core.domain(), &(self.no(),), Direction::Forward);
        let servers = rows.map(|row| {
            let ((_, server), _) = row?;
            OwnedServerName::try_from(server).map_err(|_| ReadError::Damaged("a server's name is none".into()))
        });
        let mut servers = servers.collect::<Result<Vec<_>, ReadError>>()?;
        if let Some(partial) = self.partial() {
            let known: HashSet<OwnedServerName> = servers.iter().cloned().collect();
            servers.extend(partial.servers.iter().filter(|server| !known.contains(*server)).cloned());
        }
        Ok(servers)
    }

    /// Whether people of `server` are joined.
    pub fn has_server(&self, server: &ServerName) -> Result<bool, ReadError> {
        let key = (self.no(), server.as_str());
        Ok(self.core.shard.get(&SERVER, self.core.domain(), &key)?.is_some() || self.has_partial_server(server))
    }

    /// Events that nothing refers to yet, durable ones only.
    pub fn extremities(&self) -> Vec<OwnedEventId> {
        let head = self.head.lock();
        let pending = self.pending.lock();
        head.extremities.iter().filter(|(id, _)| !pending.contains_key(id)).map(|(id, _)| id.clone()).collect()
    }

    /// Those of `ids` after which no state is known here: they are in no timeline, and stand in no branch aside of it.
    pub fn unknown_among(&self, ids: &[OwnedEventId]) -> Result<Vec<OwnedEventId>, ReadError> {
        let mut unknown = Vec::new();
        for id in ids {
            if self.state_after_event(id)?.is_none() {
                unknown.push(id.clone());
            }
        }
        Ok(unknown)
    }

    /// The events that allow `events`, and those that allow them, and so on, without `events` themselves.
    pub fn auth_chain<'a>(&self, events: impl IntoIterator<Item = &'a Event>) -> Result<Vec<Event>, ReadError> {
        let mut seen: HashSet<OwnedEventId> = HashSet::new();
        let mut next: Vec<OwnedEventId> = events.into_iter().flat_map(|event| event.auth_events().to_vec()).collect();
        let mut chain = Vec::new();
        while let Some(id) = next.pop() {
            if chain.len() >= AUTH_CHAIN_MAX || !seen.insert(id.clone()) {
                continue;
            }
            let Some(event) = self.known(&id)? else { continue };
            next.extend(event.auth_events().iter().cloned());
            chain.push(event);
        }
        Ok(chain)
    }

    /// The events of a state, those of them that `wanted` says yes to, and then what allows them and `also`.
    ///
    /// With `once`, what is part of the state is not told again as part of the auth chain.
    pub fn walk_state(
        self: &Arc<Self>,
        state: Root,
        wanted: impl Fn(&str, &str) -> bool,
        also: &[Event],
        once: bool,
    ) -> Result<StateWalk, ReadError> {
        let entries = self.state_entries(state, wanted)?;
        let seen = if once { entries.iter().cloned().collect() } else { HashSet::new() };
        let next = also.iter().flat_map(|event| event.auth_events().to_vec()).collect();
        Ok(StateWalk { room: self.clone(), state: entries.into_iter(), seen, next, chain: 0 })
    }

    /// The state before an event of the timeline. `None` when there is no such event.
    pub fn state_before_event(&self, id: &EventId) -> Result<Option<Root>, ReadError> {
        Ok(self.event(id)?.filter(|placed| !placed.is_outlier()).map(|placed| placed.state_before))
    }

    /// Events that `latest` follow, breadth first, newest first, down to what `earliest` names: neither of them
    /// included. [SS-API §post_matrixfederationv1get_missing_eventsroomid]
    pub fn missing_between(
        &self,
        earliest: &[OwnedEventId],
        latest: &[OwnedEventId],
        limit: usize,
        min_depth: u64,
    ) -> Result<Vec<Arc<Placed>>, ReadError> {
        let mut seen: HashSet<OwnedEventId> = earliest.iter().cloned().collect();
        let mut next: VecDeque<OwnedEventId> = VecDeque::new();
        for id in latest {
            if let Some(placed) = self.event(id)?.filter(|placed| !placed.is_outlier()) {
                next.extend(placed.event.prev_events().iter().cloned());
            }
        }
        self.walk_back(&mut next, &mut seen, limit.min(WALK_EVENTS_MAX), min_depth)
    }

    /// `from` and what they follow, newest first. [SS-API §get_matrixfederationv1backfillroomid]
    pub fn history_before(&self, from: &[OwnedEventId], limit: usize) -> Result<Vec<Arc<Placed>>, ReadError> {
        let mut next = from.iter().cloned().collect();
        self.walk_back(&mut next, &mut HashSet::new(), limit.min(WALK_EVENTS_MAX), 0)
    }

    fn walk_back(
        &self,
        next: &mut VecDeque<OwnedEventId>,
        seen: &mut HashSet<OwnedEventId>,
        limit: usize,
        min_depth: u64,
    ) -> Result<Vec<Arc<Placed>>, ReadError> {
        // Deepest first, so that what is cut off is what is furthest away.
        let mut waiting: BTreeSet<(u64, OwnedEventId)> = BTreeSet::new();
        let mut found: Vec<Arc<Placed>> = Vec::new();
        loop {
            while let Some(id) = next.pop_front() {
                if !seen.insert(id.clone()) {
                    continue;
                }
                if let Some(placed) = self.event(&id)?.filter(|placed| !placed.is_outlier())
                    && placed.event.depth() >= min_depth
                {
                    waiting.insert((placed.event.depth(), id));
                }
            }
            let Some((_, id)) = waiting.pop_last().filter(|_| found.len() < limit) else { return Ok(found) };
            if let Some(placed) = self.event(&id)? {
                next.extend(placed.event.prev_events().iter().cloned());
                found.push(placed);
            }
        }
    }

    /// Whether `server` may be told the event in full; others are told its redacted form.
    /// [SS-API §backfilling-and-retrieving-missing-events]
    pub fn may_server_see(&self, server: &ServerName, placed: &Placed) -> Result<bool, ReadError> {
        let visibility = self.state_event(placed.state_before, "m.room.history_visibility", "")?;
        let word: Option<String> = visibility.and_then(|event| event.event.content_field("history_visibility"));
        match HistoryVisibility::parse(word.as_deref().unwrap_or("shared")) {
            HistoryVisibility::WorldReadable | HistoryVisibility::Shared => Ok(true),
            HistoryVisibility::Invited => {
                self.has_in_state(server, placed.state_before, &[Membership::Join, Membership::Invite])
            }
            HistoryVisibility::Joined => self.has_in_state(server, placed.state_before, &[Membership::Join]),
        }
    }

    /// Whether somebody of `server` was joined before an event. Costs the members of the room.
    pub fn was_server_in(&self, server: &ServerName, placed: &Placed) -> Result<bool, ReadError> {
        self.has_in_state(server, placed.state_before, &[Membership::Join])
    }

    fn has_in_state(&self, server: &ServerName, state: Root, counts: &[Membership]) -> Result<bool, ReadError> {
        let members = self.state_events(state, Some("m.room.member"))?;
        Ok(members.iter().any(|member| {
            let user = member.event.state_key().and_then(|user| <&UserId>::try_from(user).ok());
            user.is_some_and(|user| user.server_name() == server)
                && member.event.membership().is_some_and(|membership| counts.contains(&membership.into()))
        }))
    }

    /// An invitation of somebody of another server, sealed but not yet in the room: that server signs it first.
    /// [SS-API §inviting-to-a-room]
    pub fn draft_invitation(
        &self,
        sender: &UserId,
        target: &UserId,
        content: &RawValue,
    ) -> Result<Event, CommandError> {
        let head = self.head.lock().clone();
        let new = NewEvent::state(sender, "m.room.member", target.as_str(), content);
        let auth_events = self.auth_events_for(head.state, &new)?;
        let event = self.core.seal(self.unsigned_draft(&head, &new, auth_events), self.rules(), self)?;
        auth::check(self.rules(), &event, &RoomAt { room: self, state: head.state })
            .map_err(|error| error.into_refusal().map_or_else(CommandError::from, CommandError::from))?;
        Ok(event)
    }
}
