//! Who may see which event, and which state of a room. [CS-API §room-history-visibility]
//!
//! What decides is the state *at the event*: the history visibility and the viewer's membership there. A page of
//! messages mostly shares one state, and states differ little, so a [`Viewer`] remembers its verdict for each state
//! and what each of the few deciding events says.

use std::{
    collections::{BTreeSet, HashMap},
    ops::RangeInclusive,
    sync::Arc,
};

use koine_graph::Event;
use koine_store::Direction;
use ruma_common::{OwnedEventId, UserId};
use serde::Deserialize;

use crate::{
    error::ReadError,
    room::{Placed, Room},
    state::Root,
    tables::{Membership, MembershipRecord, Order, PARENT},
};

/// Most states a viewer remembers; past it, it begins anew.
const SIGHTS_MAX: usize = 4_096;

/// Who may see the history of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryVisibility {
    /// Anyone.
    WorldReadable,
    /// Members, with everything that was before they came.
    Shared,
    /// Members, from their invitation on.
    Invited,
    /// Members, from their joining on.
    Joined,
}

impl HistoryVisibility {
    /// The visibility that a word in the state means; what is not understood is `shared`.
    pub fn parse(word: &str) -> Self {
        match word {
            "world_readable" => Self::WorldReadable,
            "invited" => Self::Invited,
            "joined" => Self::Joined,
            _ => Self::Shared,
        }
    }
}

/// The two things about a state that decide.
#[derive(Clone, Copy, Debug)]
struct Sight {
    visibility: HistoryVisibility,
    membership: Option<Membership>,
}

/// One person looking at one room.
pub struct Viewer<'a> {
    room: &'a Room,
    user: &'a UserId,
    record: Option<MembershipRecord>,
    sights: HashMap<Root, Sight>,
    visibilities: HashMap<OwnedEventId, HistoryVisibility>,
    memberships: HashMap<OwnedEventId, Option<Membership>>,
    parents: Option<Parents>,
}

/// Which events of a part of the timeline others refer to.
struct Parents {
    part: RangeInclusive<Order>,
    orders: BTreeSet<Order>,
}

impl<'a> Viewer<'a> {
    /// `user` looking at `room`.
    pub fn new(room: &'a Room, user: &'a UserId) -> Result<Self, ReadError> {
        Ok(Self::with_record(room, user, room.local_record(user)))
    }

    /// The same, for who has read the membership already.
    pub fn with_record(room: &'a Room, user: &'a UserId, record: Option<MembershipRecord>) -> Self {
        Self {
            room,
            user,
            record,
            sights: HashMap::new(),
            visibilities: HashMap::new(),
            memberships: HashMap::new(),
            parents: None,
        }
    }

    /// The viewer's membership now.
    pub fn membership(&self) -> Option<Membership> {
        self.record.as_ref().map(|record| record.membership)
    }

    /// What is written about the viewer's membership.
    pub fn record(&self) -> Option<&MembershipRecord> {
        self.record.as_ref()
    }

    /// Who looks.
    pub fn user(&self) -> &UserId {
        self.user
    }

    /// Is joined to the room.
    pub fn is_joined(&self) -> bool {
        self.membership() == Some(Membership::Join)
    }

    /// Whether anyone may read the room as it is now.
    pub fn is_world_readable(&mut self) -> Result<bool, ReadError> {
        let now = self.room.published().state;
        Ok(self.sight(now)?.visibility == HistoryVisibility::WorldReadable)
    }

    /// The newest place the viewer may look at: for who left, the place just after their leaving.
    ///
    /// # Errors
    /// `NotJoined` for who never was in the room (or forgot it), unless anyone may read it.
    pub fn newest(&mut self) -> Result<Order, ReadError> {
        if self.is_joined() {
            return Ok(self.room.published().order);
        }
        if self.is_world_readable()? {
            return Ok(self.room.published().order);
        }
        match &self.record {
            Some(record) if !record.forgotten => record.left_at.ok_or(ReadError::NotJoined),
            _ => Err(ReadError::NotJoined),
        }
    }

    /// The state the viewer may look at: the present one for members, the one at their leaving for who left.
    ///
    /// # Errors
    /// `NotJoined`, as for [`newest`](Self::newest).
    pub fn state(&mut self) -> Result<Root, ReadError> {
        let newest = self.newest()?;
        let published = self.room.published();
        if newest >= published.order {
            return Ok(published.state);
        }
        Ok(self.room.event_at(newest)?.map_or(Root::EMPTY, |placed| placed.current))
    }

    /// The state when the viewer joined last; empty for who never did.
    pub(crate) fn state_on_joining(&self) -> Result<Root, ReadError> {
        let Some(joined) = self.record.as_ref().and_then(|record| record.joined_at) else { return Ok(Root::EMPTY) };
        Ok(self.room.event_at(joined)?.map_or(Root::EMPTY, |placed| placed.current))
    }

    /// Whether the viewer may see the event. [CS-API §room-history-visibility, server behaviour]
    pub fn may_see(&mut self, placed: &Placed) -> Result<bool, ReadError> {
        if placed.state_after.is_empty() {
            return self.may_see_stateless(&placed.event);
        }
        let before = self.sight(placed.state_before)?;
        if self.allows(before, placed.order) {
            return Ok(true);
        }
        let event = &placed.event;
        match (event.kind(), event.state_key()) {
            // Seen if the visibility before *or* after it would allow.
            ("m.room.history_visibility", Some("")) => {
                let after = self.sight(placed.state_after)?;
                Ok(self.allows(Sight { visibility: after.visibility, ..before }, placed.order))
            }
            // Likewise for the viewer's own membership.
            ("m.room.member", Some(user)) if user == self.user.as_str() => {
                // Whoever was asked, asks or is in learns how that ended: otherwise a refused invitation or a knock taken
                // back would stand in their client for ever.
                let had_a_part =
                    matches!(before.membership, Some(Membership::Invite | Membership::Knock | Membership::Join));
                if had_a_part {
                    return Ok(true);
                }
                let after = self.sight(placed.state_after)?;
                Ok(self.allows(Sight { membership: after.membership, ..before }, placed.order))
            }
            _ => Ok(false),
        }
    }

