//! XEP-0503: Server-side spaces: each space of Matrix that somebody may see is a node of the service, and the rooms in it are its
//! items. They are read here, and changed in the space.

use std::sync::Arc;

use koine_room::{DirectoryQuery, Membership, Room};
use koine_stanza::{
    BareJid, Element, StanzaError,
    form::{Field, Form},
    ns,
};

use crate::{
    core::Core,
    error::unreadable,
    iq::{At, Extension},
    muc,
    xep::bookmarks,
};

/// The protocol.
const SPACES: &str = "urn:xmpp:spaces:0";
/// Most spaces that are listed.
const SPACES_MAX: usize = 500;

/// Nodes alone: the requests are those of publish-subscribe.
pub(crate) const EXTENSION: Extension = Extension { features: &[(At::PubsubService, SPACES)], handlers: &[] };

fn is_space(room: &Room) -> Result<bool, StanzaError> {
    let create = room.current("m.room.create", "").map_err(|error| unreadable(&error))?;
    Ok(create.and_then(|create| create.event.content_field::<String>("type")).as_deref() == Some("m.space"))
}

/// The space that a node is, if the asker may see it.
pub(super) fn find(core: &Core, node: &str, asker: &BareJid) -> Result<Option<Arc<Room>>, StanzaError> {
    let Ok(address) = BareJid::new(&format!("{node}@{}", core.hosts.rooms)) else { return Ok(None) };
    let Some(room) = muc::room_at(core, &address)? else { return Ok(None) };
    let person = core.person_of(asker);
    let seen = core.rooms().may_preview(&room, person.as_deref()).map_err(|error| unreadable(&error))?;
    Ok((seen && is_space(&room)?).then_some(room))
}

fn name(room: &Room) -> Result<String, StanzaError> {
    let name = room.current("m.room.name", "").map_err(|error| unreadable(&error))?;
    Ok(name.and_then(|name| name.event.content_field::<String>("name")).unwrap_or_default())
}

/// The node of a space.
fn node_of(core: &Core, room: &Room) -> Result<String, StanzaError> {
    let address = muc::room_address(core, room).map_err(|error| unreadable(&error))?;
    Ok(address.node().map(ToString::to_string).unwrap_or_default())
}

