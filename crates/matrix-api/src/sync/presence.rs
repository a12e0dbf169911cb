//! The part `presence`: of people who share a room with the reader, and whose presence changed or who are new to them.
//!
//! [CS-API §presence]

use std::collections::BTreeSet;

use koine_room::Contacts;
use ruma_common::{OwnedUserId, UserId};

use super::{get_sync::Look, out::Out, rooms::Changed};
use crate::{Result, keys::DeviceLists, presence};

/// Most people told of in one answer.
const PEOPLE_MAX: usize = 2_000;

impl Look<'_> {
    /// `lists` knows who came to share a room with the reader.
    pub(super) fn presence(&self, changed: &Changed, lists: &DeviceLists, out: &mut Out) -> Result<()> {
        // Who wants none is not looked for among all contacts.
        if self.filter.presence.limit() == 0 || !self.filter.presence.allows_type("m.presence") {
            return Ok(());
        }
        let people = self.people_to_tell_of(changed, lists)?;
        let limit = self.filter.presence.limit_or(PEOPLE_MAX).min(PEOPLE_MAX);
        let events: Vec<_> = people.iter().filter_map(|user| self.presence_event(user)).take(limit).collect();
        if !events.is_empty() {
            out.open_field("presence", b'{');
            out.list_field("events", events);
            out.close(b'}');
        }
        Ok(())
    }

    fn people_to_tell_of(&self, changed: &Changed, lists: &DeviceLists) -> Result<BTreeSet<OwnedUserId>> {
        let (api, user) = (self.api, &self.who.user_id);
        if self.since.is_none() || changed.all_people {
            return presence::people_around(api, user, PEOPLE_MAX);
        }
        let presences = api.accounts.presences();
        let mut people: BTreeSet<_> = changed.people.iter().filter_map(|person| presences.user(*person)).collect();
        if !people.is_empty() {
            // The room they shared when it was noted may have been left since.
            let mut contacts: Contacts<'_> = api.rooms.contacts(user)?;
            let noted = std::mem::take(&mut people);
            for other in noted {
                if contacts.contains(&other)? {
                    people.insert(other);
                }
            }
        }
        people.extend(lists.changed().cloned());
        Ok(people)
    }

    fn presence_event(&self, user: &UserId) -> Option<Vec<u8>> {
        if !self.filter.presence.allows_sender(user) {
            return None;
        }
        Some(presence::event(self.api, user, self.ignored)?.to_string().into_bytes())
    }
}
