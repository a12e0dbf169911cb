//! The rooms of an account as its lists sort them: by their newest event, of whatever type. What `bump_stamp` says is for
//! the client to sort by; a window that were sorted by it would miss rooms in which something happened. [MSC4186]
//!
//! Made once for an account that has lists (`indexes.rs`), then kept up with the rooms that changed. A look through a list
//! reads this alone, never a room.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use koine_room::{Membership, MembershipRecord, RoomNo};
use koine_store::Position;
use ruma_common::{OwnedRoomId, UserId};
use serde::Deserialize;

use super::{
    facts::RoomFacts,
    request::{Filters, List},
};
use crate::{Api, Result, event::Ignored};

/// The rooms of one account.
pub(super) struct Index {
    /// Changes up to here are in it.
    pub(super) position: Position,
    /// Whose invitations were left out when it was made.
    pub(super) ignored: Ignored,
    entries: HashMap<RoomNo, Entry>,
    sorted: BTreeSet<(Reverse<u64>, RoomNo)>,
}

struct Entry {
    membership: Membership,
    /// Order of the newest event.
    stirred: u64,
    is_encrypted: bool,
    room_type: Option<Arc<str>>,
}

/// The part of a list that is shown.
pub(super) struct Window {
    /// Rooms in the whole list.
    pub(super) count: usize,
    pub(super) rooms: Vec<RoomNo>,
}

impl Index {
    pub(super) fn build(api: &Api, user: &UserId, ignored: &Ignored, position: Position) -> Result<Self> {
        let (ignored, entries, sorted) = (ignored.clone(), HashMap::new(), BTreeSet::new());
        let mut index = Self { position, ignored, entries, sorted };
        for (no, record) in api.rooms.memberships(user)? {
            index.note(api, user, no, &record)?;
        }
        Ok(index)
    }

    /// Rooms in it.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes in how a room is now.
    pub(super) fn note(&mut self, api: &Api, user: &UserId, no: RoomNo, record: &MembershipRecord) -> Result<()> {
        if let Some(old) = self.entries.remove(&no) {
            self.sorted.remove(&(Reverse(old.stirred), no));
        }
        if let Some(entry) = entry(api, user, &self.ignored, no, record)? {
            self.sorted.insert((Reverse(entry.stirred), no));
            self.entries.insert(no, entry);
        }
        Ok(())
    }

    /// What of a list is shown.
    pub(super) fn window(&self, list: &List, dms: &HashSet<RoomNo>, sorting: &Sorting) -> Window {
        if list.filters.is_none() {
            return self.unfiltered(list.ranges.as_deref());
        }
        let mut window = Window { count: 0, rooms: Vec::new() };
        for (_, no) in &self.sorted {
            let Some(entry) = self.entries.get(no) else { continue };
            let passes = |filters: &Filters| entry.passes(filters, dms.contains(no)) && sorting.passes(*no, filters);
            if !list.filters.as_ref().is_none_or(passes) {
                continue;
            }
            let place = window.count as u64;
            let is_in = |(first, last): &(u64, u64)| (*first..=*last).contains(&place);
            if list.ranges.as_ref().is_none_or(|ranges| ranges.iter().any(is_in)) {
                window.rooms.push(*no);
            }
            window.count += 1;
        }
        window
    }

    /// A list of all rooms need not be walked through to its end.
    fn unfiltered(&self, ranges: Option<&[(u64, u64)]>) -> Window {
        let mut rooms = Vec::new();
        let all = [(0, u64::MAX)];
        let ranges = ranges.unwrap_or(&all);
        let end = ranges.iter().map(|(_, last)| last.saturating_add(1)).max().unwrap_or_default();
        let shown = self.sorted.iter().take(usize::try_from(end).unwrap_or(usize::MAX));
        for (place, (_, no)) in shown.enumerate() {
            if ranges.iter().any(|(first, last)| (*first..=*last).contains(&(place as u64))) {
                rooms.push(*no);
            }
        }
        Window { count: self.sorted.len(), rooms }
    }
}

