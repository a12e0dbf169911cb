//! The public list of rooms. [CS-API §published-room-directory]
//!
//! Largest rooms first; rooms of the same size by age. A page's token names the last room of the page before by that
//! order, so that a list that changes meanwhile neither repeats nor skips the rooms that stay.

use std::{cmp::Reverse, collections::BTreeSet};

use koine_store::Direction;
use ruma_common::OwnedRoomId;

use crate::{
    error::ReadError,
    registry::Rooms,
    room::Room,
    tables::{HEAD, NETWORK_LISTED, PUBLIC, RoomNo},
    visibility::HistoryVisibility,
};

/// Most rooms on one page.
pub const DIRECTORY_PAGE_MAX: usize = 500;
/// Most rooms that the list tells of.
pub const DIRECTORY_LISTED_MAX: usize = 50_000;
/// Most rooms that one question looks into; a search that found too few by then goes on with the next page.
pub const DIRECTORY_LOOK_MAX: usize = 2_000;

/// What somebody outside may know of a room. [CS-API §definition-publishedroomschunk]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Its name.
    pub name: Option<String>,
    /// Its topic, as plain text.
    pub topic: Option<String>,
    /// Its main alias.
    pub canonical_alias: Option<String>,
    /// Its picture.
    pub avatar_url: Option<String>,
    /// How one gets in.
    pub join_rule: Option<String>,
    /// What kind of room it is, such as `m.space`.
    pub room_type: Option<String>,
    /// Members joined.
    pub joined: u64,
    /// Anyone may read it.
    pub world_readable: bool,
    /// Guests may come in.
    pub guest_can_join: bool,
}

/// Which of the lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DirectoryList {
    /// That of this server.
    #[default]
    Own,
    /// That of another network, by the name that its bridge listed rooms under.
    Network(String),
    /// All of them together.
    All,
}

impl DirectoryList {
    /// The list that a question names, if both of its parts can be true. [CS-API §post_matrixclientv3publicrooms]
    pub fn named(all_networks: bool, network: Option<String>) -> Result<Self, &'static str> {
        match (all_networks, network.filter(|network| !network.is_empty())) {
            (false, None) => Ok(Self::Own),
            (false, Some(network)) => Ok(Self::Network(network)),
            (true, None) => Ok(Self::All),
            (true, Some(_)) => Err("`third_party_instance_id` cannot go with `include_all_networks`"),
        }
    }
}

/// Which listed rooms to tell.
#[derive(Clone, Debug, Default)]
pub struct DirectoryQuery {
    /// Out of which list.
    pub list: DirectoryList,
    /// Rooms wanted.
    pub limit: usize,
    /// Token of another page.
    pub since: Option<String>,
    /// Part of name, topic or alias, in whatever case.
    pub term: Option<String>,
    /// Kinds of rooms; `None` inside is the ordinary kind.
    pub room_types: Option<Vec<Option<String>>>,
}

/// A page of the list.
#[derive(Debug, Default)]
pub struct DirectoryPage {
    /// The rooms.
    pub rooms: Vec<Summary>,
    /// Token of the page after.
    pub next: Option<String>,
    /// Token of the page before.
    pub previous: Option<String>,
    /// How many rooms are listed.
    pub total: usize,
}

type Place = (Reverse<u64>, RoomNo);

impl Rooms {
    /// A page of the list of public rooms.
    ///
    /// # Errors
    /// `BadToken`
    pub fn directory(&self, query: &DirectoryQuery) -> Result<DirectoryPage, ReadError> {
        let since = query.since.as_deref().map(parse_token).transpose()?;
        let limit = query.limit.clamp(1, DIRECTORY_PAGE_MAX);
        let mut places = self.listed(&query.list)?;
        let mut page = DirectoryPage { total: places.len(), ..DirectoryPage::default() };
        let backward = since.is_some_and(|(direction, _)| direction == Direction::Backward);
        match since {
            Some((Direction::Forward, place)) => places.retain(|other| *other > place),
            Some((Direction::Backward, place)) => {
                places.retain(|other| *other < place);
                places.reverse();
            }
            None => {}
        }
        let term = query.term.as_deref().map(str::to_lowercase).filter(|term| !term.is_empty());
        let mut looked: Vec<Place> = Vec::new();
        let mut more = false;
        for place in places {
            if page.rooms.len() == limit || looked.len() == DIRECTORY_LOOK_MAX {
                more = true;
                break;
            }
            looked.push(place);
            let summary = self.room_by_no(place.1)?.summary()?;
            if matches(&summary, term.as_deref(), query.room_types.as_deref()) {
                page.rooms.push(summary);
            }
        }
        if backward {
            looked.reverse();
            page.rooms.reverse();
        }
        if (more && !backward) || (backward && !looked.is_empty()) {
            page.next = looked.last().map(|place| token('n', *place));
        }
        if (more && backward) || (since.is_some() && !backward) {
            page.previous = looked.first().map(|place| token('p', *place));
        }
        Ok(page)
    }

