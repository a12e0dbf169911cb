//! Device lists: whose devices to ask for anew, and whose to forget.
//!
//! [CS-API §e2e-extensions-to-sync] [CS-API §tracking-the-device-list-for-a-user]. Two people see each other's changes
//! while they share a room. So `changed` are those sharing one whose keys changed, and those who came to share one:
//! what they changed before was not told. `left` are those who share none any more.

use std::collections::BTreeSet;

use koine_room::{Membership, MembershipRecord, Order, Room, RoomNo, Root};
use ruma_common::{OwnedUserId, UserId};
use serde::Serialize;

use crate::{Api, Result, token::SyncToken};

/// What changed between two places in the log.
#[derive(Debug, Default, Serialize)]
pub(crate) struct DeviceLists {
    changed: BTreeSet<OwnedUserId>,
    left: BTreeSet<OwnedUserId>,
}

impl DeviceLists {
    /// Nothing changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.left.is_empty()
    }

    /// Who came to share a room, or changed their keys.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &OwnedUserId> {
        self.changed.iter()
    }

    /// What changed for `user` after `since`. `rooms` are those of the user where something happened, with the user's
    /// membership; `keys` is whether keys of contacts or what is the user's own may have changed, so that nothing is
    /// looked for in vain.
    pub(crate) fn between(
        api: &Api,
        user: &UserId,
        (since, now): (SyncToken, SyncToken),
        rooms: &[(RoomNo, MembershipRecord)],
        keys: bool,
    ) -> Result<Self> {
        let mut lists = Self::default();
        let mut is_anybody_back = false;
        for (no, record) in rooms {
            // Who went, changed their keys and came back was none of the user's contacts when the keys changed.
            is_anybody_back |= lists.add_moves(api, user, (since.order(), now.order()), *no, record)?;
        }
        lists.left.remove(user);
        let changed =
            if keys || is_anybody_back { api.accounts.keys_changed(since.position, now.position)? } else { Vec::new() };
        if !changed.is_empty() || !lists.left.is_empty() {
            let mut contacts = api.rooms.contacts(user)?;
            for other in changed {
                if contacts.contains(&other)? {
                    lists.changed.insert(other);
                }
            }
            for other in std::mem::take(&mut lists.left) {
                if !contacts.contains(&other)? {
                    lists.left.insert(other);
                }
            }
        }
        // Somebody whose keys one signed oneself, on another device. [CS-API §post_matrixclientv3keyssignaturesupload]
        if keys {
            lists.changed.extend(api.accounts.signatures_changed(user, since.position, now.position)?);
        }
        Ok(lists)
    }

    /// Adds who came to share this room with the user, and who shared it and does so no more; answers whether somebody
    /// may have gone and come back.
    fn add_moves(
        &mut self,
        api: &Api,
        user: &UserId,
        (since, now): (Order, Order),
        no: RoomNo,
        record: &MembershipRecord,
    ) -> Result<bool> {
        let is_joined = record.membership == Membership::Join;
        let until = if is_joined { now } else { record.left_at.unwrap_or(Order::MIN) };
        if until <= since {
            return Ok(false);
        }
        let room = api.rooms.room_by_no(no)?;
        if room.published().order <= since {
            return Ok(false);
        }
        let before = state_at(&room, since)?;
        let stayed = is_joined && record.joined_at.is_some_and(|at| at <= since);
        let was_joined = stayed || room.is_joined_in(before, user)?;
        match (was_joined, is_joined) {
            (true, true) => {
                let moves = room.moves(before, state_at(&room, until)?)?;
                self.changed.extend(moves.came);
                self.left.extend(moves.went);
                return Ok(moves.may_have_returned || !stayed);
            }
            // They themselves are among them: it concerns their other devices. What others see of one changed.
            (false, true) => self.changed.extend(room.moves(Root::EMPTY, state_at(&room, until)?)?.came),
            (true, false) => self.left.extend(room.moves(Root::EMPTY, before)?.came),
            (false, false) => {}
        }
        Ok(false)
    }
}

fn state_at(room: &Room, place: Order) -> Result<Root> {
    Ok(room.event_at(place)?.map_or(Root::EMPTY, |placed| placed.state_after))
}
