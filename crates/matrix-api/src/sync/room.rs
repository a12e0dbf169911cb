//! One room of an answer: timeline, state, summary, receipts and typing, account data, unread counts.

use std::sync::Arc;

use koine_account::RoomAccountData;
use koine_room::{Direction, Membership, MembershipRecord, Order, Page, Placed, ReadError, Room, Root, Span, Viewer};
use serde_json::{json, value::RawValue};

use super::{get_sync::Look, out::Out};
use crate::{
    Result,
    event::{self, Shown},
    token::SyncToken,
};
use koine_graph::ClientForm;

/// Events of a timeline when the filter does not say.
const TIMELINE_LIMIT_DEFAULT: usize = 10;
/// Most events of a timeline.
const TIMELINE_LIMIT_MAX: usize = 100;

/// A room as one reader gets it now.
pub(super) struct Section<'a> {
    pub(super) room: &'a Arc<Room>,
    pub(super) record: &'a MembershipRecord,
    /// The reader knows everything up to here; `None` for who knows nothing of the room.
    pub(super) since: Option<Order>,
    /// The reader is told everything up to here.
    pub(super) until: Order,
    /// The reader may know the state up to here: for who left, the leaving, whatever became of their membership since.
    /// `None` for who never was in the room.
    pub(super) state_until: Option<Order>,
    pub(super) timeline: Page,
    /// There is more between what the reader knows and the timeline.
    limited: bool,
}

