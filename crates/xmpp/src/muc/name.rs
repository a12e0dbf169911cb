//! Which room an address means, and which address a room has.

use std::sync::Arc;

use koine_projection::room_name::{self, RoomNode};
use koine_room::{CommandError, ReadError, Room};
use koine_stanza::{BareJid, StanzaError};
use ruma_common::{OwnedRoomAliasId, RoomAliasId};

use super::{refused, unreadable};
use crate::core::Core;

/// The alias that the node of an address stands for, if it stands for one that can be.
pub(super) fn alias(core: &Core, node: &str) -> Option<OwnedRoomAliasId> {
    match room_name::parse(node)? {
        RoomNode::Alias(localpart) => RoomAliasId::parse(format!("#{localpart}:{}", core.rooms().server_name())).ok(),
        RoomNode::Id(_) => None,
    }
}

/// The room at an address; `None` where there is none.
pub(crate) fn room(core: &Core, jid: &BareJid) -> Result<Option<Arc<Room>>, StanzaError> {
    let Some(node) = jid.node() else { return Ok(None) };
    let id = match room_name::parse(node) {
        None => return Ok(None),
        Some(RoomNode::Id(id)) => id,
        Some(RoomNode::Alias(_)) => {
            let Some(alias) = alias(core, node) else { return Ok(None) };
            match core.rooms().resolve_alias(&alias) {
                Ok(id) => id,
                Err(CommandError::NoSuchAlias(_)) => return Ok(None),
                Err(error) => return Err(refused(&error)),
            }
        }
    };
    // What mirrors a room elsewhere is entered there.
    if crate::portal::mirrored(core, &id).is_some() {
        return Ok(None);
    }
    match core.rooms().room(&id) {
        Ok(room) => Ok(Some(room)),
        Err(ReadError::NoSuchRoom) => Ok(None),
        Err(error) => Err(unreadable(&error)),
    }
}

/// The address of a room: by its main alias if that is one of ours and leads here, or else by its id.
pub(crate) fn address(core: &Core, room: &Room) -> Result<BareJid, ReadError> {
    if let Some(elsewhere) = crate::portal::mirrored(core, room.id()) {
        return Ok(elsewhere);
    }
    let by_alias = || -> Result<Option<String>, ReadError> {
        let Some(event) = room.current("m.room.canonical_alias", "")? else { return Ok(None) };
        let Some(alias) = event.event.content_field::<OwnedRoomAliasId>("alias") else { return Ok(None) };
        let ours = alias.server_name() == core.rooms().server_name()
            && core.rooms().resolve_alias(&alias).is_ok_and(|id| id == room.id());
        Ok(ours.then(|| room_name::node_of_alias(alias.alias())).flatten())
    };
    let by_id = || room_name::node_of_id(room.id());
    let node = by_alias()?.unwrap_or_else(by_id);
    BareJid::new(&format!("{node}@{}", core.hosts.rooms))
        .or_else(|_| BareJid::new(&format!("{}@{}", by_id(), core.hosts.rooms)))
        .map_err(|error| ReadError::Damaged(format!("{} has no address: {error}", room.id())))
}
