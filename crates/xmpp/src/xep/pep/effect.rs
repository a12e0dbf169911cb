//! Nodes that mean something to the rest of the server: name, avatar, what was read.

use std::sync::Arc;

use koine_account::{Access, NODE_ITEMS_MAX, NodeConfig, SendLast};
use koine_projection::message::Names as _;
use koine_room::ReceiptType;
use koine_stanza::{Condition, Element, Jid, StanzaError, ns};
use ruma_common::{OwnedUserId, UserId};
use serde_json::json;

use super::pubsub_error;
use crate::{
    address::Place,
    core::Core,
    im::Talk,
    session::Session,
    xep::{
        avatar,
        bookmarks::{self, NODE as BOOKMARKS, OLD as OLD_BOOKMARKS},
    },
};

/// [XEP-0172]
pub(super) const NICK: &str = "http://jabber.org/protocol/nick";
/// [XEP-0490]
const DISPLAYED: &str = "urn:xmpp:mds:displayed:0";

/// The server notes what was read, where a marker asks for it. [XEP-0490 §server-assist]
pub(crate) const SERVER_ASSIST: &str = "urn:xmpp:mds:server-assist:0";

/// A message of a session that asks that it be noted what its account has read: notes it. What is left of the message.
/// [XEP-0490 §server-assist]
pub(crate) async fn assist(core: &Arc<Core>, session: &Session, stanza: &Element, to: &Jid) -> Option<Element> {
    let payload = stanza.child("displayed", DISPLAYED)?;
    let (owner, chat) = (session.user(), to.to_bare().to_string());
    publish(core, owner, DISPLAYED, &chat, payload).await;
    displayed(core, owner, &chat, payload).await;
    let mut rest = stanza.clone();
    rest.retain_children(|child| child.ns() != DISPLAYED);
    Some(rest)
}

/// How a node is configured that nobody configured. [XEP-0163 §defaults]
pub(super) fn usual(node: &str) -> NodeConfig {
    let private = NodeConfig { access: Access::Whitelist, ..NodeConfig::default() };
    match node {
        BOOKMARKS | DISPLAYED => NodeConfig { max_items: NODE_ITEMS_MAX, send_last: SendLast::Never, ..private },
        OLD_BOOKMARKS => private,
        _ => NodeConfig::default(),
    }
}

/// What must be right before an item is published.
pub(super) async fn before(
    _core: &Arc<Core>,
    _owner: &UserId,
    node: &str,
    id: &str,
    payload: Option<&Element>,
) -> Result<(), StanzaError> {
    let invalid = |text: &str| Err(pubsub_error(Condition::BadRequest, "invalid-payload", text));
    match (node, payload) {
        (NICK, Some(payload)) if payload.text().chars().count() > koine_account::DISPLAY_NAME_CHARS_MAX => {
            invalid("a nickname has at most 256 characters")
        }
        (BOOKMARKS | DISPLAYED, _) if Jid::new(id).is_err() => invalid("items of this node are named by an address"),
        (avatar::DATA, Some(payload)) if avatar::decoded(payload).is_none() => invalid("this is no picture in base64"),
        _ => Ok(()),
    }
}

/// What follows from an item that was published.
pub(super) async fn after(core: &Arc<Core>, owner: &OwnedUserId, node: &str, id: &str, payload: Option<&Element>) {
    match (node, payload) {
        (NICK, payload) => {
            let name = payload.map(Element::text).unwrap_or_default();
            set_profile(core, owner, "displayname", &name).await;
        }
        (avatar::METADATA, Some(payload)) => avatar::adopt(core, owner, payload).await,
        (OLD_BOOKMARKS, Some(payload)) => Box::pin(bookmarks::take_old_form(core, owner, payload)).await,
        (BOOKMARKS, Some(payload)) => bookmarks::published(core, owner, id, payload).await,
        (DISPLAYED, Some(payload)) => displayed(core, owner, id, payload).await,
        _ => {}
    }
}