impl Look<'_> {
    /// A joined or left room. Nothing is written when there is nothing to tell.
    pub(super) fn timeline_room(
        &self,
        room: &Arc<Room>,
        record: &MembershipRecord,
        account_data: &[RoomAccountData],
        out: &mut Out,
    ) -> Result<()> {
        let joined = record.membership == Membership::Join;
        let until = if joined { self.now.order() } else { record.order };
        let token = self.since.map(SyncToken::order);
        // Who came in after the token knows nothing of the room. Nor does a first sync. A room that the reader left
        // is told from the token to the leaving, or, if they never were in it, the leaving alone.
        let came_later = joined && record.joined_at.is_some_and(|at| token.is_none_or(|since| at > since));
        // Nor does who wants all members and was not told of it while they were not known.
        let wants_all = !self.filter.room.state.lazy_load_members();
        let was_partial = match token.filter(|_| joined && wants_all && !came_later) {
            Some(since) => room.whole_since()?.is_some_and(|at| at > since),
            None => false,
        };
        let came_later = came_later || was_partial;
        let since = token.filter(|_| !came_later);
        let mut viewer = Viewer::with_record(room, &self.who.user_id, Some(record.clone()));
        let timeline = self.timeline(room, record, &mut viewer, since, until)?;
        // For who is new to the room there is a gap between what they know and what they are told.
        let limited = timeline.end.is_some() || (self.since.is_some() && since.is_none());
        let state_until = match viewer.newest() {
            Err(ReadError::NotJoined) => None,
            newest => Some(newest?.min(until)),
        };
        let section = Section { room, record, since, until, state_until, timeline, limited };

        let state = self.state(&section)?;
        let ephemeral = if joined { self.ephemeral(&section)? } else { Vec::new() };
        let data = self.account_data_of(&section, account_data)?;
        let has_news = !section.timeline.events.is_empty() || limited || since.is_none() || !state.is_empty();
        if !has_news && ephemeral.is_empty() && data.is_empty() {
            return Ok(());
        }
        // Every part stands in every room: COMPAT(matrix-nio, 0.26) refuses answers without one.
        out.open_field(room.id().as_str(), b'{');
        self.write_timeline(&section, &mut viewer, out)?;
        self.write_state(&section, &state, &mut viewer, out)?;
        write_events(out, "account_data", &data);
        if joined {
            write_events(out, "ephemeral", &ephemeral);
            self.write_summary(&section, out)?;
            self.write_unread(&section, out)?;
        }
        out.close(b'}');
        Ok(())
    }

    /// A room that the reader may not look into yet. [CS-API §get_matrixclientv3sync] `invite_state`, `knock_state`
    pub(super) fn stripped_room(
        &self,
        room: &Room,
        record: &MembershipRecord,
        name: &str,
        out: &mut Out,
    ) -> Result<()> {
        out.open_field(room.id().as_str(), b'{');
        out.open_field(name, b'{');
        let shown = room.shown_to(&self.who.user_id, record)?;
        out.list_field("events", shown.iter().map(|event| event.get()));
        out.close(b'}');
        out.close(b'}');
        Ok(())
    }

    /// Account data of the room that the reader does not know; `changed` is what changed since the token.
    fn account_data_of(&self, section: &Section<'_>, changed: &[RoomAccountData]) -> Result<Vec<Vec<u8>>> {
        let filter = &self.filter.room.account_data;
        let all;
        let data = match (self.since, section.since) {
            // New to the reader since the token: what was set before belongs to it.
            (Some(_), None) => {
                let mut data = self.api.accounts.room_account_data_after(&self.who.user_id, None)?;
                data.retain(|data| data.room_id == section.room.id());
                all = data;
                &all
            }
            _ => changed,
        };
        let wanted = data.iter().filter(|data| filter.allows_type(&data.kind));
        Ok(wanted.map(|data| event::account_data(&data.kind, &data.content)).collect())
    }

    fn timeline(
        &self,
        room: &Room,
        record: &MembershipRecord,
        viewer: &mut Viewer<'_>,
        since: Option<Order>,
        until: Order,
    ) -> Result<Page> {
        let filter = &self.filter.room.timeline;
        let limit = filter.limit_or(TIMELINE_LIMIT_DEFAULT).min(TIMELINE_LIMIT_MAX);
        let span = Span { from: Some(until), to: since, direction: Direction::Backward, limit };
        // Who was in the room all the while may see everything: no look at the state of each event.
        let stayed = record.membership == Membership::Join
            && since.is_some_and(|since| record.joined_at.is_some_and(|at| at <= since));
        let mut page = room.page(span, until, |placed| {
            Ok(filter.allows(room.id(), placed) && !self.ignored.hides(placed) && (stayed || viewer.may_see(placed)?))
        })?;
        if since.is_some() {
            room.end_at_gap(&mut page)?;
        }
        // Oldest first, as answers have it.
        page.events.reverse();
        Ok(page)
    }

    fn write_timeline(&self, section: &Section<'_>, viewer: &mut Viewer<'_>, out: &mut Out) -> Result<()> {
        let timeline = &section.timeline;
        let before = timeline.events.first().map_or(section.until, |first| first.order - 1);
        let shown = self.shown(section);
        shown.expect(timeline.events.iter().map(|placed| placed.order), viewer)?;
        out.open_field("timeline", b'{');
        out.open_field("events", b'[');
        for placed in &timeline.events {
            out.raw(&shown.to_bytes(placed, viewer)?);
        }
        out.close(b']');
        out.field("limited", &section.limited);
        out.field("prev_batch", &self.api.tokens().print_place(before));
        out.close(b'}');
        Ok(())
    }

    /// How events of the section are shown. What is known of their children goes with a timeline that may not hold
    /// those. [CS-API §aggregations-of-child-events]
    pub(super) fn shown<'s>(&'s self, section: &Section<'s>) -> Shown<'s> {
        Shown {
            who: self.who,
            room: section.room,
            form: ClientForm::WithoutRoomId,
            bundles: section.limited,
            ignored: self.ignored,
        }
    }

    /// [CS-API §get_matrixclientv3sync] `summary`, when the reader is new to the room or members changed.
    fn write_summary(&self, section: &Section<'_>, out: &mut Out) -> Result<()> {
        let members_changed =
            section.limited || section.timeline.events.iter().any(|placed| placed.event.kind() == "m.room.member");
        if section.since.is_some() && !members_changed && !self.full_state {
            return Ok(());
        }
        let published = section.room.published();
        out.open_field("summary", b'{');
        if let Some(heroes) = section.room.heroes(&self.who.user_id)? {
            out.field("m.heroes", &heroes);
        }
        out.field("m.joined_member_count", &published.joined);
        out.field("m.invited_member_count", &published.invited);
        out.close(b'}');
        Ok(())
    }

    fn ephemeral(&self, section: &Section<'_>) -> Result<Vec<Box<RawValue>>> {
        let filter = &self.filter.room.ephemeral;
        let mut events: Vec<Box<RawValue>> = Vec::new();
        if filter.allows_type("m.receipt") {
            let mut receipts = section.room.receipts_after(&self.who.user_id, section.since, section.until)?;
            receipts.retain(|receipt| !self.ignored.contains(receipt.user.as_str()));
            events.extend(event::receipts(&receipts));
        }
        if filter.allows_type("m.typing") {
            let mark = self.since.filter(|_| section.since.is_some()).map_or(0, |since| since.fleeting);
            if let Some(mut users) = section.room.typing_after(mark) {
                users.retain(|user| !self.ignored.contains(user.as_str()));
                let event = json!({ "type": "m.typing", "content": { "user_ids": users } });
                events.push(serde_json::value::to_raw_value(&event).map_err(crate::Error::internal)?);
            }
        }
        Ok(events)
    }

    /// [CS-API §receiving-notifications]
    fn write_unread(&self, section: &Section<'_>, out: &mut Out) -> Result<()> {
        let threads = self.filter.room.timeline.unread_thread_notifications;
        let unread = section.room.unread(&self.who.user_id, section.record, &*self.api.unread_rules)?;
        // Who does not count by thread gets everything in one number.
        let main = if threads { unread.main } else { unread.total() };
        out.open_field("unread_notifications", b'{');
        out.field("notification_count", &main.notify);
        out.field("highlight_count", &main.highlight);
        out.close(b'}');
        if threads && !unread.threads.is_empty() {
            out.open_field("unread_thread_notifications", b'{');
            for (root, counts) in &unread.threads {
                out.open_field(root.as_str(), b'{');
                out.field("notification_count", &counts.notify);
                out.field("highlight_count", &counts.highlight);
                out.close(b'}');
            }
            out.close(b'}');
        }
        Ok(())
    }
}

/// `"name":{"events":[…]}`.
fn write_events<T: AsJson>(out: &mut Out, name: &str, events: &[T]) {
    out.open_field(name, b'{');
    out.list_field("events", events.iter().map(AsJson::as_json));
    out.close(b'}');
}

/// Something that is JSON already.
trait AsJson {
    fn as_json(&self) -> &[u8];
}

impl AsJson for Vec<u8> {
    fn as_json(&self) -> &[u8] {
        self
    }
}

impl AsJson for Box<RawValue> {
    fn as_json(&self) -> &[u8] {
        self.get().as_bytes()
    }
}

impl Section<'_> {
    /// The state at a place, or the last that the reader may know.
    pub(super) fn state_at(&self, place: Order) -> Result<Root> {
        self.state_until.map_or(Ok(Root::EMPTY), |until| state_at(self.room, place.min(until)))
    }

    /// The state that the timeline begins with.
    pub(super) fn state_before(&self) -> Result<Root> {
        self.state_at(self.timeline.events.first().map_or(self.until, |first| first.order - 1))
    }
}

/// The state of the room at a place in its timeline.
pub(crate) fn state_at(room: &Room, place: Order) -> Result<Root> {
    Ok(room.event_at(place)?.map_or(Root::EMPTY, |placed: Arc<Placed>| placed.current))
}
