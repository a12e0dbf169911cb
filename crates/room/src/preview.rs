//! What may be known of a room from outside, and by whom: summaries of rooms, and the tree of a space.
//! [CS-API §get_matrixclientv1room_summaryroomidoralias] [CS-API §get_matrixclientv1roomsroomidhierarchy]

use std::{collections::HashSet, sync::Arc};

use ruma_common::{OwnedRoomId, RoomId, UserId};
use serde_json::Value;

use crate::{
    directory::Summary,
    error::ReadError,
    registry::Rooms,
    room::{Placed, Room},
    tables::Membership,
};

/// Deepest level of a space that is looked at; the space itself is level 0.
pub const HIERARCHY_DEPTH_MAX: usize = 50;
/// Most rooms that one walk through a space visits, those shown on earlier pages included.
pub const HIERARCHY_ROOMS_MAX: usize = 2_000;
/// Most children of one space.
pub const SPACE_CHILDREN_MAX: usize = 1_000;
/// Most children that wait for their turn in one walk.
const WAITING_MAX: usize = 10_000;
/// Longest `order` of a child that counts. [CS-API §ordering-of-children-within-a-space]
const CHILD_ORDER_BYTES_MAX: usize = 50;

/// A summary with what the directory does not tell. [CS-API §get_matrixclientv1room_summaryroomidoralias]
#[derive(Clone, Debug)]
pub struct Preview {
    /// What the directory tells as well.
    pub summary: Summary,
    /// The room's version.
    pub version: String,
    /// How messages are encrypted in it.
    pub encryption: Option<String>,
    /// The rooms whose members may join; `None` where the room is not restricted.
    pub allowed_rooms: Option<Vec<OwnedRoomId>>,
}

/// Which part of a space to tell.
#[derive(Clone, Copy, Debug)]
pub struct HierarchyQuery {
    /// Levels below the space.
    pub max_depth: usize,
    /// Only children that the space suggests.
    pub suggested_only: bool,
    /// Rooms told on earlier pages.
    pub skip: usize,
    /// Rooms wanted.
    pub limit: usize,
}

/// Part of the tree of a space, depth first.
#[derive(Default)]
pub struct Hierarchy {
    /// The rooms, each with the `m.space.child` events that name its children, in their order.
    pub rooms: Vec<(Arc<Room>, Vec<Arc<Placed>>)>,
    /// There is more.
    pub more: bool,
}

impl Rooms {
    /// Whether `user`, or a stranger, may know of a room without being in it.
    ///
    /// A room that others have gone on without us is unknown: what we have of it is out of date.
    pub fn may_preview(&self, room: &Room, user: Option<&UserId>) -> Result<bool, ReadError> {
        if room.current("m.room.create", "")?.is_none() || (!room.is_attended() && !room.servers()?.is_empty()) {
            return Ok(false);
        }
        let membership = user.and_then(|user| room.local_membership(user));
        if matches!(membership, Some(Membership::Join | Membership::Invite)) {
            return Ok(true);
        }
        let visibility: Option<String> = room
            .current("m.room.history_visibility", "")?
            .and_then(|placed| placed.event.content_field("history_visibility"));
        if visibility.as_deref() == Some("world_readable") {
            return Ok(true);
        }
        if membership == Some(Membership::Ban) {
            return Ok(false);
        }
        let rules = &room.rules().authorization;
        match room.join_rule()?.as_deref() {
            Some("public") => Ok(true),
            Some("knock") if rules.knocking => Ok(true),
            Some("knock_restricted") if rules.knock_restricted_join_rule => Ok(true),
            Some("restricted") if rules.restricted_join_rule => {
                let Some(user) = user else { return Ok(false) };
                let allowed = room.allowed_rooms()?.unwrap_or_default();
                Ok(allowed.iter().any(|id| self.room(id).is_ok_and(|room| room.is_joined(user))))
            }
            _ => Ok(false),
        }
    }