/// Sets a field of the one profile, and carries it into rooms.
pub(crate) async fn set_profile(core: &Arc<Core>, owner: &OwnedUserId, field: &str, value: &str) {
    if let Err(error) = core.accounts().set_profile_field(owner, field, json!(value)).await {
        tracing::warn!(user_id = %owner, reason = %error, "a profile was not changed");
        return;
    }
    if let Err(error) = core.rooms().profile_changed(owner, &core.profile_of(owner)).await {
        tracing::warn!(user_id = %owner, reason = %error, "a profile was not carried into all rooms");
    }
}

/// The account has read up to a message. [XEP-0490]
async fn displayed(core: &Arc<Core>, owner: &OwnedUserId, chat: &str, payload: &Element) {
    let Some(id) = payload.children().find(|child| child.name() == "stanza-id").and_then(Element::id) else { return };
    let Ok(chat) = Jid::new(chat) else { return };
    let room = match core.place(&chat) {
        Place::Account(_) | Place::Matrix | Place::Elsewhere => {
            let Some(peer) = core.person_of(&chat.to_bare()) else { return };
            let Ok(Some(no)) = core.rooms().room_of_two(owner, &peer) else { return };
            let Ok(room) = core.rooms().room_by_no(no) else { return };
            let event = Talk::new(core, &room, (owner, &peer)).event_of(id);
            event.map(|event| (room, event))
        }
        Place::Room => {
            let Ok(event) = ruma_common::OwnedEventId::try_from(id) else { return };
            core.rooms().find_event(&event).ok().flatten().map(|(room, _)| (room, event))
        }
        _ => None,
    };
    let Some((room, event)) = room else { return };
    if let Err(error) = core.rooms().set_receipt(owner, room.id(), ReceiptType::ReadPrivate, &event, None).await {
        tracing::debug!(user_id = %owner, reason = %error, "what was read is not known to Matrix");
    }
}

/// Whether a node mirrors something else, and is brought up to date when it is read.
pub(super) fn is_mirrored(node: &str) -> bool {
    matches!(node, BOOKMARKS | OLD_BOOKMARKS | NICK)
}

/// Brings a node up to date that mirrors something else; what is read next is the present.
pub(super) async fn refresh(core: &Arc<Core>, owner: &OwnedUserId, node: &str) {
    match node {
        BOOKMARKS => return bookmarks::mirror(core, owner).await,
        OLD_BOOKMARKS => {
            let storage = bookmarks::old_form(core, owner).await;
            return publish(core, owner, OLD_BOOKMARKS, "current", &storage).await;
        }
        NICK => {}
        _ => return,
    }
    let Ok((name, _)) = core.accounts().display_profile(owner) else { return };
    let Some(name) = name else { return };
    let newest = core.accounts().node_items(owner, NICK, 1).ok().and_then(|mut items| items.pop());
    let payload = Element::text_of("nick", NICK, name);
    if newest.is_some_and(|(_, item)| item.payload == payload.to_xml()) {
        return;
    }
    publish(core, owner, NICK, "current", &payload).await;
}

/// Publishes an item in the owner's name.
pub(crate) async fn publish(core: &Arc<Core>, owner: &OwnedUserId, node: &str, id: &str, payload: &Element) {
    let publishing = koine_account::Publishing {
        node: node.to_owned(),
        id: id.to_owned(),
        publisher: core.jid_of(owner).map(|jid| jid.to_string()).unwrap_or_default(),
        payload: payload.to_xml(),
        precondition: |_, _| true,
        config: usual(node),
    };
    match core.accounts().publish(owner, publishing).await {
        Ok((_, config)) => super::notify::published(core, owner, (node, &config), (id, Some(payload))).await,
        Err(error) => tracing::warn!(user_id = %owner, reason = %error, "a node could not be brought up to date"),
    }
}

/// Takes an item back in the owner's name.
pub(crate) async fn retract(core: &Arc<Core>, owner: &OwnedUserId, node: &str, id: &str) {
    match core.accounts().retract(owner, node, id).await {
        Ok(config) => {
            let gone = Element::new("retract", ns::PUBSUB_EVENT).with_attr("id", id);
            let items = Element::new("items", ns::PUBSUB_EVENT).with_attr("node", node).with_child(gone);
            super::notify::tell(core, owner, (node, &config), items).await;
        }
        Err(error) => tracing::warn!(user_id = %owner, reason = %error, "an item could not be taken back"),
    }
}
