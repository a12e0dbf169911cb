//! The state part of a room: what a reader needs beside the timeline to know the room's state.
//!
//! Two states are compared by their persistent maps, so this costs what differs. With lazy-loaded members only
//! those are told whose events are in the timeline, each once for a device.
//! [CS-API §lazy-loading-room-members]

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use koine_room::{Placed, RoomNo, Root, Viewer};
use parking_lot::Mutex;
use ruma_common::UserId;

use super::{
    get_sync::Look,
    out::Out,
    room::{Section, state_at, state_before},
};
use crate::Result;

/// Most members remembered as told, over all devices. Past it all are forgotten, and told once more.
const SEEN_MEMBERS_MAX: usize = 200_000;

/// Which membership events each device was told of, so that lazy loading does not repeat them.
#[derive(Default)]
pub(crate) struct SeenMembers {
    told: Mutex<BTreeSet<u64>>,
    hasher: RandomState,
}

impl SeenMembers {
    /// Notes that `device` of `user` is told of `member` in the state of event `event`; whether that is new.
    fn is_new(&self, (user, device): (&UserId, &str), room: RoomNo, event: &ruma_common::EventId) -> bool {
        let hash = self.hasher.hash_one((user, device, room, event));
        let mut told = self.told.lock();
        if told.len() >= SEEN_MEMBERS_MAX {
            told.clear();
        }
        told.insert(hash)
    }
}

impl Look<'_> {
    /// The state to tell beside the timeline. [CS-API §get_matrixclientv3sync]
    pub(super) fn state(&self, section: &Section<'_>) -> Result<Vec<Arc<Placed>>> {
        let to = match self.state_after {
            true => state_at(section.room, section.until)?,
            false => state_before(section)?,
        };
        let from = match section.since.filter(|_| !self.full_state) {
            Some(since) => state_at(section.room, since)?,
            None => Root::EMPTY,
        };
        let mut events = self.changed_state(section, from, to)?;
        if self.filter.room.state.lazy_load_members() {
            self.add_timeline_members(section, to, &mut events)?;
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
        let events = section
            .room
            .state_changes(from, to, |kind, state_key| kind != "m.room.member" || all_members || state_key == own)?;
        Ok(events)
    }

    /// The members who speak in the timeline, if this device was not told of them.
    fn add_timeline_members(&self, section: &Section<'_>, state: Root, events: &mut Vec<Arc<Placed>>) -> Result<()> {
        let redundant = self.filter.room.state.include_redundant_members();
        let device = (&*self.who.user_id, self.who.device_id.as_str());
        let seen = self.api.seen_members();
        for placed in events.iter().filter(|placed| placed.event.kind() == "m.room.member") {
            seen.is_new(device, section.room.no(), placed.event.event_id());
        }
        let senders: BTreeSet<&UserId> = section.timeline.events.iter().map(|placed| placed.event.sender()).collect();
        for sender in senders {
            let Some(member) = section.room.state_event(state, "m.room.member", sender.as_str())? else { continue };
            let told = events.iter().any(|event| event.event.event_id() == member.event.event_id());
            let new = seen.is_new(device, section.room.no(), member.event.event_id());
            if !told && (new || redundant || section.since.is_none()) {
                events.push(member);
            }
        }
        Ok(())
    }
}
