//! Bookmarks: XEP-0402, which mirrors the rooms that the account is in, with the older forms of them: in private XML
//! (XEP-0048 by XEP-0049), and in a node of one item (XEP-0048 by XEP-0223).

use std::{collections::HashMap, sync::Arc};

use koine_account::{NODE_ITEMS_MAX, NodeItem};
use koine_room::{Membership, Placed, ReadError, Room};
use koine_stanza::{BareJid, Element};
use ruma_common::OwnedUserId;
use serde_json::Value;

use super::{
    notification,
    pep::{self, parse},
};
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
        (At::Account, pep::SERVER_ASSIST),
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
    let rules = core.cores.push.ruleset(owner).ok();
    let Ok(memberships) = core.rooms().memberships(owner) else { return };
    let joined = memberships.into_iter().filter(|(_, record)| record.membership == Membership::Join);
    for (no, _) in joined.take(ROOMS_MAX) {
        let Ok(room) = core.rooms().room_by_no(no) else { continue };
        let Ok(Some(address)) = bookmarkable(core, &room) else { continue };
        let Some(item) = known.get(&address.to_string()) else {
            add(core, owner, &room, &address).await;
            continue;
        };
        let refreshed = parse(&item.payload).zip(rules.as_ref());
        let refreshed =
            refreshed.and_then(|(conference, rules)| notification::refreshed(&conference, rules, room.id()));
        if let Some(conference) = refreshed {
            pep::publish_own(core, owner, NODE, &address.to_string(), &conference).await;
        }
    }
}

/// A bookmark was published by its owner.
pub(crate) async fn published(core: &Core, owner: &OwnedUserId, id: &str, conference: &Element) {
    notification::adopt(core, owner, id, conference).await;
}

/// The address of a room, if it is one that is bookmarked: neither a conversation nor a space.
fn bookmarkable(core: &Core, room: &Room) -> Result<Option<BareJid>, ReadError> {
    if core.rooms().pair_of(room.no())?.is_some() {
        return Ok(None);
    }
    let create = room.current("m.room.create", "")?;
    let kind = create.and_then(|create| create.event.content_field::<String>("type"));
    if kind.is_some() {
        return Ok(None);
    }
    muc::room_address(core, room).map(Some)
}

async fn add(core: &Arc<Core>, owner: &OwnedUserId, room: &Room, address: &BareJid) {
    let name = room.current("m.room.name", "").ok().flatten();
    let name = name.and_then(|name| name.event.content_field::<String>("name"));
    let nick = core.profile_of(owner).displayname.or_else(|| Some(owner.localpart().to_owned()));
    let conference = Element::new("conference", NODE)
        .with_attr("autojoin", "true")
        .with_attr_opt("name", name)
        .with_child_opt(nick.map(|nick| Element::text_of("nick", NODE, nick)));
    pep::publish_own(core, owner, NODE, &address.to_string(), &conference).await;
}

/// Somebody who uses XMPP came into a room by Matrix, or left one so: their clients are told, and do the same. What somebody
/// does by XMPP their client notes itself.
pub(crate) async fn moved(core: &Arc<Core>, room: &Room, placed: &Placed) -> Result<(), ReadError> {
    let event = &placed.event;
    if event.kind() != "m.room.member" {
        return Ok(());
    }
    let Some(user) = event.state_key().and_then(|user| OwnedUserId::try_from(user).ok()) else { return Ok(()) };
    if !core.is_account(&user) || !core.accounts().uses_xmpp(&user).unwrap_or(false) {
        return Ok(());
    }
    let before = match &placed.replaces {
        Some(before) => room.event(before)?,
        None => None,
    };
    let came = by_matrix(placed);
    let was = before.as_ref().is_some_and(|before| by_matrix(before));
    if came == was {
        return Ok(());
    }
    let Some(address) = bookmarkable(core, room)? else { return Ok(()) };
    let is_known = core.accounts().node_item(&user, NODE, &address.to_string()).is_ok_and(|item| item.is_some());
    match came {
        true if !is_known => add(core, &user, room, &address).await,
        false if is_known && event.membership() != Some(koine_graph::Membership::Join) => {
            pep::retract_own(core, &user, NODE, &address.to_string()).await;
        }
        _ => {}
    }
    Ok(())
}

/// Whether a membership is that of somebody who entered by Matrix.
fn by_matrix(placed: &Placed) -> bool {
    placed.event.membership() == Some(koine_graph::Membership::Join)
        && placed.event.content_field::<Value>("koine.xmpp").is_none()
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