/// Public spaces, and those that the asker is in: nodes with their names. [XEP-0503 §list-spaces]
pub(super) fn listed(core: &Core, asker: &BareJid) -> Result<Vec<(String, String)>, StanzaError> {
    let read = |error| unreadable(&error);
    let room_types = Some(vec![Some("m.space".to_owned())]);
    let query = DirectoryQuery { limit: SPACES_MAX, room_types, ..DirectoryQuery::default() };
    let mut rooms = Vec::new();
    for summary in core.rooms().directory(&query).map_err(read)?.rooms {
        rooms.push(core.rooms().room(&summary.room_id).map_err(read)?);
    }
    if let Some(person) = core.person_of(asker) {
        for (no, record) in core.rooms().memberships(&person).map_err(read)? {
            if record.membership == Membership::Join && rooms.len() < SPACES_MAX {
                rooms.push(core.rooms().room_by_no(no).map_err(read)?);
            }
        }
    }
    let mut found = Vec::new();
    for room in rooms {
        if is_space(&room)? {
            found.push((node_of(core, &room)?, name(&room)?));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// What a space is. [XEP-0503 §space-metadata]
pub(super) fn info(node: &str, room: &Room) -> Result<Element, StanzaError> {
    let form = Form::new("result", "http://jabber.org/protocol/pubsub#meta-data")
        .with(Field::text("pubsub#type", "Kind", SPACES))
        .with(Field::text("pubsub#title", "Name", &name(room)?));
    let identity = Element::new("identity", ns::DISCO_INFO).with_attr("category", "pubsub").with_attr("type", "leaf");
    let feature = Element::new("feature", ns::DISCO_INFO).with_attr("var", ns::PUBSUB);
    let query = Element::new("query", ns::DISCO_INFO).with_attr("node", node);
    Ok(query.with_child(identity).with_child(feature).with_child(form.element()))
}

/// The rooms in a space that the asker may know of, as bookmarks: whoever made the space says what is in it, and need not know
/// that themselves. [XEP-0503 §space-content]
pub(super) fn items(core: &Core, room: &Room, asker: &BareJid) -> Result<Vec<(String, Element)>, StanzaError> {
    let read = |error| unreadable(&error);
    let mut items = Vec::new();
    for child in room.as_space(false).map_err(read)?.children {
        let Ok(child) = core.rooms().room(&child.room_id) else { continue };
        if !muc::may_know(core, &child, asker)? {
            continue;
        }
        let address = muc::room_address(core, &child).map_err(read)?;
        let name = Some(name(&child)?).filter(|name| !name.is_empty());
        let conference = Element::new("conference", bookmarks::NODE).with_attr_opt("name", name);
        items.push((address.to_string(), conference));
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use koine_room::{CreateRoom, InitialState, Preset, Profile};
    use ruma_common::RoomVersionId;
    use serde_json::{Map, json};

    use super::*;
    use crate::testing::World;

    async fn make(
        world: &World,
        name: &str,
        alias: &str,
        kind: Option<&str>,
        state: Vec<InitialState>,
    ) -> ruma_common::OwnedRoomId {
        let creator = world.core().user_of(&BareJid::new("alice@example.org").expect("an address")).expect("a name");
        let creation_content = kind.map(|kind| Map::from_iter([("type".to_owned(), json!(kind))])).unwrap_or_default();
        let alias = Some(ruma_common::RoomAliasId::parse(format!("#{alias}:example.org")).expect("an alias"));
        let new = CreateRoom {
            creator,
            profile: Profile::default(),
            version: RoomVersionId::V11,
            preset: Preset::PublicChat,
            creation_content,
            power_levels: Map::new(),
            initial_state: state,
            name: Some(name.to_owned()),
            topic: None,
            alias,
            invite: Vec::new(),
            is_direct: false,
            listed: true,
        };
        world.core().rooms().create(new).await.expect("a room")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_space_is_a_node_with_its_rooms() {
        let world = World::new();
        world.person("alice").await;
        let mut bob = world.connect("bob", "b").await;
        let room = make(&world, "Tea", "tea", None, Vec::new()).await;
        let child = InitialState {
            kind: "m.space.child".into(),
            state_key: room.to_string(),
            content: json!({ "via": ["example.org"] }),
        };
        make(&world, "The house", "house", Some("m.space"), vec![child]).await;
        let to = "pubsub.example.org";
        let list = bob.ask(&format!("<iq type='get' id='l' to='{to}'><query xmlns='{}'/></iq>", ns::DISCO_ITEMS)).await;
        let node = list.children().flat_map(Element::children).next().expect("a node");
        assert_eq!((node.attr("node"), node.attr("name")), (Some("house"), Some("The house")));
        let info = bob
            .ask(&format!("<iq type='get' id='i' to='{to}'><query xmlns='{}' node='house'/></iq>", ns::DISCO_INFO))
            .await;
        assert!(info.to_xml().contains(SPACES), "{}", info.to_xml());
        let ask = format!(
            "<iq type='get' id='g' to='{to}'><pubsub xmlns='{}'><items node='house'/></pubsub></iq>",
            ns::PUBSUB
        );
        let answer = bob.ask(&ask).await;
        let items =
            answer.child("pubsub", ns::PUBSUB).and_then(|pubsub| pubsub.child("items", ns::PUBSUB)).expect("items");
        let item = items.children().next().expect("a room");
        assert_eq!(item.id(), Some("tea@rooms.example.org"));
        assert_eq!(item.children().next().and_then(|conference| conference.attr("name")), Some("Tea"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_space_tells_nobody_of_rooms_that_are_not_for_them() {
        let world = World::new();
        let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
        let secret = CreateRoom {
            creator: alice.session.user().clone(),
            profile: Profile::default(),
            version: RoomVersionId::V11,
            preset: Preset::PrivateChat,
            creation_content: Map::new(),
            power_levels: Map::new(),
            initial_state: Vec::new(),
            name: Some("Plans".to_owned()),
            topic: None,
            alias: None,
            invite: Vec::new(),
            is_direct: false,
            listed: false,
        };
        let secret = world.core().rooms().create(secret).await.expect("a room");
        let open = make(&world, "Tea", "tea", None, Vec::new()).await;
        let child = |room: &ruma_common::OwnedRoomId| InitialState {
            kind: "m.space.child".into(),
            state_key: room.to_string(),
            content: json!({ "via": ["example.org"] }),
        };
        make(&world, "The house", "house", Some("m.space"), vec![child(&secret), child(&open)]).await;
        let ask = format!(
            "<iq type='get' id='g' to='pubsub.example.org'><pubsub xmlns='{}'><items node='house'/></pubsub></iq>",
            ns::PUBSUB
        );
        let told = bob.ask(&ask).await.to_xml();
        assert!(told.contains("Tea") && !told.contains("Plans") && !told.contains(secret.as_str()), "{told}");
        let told = alice.ask(&ask).await.to_xml();
        assert!(told.contains("Plans"), "she is in it: {told}");
    }
}