    /// What was told while nobody of ours was in the room, or by the way: nobody knows who might see it then. It concerns the one
    /// whose membership it is, and whoever may look at the state that it is part of.
    fn may_see_stateless(&mut self, event: &Event) -> Result<bool, ReadError> {
        let Some(key) = event.state_key() else { return Ok(false) };
        if event.kind() == "m.room.member" && key == self.user.as_str() {
            return Ok(true);
        }
        let state = match self.state() {
            Err(ReadError::NotJoined) => return Ok(false),
            state => state?,
        };
        let found = self.room.state_event(state, event.kind(), key)?;
        Ok(found.is_some_and(|found| found.event.event_id() == event.event_id()))
    }

    fn allows(&self, sight: Sight, order: Order) -> bool {
        match sight.visibility {
            // 1. If the history_visibility was set to world_readable, allow.
            HistoryVisibility::WorldReadable => true,
            // 2. If the user's membership was join, allow.
            _ if sight.membership == Some(Membership::Join) => true,
            // 3. If history_visibility was set to shared, and the user joined the room at any point after the event
            //    was sent, allow.
            HistoryVisibility::Shared => {
                self.record.as_ref().and_then(|record| record.joined_at).is_some_and(|joined| joined > order)
            }
            // 4. If the user's membership was invite, and the history_visibility was set to invited, allow.
            HistoryVisibility::Invited => sight.membership == Some(Membership::Invite),
            // 5. Otherwise, deny.
            HistoryVisibility::Joined => false,
        }
    }

    /// The viewer's membership at an event, its own effect included. [CS-API §room-event-format] `unsigned.membership`
    pub fn membership_at(&mut self, placed: &Placed) -> Result<Membership, ReadError> {
        Ok(self.sight(placed.state_after)?.membership.unwrap_or(Membership::Leave))
    }

    /// Learns at once which of the events in `part` of the timeline have children, for who is about to show some of
    /// them. When more than `parents_max` have, nothing is learnt, and each event is asked for by itself.
    pub fn expect(&mut self, part: RangeInclusive<Order>, parents_max: usize) -> Result<(), ReadError> {
        let (view, no) = (self.room.core.shard.view(), self.room.no());
        let range = (no, *part.start())..=(no, *part.end());
        let rows = view.scan(&PARENT, self.room.core.domain(), range, Direction::Forward).take(parents_max + 1);
        let orders = rows.map(|row| row.map(|((_, order), ())| order)).collect::<Result<BTreeSet<_>, _>>()?;
        self.parents = (orders.len() <= parents_max).then_some(Parents { part, orders });
        Ok(())
    }

    /// Whether others refer to the event at `order`, or did.
    pub(crate) fn is_parent(&self, order: Order) -> Result<bool, ReadError> {
        match self.parents.as_ref().filter(|parents| parents.part.contains(&order)) {
            Some(parents) => Ok(parents.orders.contains(&order)),
            None => Ok(self.room.core.shard.get(&PARENT, self.room.core.domain(), &(self.room.no(), order))?.is_some()),
        }
    }

    fn sight(&mut self, state: Root) -> Result<Sight, ReadError> {
        if let Some(sight) = self.sights.get(&state) {
            return Ok(*sight);
        }
        if self.sights.len() >= SIGHTS_MAX {
            self.sights.clear();
        }
        let core = &self.room.core;
        let visibility = match core.state_get(state, "m.room.history_visibility", "")? {
            Some(id) => match self.visibilities.get(&id) {
                Some(known) => *known,
                None => {
                    let found = visibility_in(&*self.event(&id)?);
                    self.visibilities.insert(id, found);
                    found
                }
            },
            None => HistoryVisibility::Shared,
        };
        let membership = match core.state_get(state, "m.room.member", self.user.as_str())? {
            Some(id) => match self.memberships.get(&id) {
                Some(known) => *known,
                None => {
                    let found = self.event(&id)?.event.membership().map(Membership::from);
                    self.memberships.insert(id, found);
                    found
                }
            },
            None => None,
        };
        let sight = Sight { visibility, membership };
        self.sights.insert(state, sight);
        Ok(sight)
    }

    fn event(&self, id: &ruma_common::EventId) -> Result<Arc<Placed>, ReadError> {
        self.room.core.holding(id)?.ok_or_else(|| crate::room::missing(id))
    }
}

/// What an `m.room.history_visibility` event says.
fn visibility_in(placed: &Placed) -> HistoryVisibility {
    #[derive(Deserialize)]
    struct Content {
        history_visibility: String,
    }
    serde_json::from_str::<Content>(placed.event.content().get())
        .map_or(HistoryVisibility::Shared, |content| HistoryVisibility::parse(&content.history_visibility))
}

impl Room {
    /// An event, if `user` may see it.
    ///
    /// # Errors
    /// `NoSuchEvent` when it is not there, or not to be seen: both look the same to who asks.
    pub fn visible_event(&self, user: &UserId, id: &ruma_common::EventId) -> Result<Arc<Placed>, ReadError> {
        let placed = self.event(id)?.ok_or(ReadError::NoSuchEvent)?;
        let mut viewer = Viewer::new(self, user)?;
        match viewer.may_see(&placed)? {
            true => Ok(placed),
            false => Err(ReadError::NoSuchEvent),
        }
    }
}
