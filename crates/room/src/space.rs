//! The tree of a space, also where it goes on in rooms that only other servers know.
//! [CS-API §get_matrixclientv1roomsroomidhierarchy] [SS-API §get_matrixfederationv1hierarchyroomid]

use std::{collections::HashSet, sync::Arc};

use ruma_common::{OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId};
use serde_json::{Value, value::RawValue};

use crate::{
    error::{CommandError, ReadError},
    preview::Preview,
    registry::Rooms,
    room::Room,
};

/// Deepest level of a space that is looked at; the space itself is level 0.
pub const HIERARCHY_DEPTH_MAX: usize = 50;
/// Most rooms that one walk through a space visits, those shown on earlier pages included.
pub const HIERARCHY_ROOMS_MAX: usize = 2_000;
/// Most children of one space.
pub const SPACE_CHILDREN_MAX: usize = 1_000;
/// Most children of spaces that one walk looks at, whether they count or not.
pub const CHILDREN_LOOK_MAX: usize = 50_000;
/// Most children that wait for their turn in one walk.
const WAITING_MAX: usize = 10_000;
/// Most questions to other servers in one walk.
const ASKED_MAX: usize = 50;
/// Longest `order` of a child that counts. [CS-API §ordering-of-children-within-a-space]
const CHILD_ORDER_BYTES_MAX: usize = 50;

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
    /// The rooms.
    pub rooms: Vec<SpaceRoom>,
    /// There is more.
    pub more: bool,
}

/// A room of a space.
#[derive(Clone, Debug)]
pub struct SpaceRoom {
    /// What may be known of it.
    pub preview: Preview,
    /// Its children, in their order; none for a room that is no space.
    pub children: Vec<SpaceChild>,
}

/// What an `m.space.child` event says. [CS-API §mspacechild]
#[derive(Clone, Debug)]
pub struct SpaceChild {
    /// The child.
    pub room_id: OwnedRoomId,
    /// Who says so.
    pub sender: String,
    /// When, in milliseconds since the epoch.
    pub origin_server_ts: u64,
    /// The event's content.
    pub content: Box<RawValue>,
}

impl SpaceChild {
    /// Servers that may know the child, without `ours`.
    fn via(&self, ours: &ServerName) -> Vec<OwnedServerName> {
        #[derive(serde::Deserialize)]
        struct Content {
            via: Vec<String>,
        }
        let content: Option<Content> = serde_json::from_str(self.content.get()).ok();
        let via = content.into_iter().flat_map(|content| content.via);
        via.filter_map(|server| OwnedServerName::try_from(server).ok()).filter(|server| server != ours).collect()
    }
}

/// A room and its children, as another server tells of them. [SS-API §get_matrixfederationv1hierarchyroomid]
#[derive(Clone, Debug)]
pub struct ToldSpace {
    /// The room.
    pub room: SpaceRoom,
    /// What may be known of its children, as far as that server knows.
    pub children: Vec<Preview>,
    /// Children that nobody of ours could come into.
    pub inaccessible: Vec<OwnedRoomId>,
}

/// A room that waits for its turn.
struct Waiting {
    id: OwnedRoomId,
    depth: usize,
    via: Vec<OwnedServerName>,
    /// What the server of the space told of it.
    told: Option<Preview>,
}

impl Rooms {
    /// A part of the tree below a space, as `user` may see it. Other servers are asked for children that this one does
    /// not know; what nobody knows is left out.
    ///
    /// # Errors
    /// `NotJoined` when `user` may not see the space itself.
    pub async fn hierarchy(
        &self,
        user: &UserId,
        space: &RoomId,
        query: HierarchyQuery,
    ) -> Result<Hierarchy, CommandError> {
        let mut walk = Walk {
            rooms: self,
            user: Some(user),
            suggested_only: query.suggested_only,
            asked: 0,
            look: CHILDREN_LOOK_MAX,
        };
        let mut visited: HashSet<OwnedRoomId> = HashSet::new();
        let mut shut: HashSet<OwnedRoomId> = HashSet::new();
        let via = self.way_in(space, user, &[]).ok().flatten().unwrap_or_default();
        let mut waiting = vec![Waiting { id: space.to_owned(), depth: 0, via, told: None }];
        let mut page = Hierarchy::default();
        while let Some(next) = waiting.pop() {
            if visited.len() >= HIERARCHY_ROOMS_MAX {
                break;
            }
            if visited.contains(&next.id) || shut.contains(&next.id) {
                continue;
            }
            let depth = next.depth;
            let Some((room, mut told)) = walk.look(next, &mut shut).await? else {
                if visited.is_empty() {
                    return Err(CommandError::NotJoined);
                }
                continue;
            };
            if page.rooms.len() == query.limit {
                page.more = true;
                break;
            }
            visited.insert(room.preview.summary.room_id.clone());
            if depth < query.max_depth.min(HIERARCHY_DEPTH_MAX) {
                // The last one in is the first one out.
                for child in room.children.iter().rev() {
                    if visited.contains(&child.room_id) || waiting.len() >= WAITING_MAX {
                        continue;
                    }
                    let at = told.iter().position(|told| told.summary.room_id == child.room_id);
                    let told = at.map(|at| told.swap_remove(at));
                    waiting.push(Waiting {
                        id: child.room_id.clone(),
                        depth: depth + 1,
                        via: child.via(self.server_name()),
                        told,
                    });
                }
            }
            if visited.len() > query.skip {
                page.rooms.push(room);
            }
        }
        Ok(page)
    }