impl Entry {
    fn joined(facts: RoomFacts) -> Self {
        let stirred = u64::try_from(facts.order).unwrap_or(0);
        Self { membership: Membership::Join, stirred, is_encrypted: facts.is_encrypted, room_type: facts.room_type }
    }

    fn passes(&self, filters: &Filters, is_dm: bool) -> bool {
        let is_type = |wanted: &Option<String>| wanted.as_deref() == self.room_type.as_deref();
        filters.is_dm.is_none_or(|wanted| wanted == is_dm)
            && filters.is_encrypted.is_none_or(|wanted| wanted == self.is_encrypted)
            && filters.is_invite.is_none_or(|wanted| wanted == (self.membership == Membership::Invite))
            && filters.room_types.as_ref().is_none_or(|types| types.is_empty() || types.iter().any(is_type))
            && !filters.not_room_types.as_ref().is_some_and(|types| types.iter().any(is_type))
    }
}

/// How the account sorts its rooms: what lists ask of them that is not the rooms' own.
#[derive(Default)]
pub(super) struct Sorting {
    /// Children of the spaces that the request names.
    children: HashMap<OwnedRoomId, HashSet<RoomNo>>,
    tags: HashMap<RoomNo, HashSet<String>>,
}

impl Sorting {
    /// What the lists of a request need to know, and no more.
    pub(super) fn of<'l>(api: &Api, user: &UserId, lists: impl Iterator<Item = &'l List> + Clone) -> Result<Self> {
        let mut sorting = Self::default();
        let filters = lists.filter_map(|list| list.filters.as_ref());
        for space in filters.clone().filter_map(|filters| filters.spaces.as_ref()).flatten() {
            if !sorting.children.contains_key(space) {
                sorting.children.insert(space.clone(), children_of(api, user, space)?);
            }
        }
        if filters.clone().any(|filters| filters.tags.is_some() || filters.not_tags.is_some()) {
            sorting.tags = tags_of(api, user)?;
        }
        Ok(sorting)
    }

    fn passes(&self, no: RoomNo, filters: &Filters) -> bool {
        let is_child = |space: &OwnedRoomId| self.children.get(space).is_some_and(|rooms| rooms.contains(&no));
        let has = |tag: &String| self.tags.get(&no).is_some_and(|tags| tags.contains(tag));
        filters.spaces.as_ref().is_none_or(|spaces| spaces.iter().any(is_child))
            && filters.tags.as_ref().is_none_or(|tags| tags.iter().any(has))
            && !filters.not_tags.as_ref().is_some_and(|tags| tags.iter().any(has))
    }
}

/// The rooms right below a space that the account is in. [CS-API §mspacechild]
fn children_of(api: &Api, user: &UserId, space: &OwnedRoomId) -> Result<HashSet<RoomNo>> {
    let Ok(room) = api.rooms.room(space) else { return Ok(HashSet::new()) };
    if room.local_membership(user) != Some(Membership::Join) {
        return Ok(HashSet::new());
    }
    let children = room.state_events(room.published().state, Some("m.space.child"))?;
    // Without servers to ask for it, a child is none any more.
    let children = children.iter().filter(|child| child.event.content_field::<Vec<String>>("via").is_some());
    let ids = children.filter_map(|child| OwnedRoomId::try_from(child.event.state_key()?).ok());
    Ok(ids.filter_map(|id| api.rooms.room(&id).ok()).map(|room| room.no()).collect())
}

