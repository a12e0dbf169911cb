//! One room of an answer: timeline, state, summary, receipts and typing, account data, unread counts.

use std::sync::Arc;

use koine_account::RoomAccountData;
use koine_room::{Direction, Membership, MembershipRecord, Order, Page, Placed, Room, Span, Viewer};
use serde_json::{json, value::RawValue};

use super::{get_sync::Look, out::Out};
use crate::{Result, event};

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
    pub(super) timeline: Page,
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
        let user = &self.who.user_id;
        let joined = record.membership == Membership::Join;
        let until = if joined { self.now.order() } else { record.order };
        let token = self.since.map(|since| since.order());
        // Who came in after the token knows nothing of the room. Nor does a first sync. A room that the reader left
        // is told from the token to the leaving, or, if they never were in it, the leaving alone.
        let came_later = joined && record.joined_at.is_some_and(|at| token.is_none_or(|since| at > since));
        let since = token.filter(|_| !came_later);
        let mut viewer = Viewer::with_record(room, user, Some(record.clone()));
        let timeline = self.timeline(room, record, &mut viewer, since, until)?;
        let section = Section { room, record, since, until, timeline };

        let start = out.mark();
        out.open_field(room.id().as_str(), b'{');
        let empty = out.mark();
        if !section.timeline.events.is_empty() || section.timeline.end.is_some() || since.is_none() {
            self.write_timeline(&section, &mut viewer, out)?;
        }
        self.write_state(&section, &mut viewer, out)?;
        if joined {
            self.write_summary(&section, out)?;
            self.write_ephemeral(&section, out)?;
        }
        let data = match (self.since, since) {
            // New to the reader since the token: what was set before belongs to it.
            (Some(_), None) => self.all_account_data(room)?,
            _ => account_data.to_vec(),
        };
        let wanted = data.iter().filter(|data| self.filter.room.account_data.allows_type(&data.kind));
        let data: Vec<_> = wanted.map(|data| event::account_data(&data.kind, &data.content)).collect();
        if !data.is_empty() {
            out.open_field("account_data", b'{');
            out.list_field("events", data);
            out.close(b'}');
        }
        if out.mark() == empty {
            out.undo(start);
            return Ok(());
        }
        if joined {
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
        out.list_field("events", shown.iter().map(|placed| event::stripped(placed)));
        out.close(b'}');
        out.close(b'}');
        Ok(())
    }

    fn all_account_data(&self, room: &Room) -> Result<Vec<RoomAccountData>> {
        let mut data = self.api.accounts.room_account_data_after(&self.who.user_id, None)?;
        data.retain(|data| data.room_id == room.id());
        Ok(data)
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
            Ok(filter.allows(room.id(), placed) && (stayed || viewer.may_see(placed)?))
        })?;
        // Oldest first, as answers have it.
        page.events.reverse();
        Ok(page)
    }

    fn write_timeline(&self, section: &Section<'_>, viewer: &mut Viewer<'_>, out: &mut Out) -> Result<()> {
        let timeline = &section.timeline;
        let before = timeline.events.first().map_or(section.until, |first| first.order - 1);
        out.open_field("timeline", b'{');
        out.open_field("events", b'[');
        for placed in &timeline.events {
            out.raw(&event::room_event(self.api, self.who, section.room, placed, viewer)?);
        }
        out.close(b']');
        out.field("limited", &timeline.end.is_some());
        out.field("prev_batch", &self.api.tokens().print_place(before));
        out.close(b'}');
        Ok(())
    }

    /// [CS-API §get_matrixclientv3sync] `summary`, when the reader is new to the room or members changed.
    fn write_summary(&self, section: &Section<'_>, out: &mut Out) -> Result<()> {
        let members_changed = section.timeline.end.is_some()
            || section.timeline.events.iter().any(|placed| placed.event.kind() == "m.room.member");
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

    fn write_ephemeral(&self, section: &Section<'_>, out: &mut Out) -> Result<()> {
        let filter = &self.filter.room.ephemeral;
        let mut events: Vec<Box<RawValue>> = Vec::new();
        if filter.allows_type("m.receipt") {
            let receipts = section.room.receipts_after(&self.who.user_id, section.since, section.until)?;
            if let Some(content) = event::receipts(&receipts) {
                events.push(content);
            }
        }
        if filter.allows_type("m.typing") {
            let mark = self.since.filter(|_| section.since.is_some()).map_or(0, |since| since.fleeting);
            if let Some(users) = section.room.typing_after(mark) {
                let event = json!({ "type": "m.typing", "content": { "user_ids": users } });
                events.push(serde_json::value::to_raw_value(&event).map_err(crate::Error::internal)?);
            }
        }
        if !events.is_empty() {
            out.open_field("ephemeral", b'{');
            out.list_field("events", events.iter().map(|event| event.get()));
            out.close(b'}');
        }
        Ok(())
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
        if threads {
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

/// The state that a timeline begins with.
pub(super) fn state_before(section: &Section<'_>) -> Result<koine_room::Root> {
    Ok(match section.timeline.events.first() {
        Some(first) => first.state_before,
        None => state_at(section.room, section.until)?,
    })
}

/// The state of the room at a place in its timeline.
pub(super) fn state_at(room: &Room, place: Order) -> Result<koine_room::Root> {
    Ok(room.event_at(place)?.map_or(koine_room::Root::EMPTY, |placed: Arc<Placed>| placed.state_after))
}
