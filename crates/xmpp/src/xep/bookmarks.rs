//! Bookmarks: XEP-0402, which mirrors the rooms that the account is in, with the older forms of them: in private XML
//! (XEP-0048 by XEP-0049), and in a node of one item (XEP-0048 by XEP-0223).

use std::{collections::HashMap, sync::Arc};

use koine_account::{NODE_ITEMS_MAX, NodeItem};
use koine_room::Membership;
use koine_stanza::{BareJid, Element};
use ruma_common::OwnedUserId;

use super::pep::{self, parse};
use crate::{
    core::Core,
    iq::{At, Extension},
    muc,
};

/// One item for each room.
pub(crate) const NODE: &str = "urn:xmpp:bookmarks:1";
/// All in one item.
pub(crate) const OLD: &str = "storage:bookmarks";
/// Most rooms that are mirrored.
const ROOMS_MAX: usize = 500;

/// Advertised alone: the requests are those of PEP and of private XML.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[
        (At::Account, "urn:xmpp:bookmarks:1#compat"),
        (At::Account, "urn:xmpp:bookmarks:1#compat-pep"),
        (At::Account, "urn:xmpp:bookmarks-conversion:0"),
    ],
    handlers: &[],
};

fn kept(core: &Core, owner: &OwnedUserId) -> HashMap<String, NodeItem> {
    let most = usize::try_from(NODE_ITEMS_MAX).unwrap_or(usize::MAX);
    core.accounts().node_items(owner, NODE, most).unwrap_or_default().into_iter().collect()
}

/// Adds the rooms that the account has come into by other ways.
pub(crate) async fn mirror(core: &Arc<Core>, owner: &OwnedUserId) {
    let known = kept(core, owner);
    let Ok(memberships) = core.rooms().memberships(owner) else { return };
    let joined = memberships.into_iter().filter(|(_, record)| record.membership == Membership::Join);
    for (no, _) in joined.take(ROOMS_MAX) {
        if core.rooms().pair_of(no).is_ok_and(|pair| pair.is_some()) {
            continue;
        }
        let Ok(room) = core.rooms().room_by_no(no) else { continue };
        let is_space = room.current("m.room.create", "").ok().flatten();
        let is_space = is_space.and_then(|create| create.event.content_field::<String>("type"));
        let Ok(address) = muc::room_address(core, &room) else { continue };
        if is_space.is_some() || known.contains_key(&address.to_string()) {
            continue;
        }
        let name = room.current("m.room.name", "").ok().flatten();
        let name = name.and_then(|name| name.event.content_field::<String>("name"));
        let nick = core.profile_of(owner).displayname.or_else(|| Some(owner.localpart().to_owned()));
        let conference = Element::new("conference", NODE)
            .with_attr("autojoin", "true")
            .with_attr_opt("name", name)
            .with_child_opt(nick.map(|nick| Element::text_of("nick", NODE, nick)));
        pep::publish_own(core, owner, NODE, &address.to_string(), &conference).await;
    }
}

/// All bookmarks in the older form.
pub(crate) async fn old_form(core: &Arc<Core>, owner: &OwnedUserId) -> Element {
    mirror(core, owner).await;
    let mut all: Vec<(String, NodeItem)> = kept(core, owner).into_iter().collect();
    all.sort_by_key(|(_, item)| item.position);
    let mut storage = Element::new("storage", OLD);
    for (address, item) in all {
        let Some(new) = parse(&item.payload) else { continue };
        let mut conference = Element::new("conference", OLD).with_attr("jid", address);
        for attribute in ["name", "autojoin"] {
            conference.set_attr(attribute, new.attr(attribute));
        }
        for field in ["nick", "password"] {
            if let Some(text) = new.child_text(field, NODE) {
                conference.push(Element::text_of(field, OLD, text));
            }
        }
        storage.push(conference);
    }
    storage
}

/// Takes bookmarks in the older form: what is new or other is published, what is missing taken back.
pub(crate) async fn take_old_form(core: &Arc<Core>, owner: &OwnedUserId, storage: &Element) {
    let known = kept(core, owner);
    let mut named = Vec::new();
    for old in storage.children().filter(|child| child.is("conference", OLD)).take(ROOMS_MAX) {
        let Some(address) = old.attr("jid").and_then(|jid| BareJid::new(jid).ok()) else { continue };
        let address = address.to_string();
        let mut new = Element::new("conference", NODE);
        for attribute in ["name", "autojoin"] {
            new.set_attr(attribute, old.attr(attribute));
        }
        for field in ["nick", "password"] {
            if let Some(text) = old.child_text(field, OLD) {
                new.push(Element::text_of(field, NODE, text));
            }
        }
        // What the newer form says beyond the older stays. [XEP-0402 §compat]
        let present = known.get(&address).and_then(|item| parse(&item.payload));
        if let Some(extensions) = present.as_ref().and_then(|present| present.child("extensions", NODE)) {
            new.push(extensions.clone());
        }
        if present.as_ref() != Some(&new) {
            pep::publish_own(core, owner, NODE, &address, &new).await;
        }
        named.push(address);
    }
    for address in known.keys().filter(|address| !named.contains(address)) {
        pep::retract_own(core, owner, NODE, address).await;
    }
}
