//! Which rooms an answer tells of, and in which part: joined, invited, knocked or left.

use std::collections::HashMap;

use koine_account::RoomAccountData;
use koine_room::{Inbox, Membership, MembershipRecord, Room, RoomNo};

use super::{get_sync::Look, out::Out};
use crate::{Result, token::SyncToken};

/// What may have changed since the reader's position.
pub(super) struct Changed {
    /// Rooms to look at, with the account's membership in them.
    pub(super) rooms: Vec<(RoomNo, MembershipRecord)>,
    /// The account's own data changed.
    pub(super) account: bool,
    /// The keys of somebody who shares a room with the account changed.
    pub(super) contacts: bool,
    /// People whose presence changed.
    pub(super) people: Vec<u64>,
    /// Anybody's presence may have changed.
    pub(super) all_people: bool,
    /// Account data in rooms that changed.
    pub(super) room_account_data: HashMap<RoomNo, Vec<RoomAccountData>>,
}

impl Look<'_> {
    /// What may have changed after `since`: from the inbox if it reaches back that far, else everything.
    pub(super) fn changed(&self, inbox: &Inbox) -> Result<Changed> {
        let rooms = &self.api.rooms;
        let user = &self.who.user_id;
        let mut known = match self.since {
            Some(since) if !self.full_state => inbox.changes_after(since.position, since.fleeting),
            _ => None,
        };
        let account = known.as_ref().is_none_or(|changes| changes.account);
        let contacts = known.as_ref().is_none_or(|changes| changes.contacts);
        let all_people = known.as_ref().is_none_or(|changes| changes.all_people);
        let people = known.as_mut().map(|changes| std::mem::take(&mut changes.people)).unwrap_or_default();
        let mut room_account_data: HashMap<RoomNo, Vec<RoomAccountData>> = HashMap::new();
        if account {
            let since = self.since.filter(|_| !self.full_state).map(|since| since.position);
            for data in self.api.accounts.room_account_data_after(user, since)? {
                if let Ok(room) = rooms.room(&data.room_id) {
                    room_account_data.entry(room.no()).or_default().push(data);
                }
            }
        }
        let looked_at = match known {
            Some(changes) => {
                let mut numbers = changes.rooms;
                numbers.extend(changes.fleeting);
                numbers.extend(room_account_data.keys());
                numbers.sort_unstable();
                numbers.dedup();
                let mut found = Vec::with_capacity(numbers.len());
                for no in numbers {
                    if let Some(record) = rooms.membership(user, no)? {
                        found.push((no, record));
                    }
                }
                found
            }
            None => rooms.memberships(user)?,
        };
        Ok(Changed { rooms: looked_at, account, contacts, people, all_people, room_account_data })
    }

    /// The part `rooms` of the answer. Nothing is written when there is nothing to tell.
    pub(super) fn rooms(&self, changed: &Changed, out: &mut Out) -> Result<()> {
        let start = out.mark();
        out.open_field("rooms", b'{');
        let empty = out.mark();
        for part in [Part::Join, Part::Invite, Part::Knock, Part::Leave] {
            let before = out.mark();
            out.open_field(part.name(), b'{');
            let no_room = out.mark();
            for (no, record) in changed.rooms.iter().filter(|(_, record)| part.holds(record)) {
                let room = self.api.rooms.room_by_no(*no)?;
                if !self.filter.room.allows_room(room.id()) || !self.concerns(part, record) {
                    continue;
                }
                // Who wants all members is told of the room once they are known.
                if matches!(part, Part::Join) && room.is_partial() && !self.filter.room.state.lazy_load_members() {
                    continue;
                }
                let data = changed.room_account_data.get(no).map(Vec::as_slice).unwrap_or_default();
                match part {
                    Part::Join | Part::Leave => self.timeline_room(&room, record, data, out)?,
                    Part::Invite if self.is_unwanted(&room, record)? => {}
                    Part::Invite => self.stripped_room(&room, record, "invite_state", out)?,
                    Part::Knock => self.stripped_room(&room, record, "knock_state", out)?,
                }
            }
            if out.mark() == no_room {
                out.undo(before);
            } else {
                out.close(b'}');
            }
        }
        if out.mark() == empty {
            out.undo(start);
        } else {
            out.close(b'}');
        }
        Ok(())
    }

    /// [CS-API §ignoring-users] [CS-API §invite-permission]
    fn is_unwanted(&self, room: &Room, record: &MembershipRecord) -> Result<bool> {
        let invitation = room.event_at(record.order)?;
        Ok(invitation.is_some_and(|invitation| self.ignored.hides_invitation_by(invitation.event.sender())))
    }

    /// Whether there may be anything to tell of a room in this part.
    fn concerns(&self, part: Part, record: &MembershipRecord) -> bool {
        let since = self.since.map(SyncToken::order);
        match part {
            Part::Join => true,
            // Told once; `full_state` does not tell of old invitations again, but a first sync does.
            Part::Invite | Part::Knock => since.is_none_or(|since| record.order > since),
            Part::Leave => match since {
                // Told at the leaving, also where it was forgotten since: another device may not know of either.
                Some(since) => record.order > since,
                // Else on demand.
                None => self.filter.room.include_leave && !record.forgotten,
            },
        }
    }
}

#[derive(Clone, Copy)]
enum Part {
    Join,
    Invite,
    Knock,
    Leave,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Invite => "invite",
            Self::Knock => "knock",
            Self::Leave => "leave",
        }
    }

    fn holds(self, record: &MembershipRecord) -> bool {
        match self {
            Self::Join => record.membership == Membership::Join,
            Self::Invite => record.membership == Membership::Invite,
            Self::Knock => record.membership == Membership::Knock,
            Self::Leave => matches!(record.membership, Membership::Leave | Membership::Ban),
        }
    }
}
