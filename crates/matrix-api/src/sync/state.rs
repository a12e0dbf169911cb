//! The state part of a room: what a reader needs beside the timeline to know the room's state.
//!
//! Two states are compared by their persistent maps, so this costs what differs. With lazy-loaded members only
//! those are told whose events are in the timeline, each once for a device.
//! [CS-API §lazy-loading-room-members]

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use koine_room::{Placed, RoomNo, Root, Viewer};
use koine_store::Position;
use parking_lot::Mutex;
use ruma_common::{EventId, UserId};

use super::{get_sync::Look, out::Out, room::Section};
use crate::Result;

/// Most members remembered as told, over all devices. Past it all are forgotten, and told once more.
const SEEN_MEMBERS_MAX: usize = 200_000;

/// Which membership events each device was told of, so that lazy loading does not repeat them.
#[derive(Default)]
pub(crate) struct SeenMembers {
    /// The position of the answer that told. An answer can be lost on its way: it counts once its token comes back.
    told: Mutex<BTreeMap<u64, Position>>,
    hasher: RandomState,
}

impl SeenMembers {
    /// Notes that the reader's device is now told of a member by `event`; whether that is news to it.
    fn is_new(&self, look: &Look<'_>, room: RoomNo, event: &EventId) -> bool {
        let who = look.who;
        let hash = self.hasher.hash_one((&*who.user_id, who.device_id.as_str(), room, event));
        let mut told = self.told.lock();
        if told.len() >= SEEN_MEMBERS_MAX {
            told.clear();
        }
        match told.entry(hash) {
            Entry::Occupied(told) if look.since.is_some_and(|since| since.position >= *told.get()) => false,
            Entry::Occupied(mut told) => {
                told.insert(look.now.position);
                true
            }
            Entry::Vacant(untold) => {
                untold.insert(look.now.position);
                true
            }
        }
    }
}

impl Look<'_> {
    /// The state to tell beside the timeline. [CS-API §get_matrixclientv3sync]
    pub(super) fn state(&self, section: &Section<'_>) -> Result<Vec<Arc<Placed>>> {
        let to = match self.state_after {
            true => section.state_at(section.until)?,
            false => section.state_before()?,
        };
        let from = match section.since.filter(|_| !self.full_state) {
            Some(since) => section.state_at(since)?,
            None => Root::EMPTY,
        };
        let mut events = self.changed_state(section, from, to)?;
        if !self.state_after {
            self.add_hidden_state(section, to, &mut events)?;
        }
        if self.filter.room.state.lazy_load_members() {
            self.add_timeline_members(section, to, &mut events)?;
        }
        if section.state_until != Some(section.until) {
            self.add_own_membership(section, &mut events)?;
        }
        let filter = &self.filter.room.state;
        events.retain(|placed| filter.allows(section.room.id(), placed));
        Ok(events)
    }

    /// `state`, or `state_after` for who asked for that: its presence tells them that they were understood.
    pub(super) fn write_state(
        &self,
        section: &Section<'_>,
        events: &[Arc<Placed>],
        viewer: &mut Viewer<'_>,
        out: &mut Out,
    ) -> Result<()> {
        let shown = self.shown(section);
        out.open_field(if self.state_after { "state_after" } else { "state" }, b'{');
        out.open_field("events", b'[');
        for placed in events {
            out.raw(&shown.to_bytes(placed, viewer)?);
        }
        out.close(b']');
        out.close(b'}');
        Ok(())
    }

    /// What differs between two states, without members who are loaded lazily.
    fn changed_state(&self, section: &Section<'_>, from: Root, to: Root) -> Result<Vec<Arc<Placed>>> {
        if from == to {
            return Ok(Vec::new());
        }
        let own = self.who.user_id.as_str();
        let lazy = self.filter.room.state.lazy_load_members();
        // A first look at a room needs no member but oneself; later every change of membership is told.
        let all_members = !lazy || (section.since.is_some() && !self.full_state);
        if from == Root::EMPTY && !all_members {
            let mut events = section.room.state_without_members(to)?;
            events.extend(section.room.state_event(to, "m.room.member", own)?);
            return Ok(events);
        }
        let events = section
            .room
            .state_changes(from, to, |kind, state_key| kind != "m.room.member" || all_members || state_key == own)?;
        Ok(events)
    }

    /// State that changed since the timeline's first event and that its filter took out of it: otherwise the reader
    /// would never learn of it. What it replaces need not be told.
    fn add_hidden_state(&self, section: &Section<'_>, to: Root, events: &mut Vec<Arc<Placed>>) -> Result<()> {
        let end = section.state_at(section.until)?;
        for hidden in self.changed_state(section, to, end)? {
            let is_another = |other: &Arc<Placed>| other.event.event_id() != hidden.event.event_id();
            if section.timeline.events.iter().all(is_another) {
                let key = (hidden.event.kind(), hidden.event.state_key());
                events.retain(|old| (old.event.kind(), old.event.state_key()) != key);
                events.push(hidden);
            }
        }
        Ok(())
    }

    /// What became of somebody's membership outside of the room is theirs to know.
    fn add_own_membership(&self, section: &Section<'_>, events: &mut Vec<Arc<Placed>>) -> Result<()> {
        let own = section
            .room
            .event_at(section.record.order)?
            .filter(|own| own.event.state_key() == Some(self.who.user_id.as_str()));
        let Some(own) = own else { return Ok(()) };
        let is_own = |other: &Arc<Placed>| other.event.event_id() == own.event.event_id();
        let is_known = section.since.is_some_and(|since| since >= own.order) && !self.full_state;
        if is_known || (!self.state_after && section.timeline.events.iter().any(is_own)) {
            return Ok(());
        }
        let key = (own.event.kind(), own.event.state_key());
        events.retain(|old| (old.event.kind(), old.event.state_key()) != key);
        events.push(own);
        Ok(())
    }

    /// The members who speak in the timeline, if this device was not told of them.
    fn add_timeline_members(&self, section: &Section<'_>, state: Root, events: &mut Vec<Arc<Placed>>) -> Result<()> {
        let redundant = self.filter.room.state.include_redundant_members();
        let seen = self.api.seen_members();
        for placed in events.iter().filter(|placed| placed.event.kind() == "m.room.member") {
            seen.is_new(self, section.room.no(), placed.event.event_id());
        }
        let senders: BTreeSet<&UserId> = section.timeline.events.iter().map(|placed| placed.event.sender()).collect();
        for sender in senders {
            let member = match section.room.state_event(state, "m.room.member", sender.as_str())? {
                Some(member) => Some(member),
                // A room joined a moment ago may lack members.
                None => {
                    let said = section.timeline.events.iter().find(|placed| placed.event.sender() == sender);
                    said.map(|said| section.room.membership_below(said)).transpose()?.flatten()
                }
            };
            let Some(member) = member else { continue };
            let told = events.iter().any(|event| event.event.event_id() == member.event.event_id());
            let new = seen.is_new(self, section.room.no(), member.event.event_id());
            if !told && (new || redundant || section.since.is_none()) {
                events.push(member);
            }
        }
        Ok(())
    }
}