    /// Listed rooms that somebody is in, in the order of the list.
    fn listed(&self, list: &DirectoryList) -> Result<Vec<Place>, ReadError> {
        let (view, domain) = (self.core.shard.view(), self.core.domain());
        let mut listed: BTreeSet<RoomNo> = BTreeSet::new();
        if !matches!(list, DirectoryList::Network(_)) {
            for row in view.scan(&PUBLIC, domain, .., Direction::Forward).take(DIRECTORY_LISTED_MAX) {
                listed.insert(row?.0);
            }
        }
        if *list != DirectoryList::Own {
            for row in view.scan(&NETWORK_LISTED, domain, .., Direction::Forward).take(DIRECTORY_LISTED_MAX) {
                let ((no, network), ()) = row?;
                if !matches!(list, DirectoryList::Network(wanted) if *wanted != network) {
                    listed.insert(no);
                }
            }
        }
        let mut places = Vec::new();
        for no in listed {
            if let Some(head) = view.get(&HEAD, domain, &no)?.filter(|head| head.joined > 0) {
                places.push((Reverse(head.joined), no));
            }
        }
        places.sort_unstable();
        Ok(places)
    }
}

fn matches(summary: &Summary, term: Option<&str>, room_types: Option<&[Option<String>]>) -> bool {
    let contains =
        |text: &Option<String>, term: &str| text.as_deref().is_some_and(|text| text.to_lowercase().contains(term));
    let by_term = term.is_none_or(|term| {
        contains(&summary.name, term)
            || contains(&summary.topic, term)
            || contains(&summary.canonical_alias, term)
            || summary.room_id.as_str().to_lowercase() == term
    });
    by_term && room_types.is_none_or(|types| types.contains(&summary.room_type))
}

fn token(direction: char, (Reverse(joined), no): Place) -> String {
    format!("{direction}{joined}_{no}")
}

fn parse_token(text: &str) -> Result<(Direction, Place), ReadError> {
    let bad = || ReadError::BadToken(text.to_owned());
    let (direction, rest) = match text.split_at_checked(1) {
        Some(("n", rest)) => (Direction::Forward, rest),
        Some(("p", rest)) => (Direction::Backward, rest),
        _ => return Err(bad()),
    };
    let (joined, no) = rest.split_once('_').ok_or_else(bad)?;
    Ok((direction, (Reverse(joined.parse().map_err(|_| bad())?), no.parse().map_err(|_| bad())?)))
}

impl Room {
    /// What somebody outside may know of the room.
    pub fn summary(&self) -> Result<Summary, ReadError> {
        let text = |kind: &str, field: &str| -> Result<Option<String>, ReadError> {
            let found = self.current(kind, "")?.and_then(|placed| placed.event.content_field::<String>(field));
            Ok(found.filter(|text| !text.is_empty()))
        };
        let visibility = text("m.room.history_visibility", "history_visibility")?;
        Ok(Summary {
            room_id: self.id().to_owned(),
            name: text("m.room.name", "name")?,
            topic: text("m.room.topic", "topic")?,
            canonical_alias: text("m.room.canonical_alias", "alias")?,
            avatar_url: text("m.room.avatar", "url")?,
            join_rule: text("m.room.join_rules", "join_rule")?,
            room_type: text("m.room.create", "type")?,
            joined: self.published().joined,
            world_readable: visibility.as_deref().map(HistoryVisibility::parse)
                == Some(HistoryVisibility::WorldReadable),
            guest_can_join: text("m.room.guest_access", "guest_access")?.as_deref() == Some("can_join"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_understood_again_and_others_are_not() {
        let place = (Reverse(12), 7);
        assert_eq!(parse_token(&token('p', place)).unwrap(), (Direction::Backward, place));
        for bad in ["", "n", "n1", "x1_2", "n1_2_3", "nä_1"] {
            assert!(matches!(parse_token(bad), Err(ReadError::BadToken(_))), "{bad}");
        }
    }
}