    /// What `user`, or a stranger, may know of a room, which one of `via` may know if nobody of ours is in it. `None`: as
    /// good as no room.
    pub async fn find_preview(
        &self,
        user: Option<&UserId>,
        room: &RoomId,
        via: &[OwnedServerName],
    ) -> Result<Option<Preview>, CommandError> {
        let mut walk = Walk { rooms: self, user, suggested_only: false, asked: 0, look: CHILDREN_LOOK_MAX };
        let via = match user {
            Some(user) => self.way_in(room, user, via).ok().flatten().unwrap_or_default(),
            None => Vec::new(),
        };
        let next = Waiting { id: room.to_owned(), depth: 0, via, told: None };
        Ok(walk.look(next, &mut HashSet::new()).await?.map(|(room, _)| room.preview))
    }
}

/// Looks at one room after the other.
struct Walk<'a> {
    rooms: &'a Rooms,
    user: Option<&'a UserId>,
    suggested_only: bool,
    asked: usize,
    /// Children that may still be looked at.
    look: usize,
}

impl Walk<'_> {
    /// A room, and what another server told of its children. `None` for one that nobody knows, or the user may not.
    async fn look(
        &mut self,
        next: Waiting,
        shut: &mut HashSet<OwnedRoomId>,
    ) -> Result<Option<(SpaceRoom, Vec<Preview>)>, CommandError> {
        let known = match self.rooms.room(&next.id) {
            Ok(room) => Some(room),
            Err(ReadError::NoSuchRoom) => None,
            Err(error) => return Err(error.into()),
        };
        // A room that only ever was ours is told of as it stands.
        if let Some(room) = known.filter(|room| room.is_attended() || next.via.is_empty()) {
            if !self.rooms.may_preview(&room, self.user)? {
                return Ok(None);
            }
            return Ok(Some((room.as_part_of_walk(self.suggested_only, &mut self.look)?, Vec::new())));
        }
        let told = match next.told {
            // Of a room that is no space there is nothing more to be known.
            Some(told) if told.summary.room_type.as_deref() != Some("m.space") => ToldSpace {
                room: SpaceRoom { preview: told, children: Vec::new() },
                children: vec![],
                inaccessible: vec![],
            },
            _ => match self.ask(&next).await {
                Some(told) => ToldSpace::clone(&told),
                None => return Ok(None),
            },
        };
        if !self.rooms.may_know_of(&told.room.preview, self.user) {
            return Ok(None);
        }
        shut.extend(told.inaccessible);
        Ok(Some((told.room, told.children)))
    }

    async fn ask(&mut self, next: &Waiting) -> Option<Arc<ToldSpace>> {
        let elsewhere = self.rooms.elsewhere().ok()?;
        if next.via.is_empty() || self.asked >= ASKED_MAX {
            return None;
        }
        self.asked += 1;
        let told = elsewhere.space(&next.id, &next.via, self.suggested_only).await;
        told.ok().filter(|told| told.room.preview.summary.room_id == next.id)
    }
}

impl Room {
    /// The room as part of a space, of whose children at most [`CHILDREN_LOOK_MAX`] are looked at.
    pub fn as_space(&self, suggested_only: bool) -> Result<SpaceRoom, ReadError> {
        self.as_part_of_walk(suggested_only, &mut { CHILDREN_LOOK_MAX })
    }

    /// The same within what a walk may still look at.
    fn as_part_of_walk(&self, suggested_only: bool, look: &mut usize) -> Result<SpaceRoom, ReadError> {
        Ok(SpaceRoom { preview: self.preview()?, children: self.space_children(suggested_only, look)? })
    }

    /// The valid `m.space.child` events of a space, in the order of its children; none for a room that is no space.
    /// [CS-API §ordering-of-children-within-a-space]
    fn space_children(&self, suggested_only: bool, look: &mut usize) -> Result<Vec<SpaceChild>, ReadError> {
        let create = self.current("m.room.create", "")?;
        let kind: Option<String> = create.and_then(|placed| placed.event.content_field("type"));
        if kind.as_deref() != Some("m.space") {
            return Ok(Vec::new());
        }
        let mut children = Vec::new();
        let found = self.state_events_up_to(self.published().state, "m.space.child", *look)?;
        *look -= found.len();
        for child in found {
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
        let children = children.into_iter().filter_map(|(_, child)| {
            let event = &child.event;
            Some(SpaceChild {
                room_id: OwnedRoomId::try_from(event.state_key()?).ok()?,
                sender: event.sender().to_string(),
                origin_server_ts: event.origin_server_ts().get().into(),
                content: event.content().to_owned(),
            })
        });
        Ok(children.collect())
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
