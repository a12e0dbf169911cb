//! Names of rooms: room ids and aliases as the node of a JID.
//!
//! | Matrix | node |
//! |---|---|
//! | local alias `#n:example.org` | `n`, escaped as a local name |
//! | room id | `_r` and the id's bytes in base32, lower case |
//!
//! Room ids are case-sensitive and nodes are not, hence base32.

use data_encoding::BASE32_NOPAD;
use ruma_common::{OwnedRoomId, RoomId};

use crate::id;

/// What a node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomNode {
    /// The localpart of an alias of this server.
    Alias(String),
    /// A room by its id.
    Id(OwnedRoomId),
}

/// The node for a room by its id.
pub fn node_of_id(room: &RoomId) -> String {
    format!("_r{}", BASE32_NOPAD.encode(room.as_bytes()).to_ascii_lowercase())
}

/// The node for a room by the localpart of an alias; `None` for one that a node cannot carry, or that reads as an id.
pub fn node_of_alias(localpart: &str) -> Option<String> {
    let node = id::node_from_local(localpart)?;
    (parse(&node)? == RoomNode::Alias(localpart.to_owned())).then_some(node)
}

/// What a node says; `None` where it says nothing.
pub fn parse(node: &str) -> Option<RoomNode> {
    if let Some(code) = node.strip_prefix("_r")
        && let Ok(bytes) = BASE32_NOPAD.decode(code.to_ascii_uppercase().as_bytes())
        && let Ok(id) = String::from_utf8(bytes)
        && let Ok(room) = OwnedRoomId::try_from(id)
        && node_of_id(&room) == node
    {
        return Some(RoomNode::Id(room));
    }
    Some(RoomNode::Alias(id::local_from_node(node)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruma_common::room_id;

    use super::*;

    #[test]
    fn ids_and_aliases_come_back_from_their_nodes() {
        for room in [room_id!("!aBcD:example.org"), room_id!("!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM")] {
            assert_eq!(parse(&node_of_id(room)), Some(RoomNode::Id(room.to_owned())));
        }
        assert_eq!(node_of_alias("Welcome"), Some("\\57elcome".to_owned()));
        assert_eq!(parse("_room"), Some(RoomNode::Alias("_room".to_owned())));
    }

    proptest! {
        #[test]
        fn an_alias_has_one_node(alias in "[ -~]{1,30}") {
            if let Some(node) = node_of_alias(&alias) {
                prop_assert_eq!(parse(&node), Some(RoomNode::Alias(alias)));
            }
        }
    }
}