    /// A part of the tree below a space, as `user` may see it. Children that this server does not know are left out.
    ///
    /// # Errors
    /// `NotJoined` when `user` may not see the space itself.
    pub fn hierarchy(&self, user: &UserId, space: &RoomId, query: HierarchyQuery) -> Result<Hierarchy, ReadError> {
        let root = self.room(space)?;
        if !self.may_preview(&root, Some(user))? {
            return Err(ReadError::NotJoined);
        }
        let mut visited: HashSet<OwnedRoomId> = HashSet::new();
        let mut waiting = vec![(space.to_owned(), 0)];
        let mut page = Hierarchy::default();
        while let Some((id, depth)) = waiting.pop() {
            if visited.len() >= HIERARCHY_ROOMS_MAX {
                break;
            }
            if visited.contains(&id) {
                continue;
            }
            let Ok(room) = self.room(&id) else { continue };
            if !self.may_preview(&room, Some(user))? {
                continue;
            }
            if page.rooms.len() == query.limit {
                page.more = true;
                break;
            }
            visited.insert(id);
            let children = room.space_children(query.suggested_only)?;
            if depth < query.max_depth.min(HIERARCHY_DEPTH_MAX) {
                // The last one in is the first one out.
                for child in children.iter().rev() {
                    let id = child.event.state_key().and_then(|id| OwnedRoomId::try_from(id).ok());
                    if let Some(id) = id.filter(|id| !visited.contains(id) && waiting.len() < WAITING_MAX) {
                        waiting.push((id, depth + 1));
                    }
                }
            }
            if visited.len() > query.skip {
                page.rooms.push((room, children));
            }
        }
        Ok(page)
    }
}

impl Room {
    /// The room as somebody outside may know it.
    pub fn preview(&self) -> Result<Preview, ReadError> {
        let encryption = self.current("m.room.encryption", "")?;
        Ok(Preview {
            summary: self.summary()?,
            version: self.version().to_string(),
            encryption: encryption.and_then(|placed| placed.event.content_field("algorithm")),
            allowed_rooms: self.allowed_rooms()?,
        })
    }

    fn join_rule(&self) -> Result<Option<String>, ReadError> {
        Ok(self.current("m.room.join_rules", "")?.and_then(|placed| placed.event.content_field("join_rule")))
    }

    /// The rooms whose members may join. [CS-API §restricted-rooms]
    fn allowed_rooms(&self) -> Result<Option<Vec<OwnedRoomId>>, ReadError> {
        let Some(rules) = self.current("m.room.join_rules", "")? else { return Ok(None) };
        let content: Value = serde_json::from_str(rules.event.content().get()).unwrap_or_default();
        if !matches!(content["join_rule"].as_str(), Some("restricted" | "knock_restricted")) {
            return Ok(None);
        }
        let conditions = content["allow"].as_array().into_iter().flatten();
        let rooms = conditions
            .filter(|condition| condition["type"] == "m.room_membership")
            .filter_map(|condition| OwnedRoomId::try_from(condition["room_id"].as_str()?).ok());
        Ok(Some(rooms.collect()))
    }

    /// The valid `m.space.child` events of a space, in the order of its children; none for a room that is no space.
    /// [CS-API §ordering-of-children-within-a-space]
    fn space_children(&self, suggested_only: bool) -> Result<Vec<Arc<Placed>>, ReadError> {
        let create = self.current("m.room.create", "")?;
        let kind: Option<String> = create.and_then(|placed| placed.event.content_field("type"));
        if kind.as_deref() != Some("m.space") {
            return Ok(Vec::new());
        }
        let mut children = Vec::new();
        for child in self.state_events(self.published().state, Some("m.space.child"))? {
            let content: Value = serde_json::from_str(child.event.content().get()).unwrap_or_default();
            // [CS-API §mspacechild] Without `via` there is no child.
            let is_child = content["via"].as_array().is_some_and(|via| !via.is_empty());
            if !is_child || (suggested_only && content["suggested"] != true) {
                continue;
            }
            let order = content["order"].as_str().filter(|order| is_order(order)).map(ToOwned::to_owned);
            children.push((order, child));
        }
        children.sort_by_cached_key(|(order, child)| {
            let age = child.event.origin_server_ts();
            (order.is_none(), order.clone(), age, child.event.state_key().map(ToOwned::to_owned))
        });
        children.truncate(SPACE_CHILDREN_MAX);
        Ok(children.into_iter().map(|(_, child)| child).collect())
    }
}

fn is_order(text: &str) -> bool {
    text.len() <= CHILD_ORDER_BYTES_MAX && text.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_short_and_printable() {
        assert!(is_order("") && is_order(" aZ~") && is_order(&"x".repeat(50)));
        assert!(!is_order(&"x".repeat(51)) && !is_order("ä") && !is_order("a\n"));
    }
}