/// [CS-API §room-tagging]
fn tags_of(api: &Api, user: &UserId) -> Result<HashMap<RoomNo, HashSet<String>>> {
    #[derive(Deserialize)]
    struct Tags {
        tags: HashMap<String, serde::de::IgnoredAny>,
    }
    let mut found = HashMap::new();
    for data in api.accounts.room_account_data_after(user, None)? {
        if data.kind != "m.tag" {
            continue;
        }
        // Clients write this; what is not understood says nothing.
        let Ok(Tags { tags }) = serde_json::from_str(&data.content) else { continue };
        if let Ok(room) = api.rooms.room(&data.room_id) {
            found.insert(room.no(), tags.into_keys().collect());
        }
    }
    Ok(found)
}

/// A room that the account is in, is to be in, or was removed from.
fn entry(api: &Api, user: &UserId, ignored: &Ignored, no: RoomNo, record: &MembershipRecord) -> Result<Option<Entry>> {
    if record.membership == Membership::Join
        && let Some(facts) = api.facts().fresh(no)
    {
        return Ok(Some(Entry::joined(facts)));
    }
    let room = api.rooms.room_by_no(no)?;
    match record.membership {
        Membership::Join => Ok(Some(Entry::joined(api.facts().of(&room)?))),
        membership @ (Membership::Invite | Membership::Knock) => {
            if is_from_ignored(&room, record, ignored)? {
                return Ok(None);
            }
            // Nothing is known to somebody outside but what they were shown.
            let mut entry = Entry {
                membership,
                stirred: u64::try_from(record.order).unwrap_or(0),
                is_encrypted: false,
                room_type: None,
            };
            for shown in room.shown_to(user, record)? {
                let Ok(shown) = serde_json::from_str::<Shown>(shown.get()) else { continue };
                match shown.kind.as_str() {
                    "m.room.encryption" => entry.is_encrypted = true,
                    "m.room.create" => entry.room_type = shown.content.room_type.map(Into::into),
                    _ => {}
                }
            }
            Ok(Some(entry))
        }
        Membership::Leave | Membership::Ban if was_removed(&room, record)? => {
            let facts = api.facts().of(&room)?;
            let stirred = u64::try_from(record.order).unwrap_or(0);
            let membership = record.membership;
            Ok(Some(Entry { membership, stirred, is_encrypted: facts.is_encrypted, room_type: facts.room_type }))
        }
        Membership::Leave | Membership::Ban => Ok(None),
    }
}

/// Whether somebody else ended the membership of who was in the room: they may not have noticed. [MSC4186]
pub(super) fn was_removed(room: &koine_room::Room, record: &MembershipRecord) -> Result<bool> {
    if record.joined_at.is_none() || record.forgotten {
        return Ok(false);
    }
    let ending = room.event_at(record.order)?;
    Ok(ending.is_some_and(|ending| ending.event.state_key() != Some(ending.event.sender().as_str())))
}

/// [CS-API §ignoring-users]
pub(super) fn is_from_ignored(room: &koine_room::Room, record: &MembershipRecord, ignored: &Ignored) -> Result<bool> {
    let invitation = room.event_at(record.order)?;
    Ok(invitation.is_some_and(|invitation| ignored.hides_invitation_by(invitation.event.sender())))
}

#[derive(Deserialize)]
struct Shown {
    #[serde(rename = "type")]
    kind: String,
    content: ShownContent,
}

#[derive(Deserialize)]
struct ShownContent {
    #[serde(default, rename = "type")]
    room_type: Option<String>,
}

/// Rooms that the account says are conversations of two. [CS-API §direct-messaging]
pub(super) fn direct_rooms(api: &Api, user: &UserId) -> Result<HashSet<RoomNo>> {
    let Some(content) = api.accounts.account_data(user, None, "m.direct")? else { return Ok(HashSet::new()) };
    // Clients write this; what is not understood says nothing.
    let direct: HashMap<String, serde_json::Value> = serde_json::from_str(&content).unwrap_or_default();
    let ids = direct.into_values().filter_map(|rooms| serde_json::from_value::<Vec<OwnedRoomId>>(rooms).ok()).flatten();
    Ok(ids.filter_map(|id| api.rooms.room(&id).ok()).map(|room| room.no()).collect())
}
