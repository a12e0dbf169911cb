//! What the owner of a node does with it. [XEP-0060 §8]

use std::sync::Arc;

use koine_account::{NodeError, NodePeer};
use koine_stanza::{Condition, Element, Jid, StanzaError, form::Form, ns};
use ruma_common::OwnedUserId;

use super::{config, node_of, notify, refused, service};
use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// Most entries of one change.
const CHANGES_MAX: usize = 100;
/// Standings that an owner may give.
const AFFILIATIONS: [&str; 5] = ["member", "publisher", "publish-only", "outcast", "none"];

/// Asked of one's own account, and of the service by owners of its nodes.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[],
    handlers: &[Handler {
        at: &[At::Account, At::PubsubService],
        verbs: &[Verb::Get, Verb::Set],
        name: "pubsub",
        ns: ns::PUBSUB_OWNER,
        run: |core, request| Box::pin(serve(core, request)),
    }],
};

async fn serve(core: Arc<Core>, request: Request) -> Answer {
    let owner = service::owner_of(&core, &request)?;
    let payload = request.payload.clone();
    let Some(what) = payload.children().find(|child| child.ns() == ns::PUBSUB_OWNER) else {
        return Err(StanzaError::new(Condition::BadRequest, "the request does not say what it is"));
    };
    if what.name() == "default" {
        service::may_create(&core, &request, &owner)?;
        let form = config::form("form", config::NODE_CONFIG, &service::usual(&core, &owner));
        return Ok(Some(answer(Element::new("default", ns::PUBSUB_OWNER).with_child(form.element()))));
    }
    let node = node_of(what)?;
    let present = core.accounts().node(&owner, node).map_err(|error| refused(&NodeError::Store(error)))?;
    if present.is_none() {
        service::may_create(&core, &request, &owner)?;
    }
    let present = present.ok_or_else(|| refused(&NodeError::NoSuchNode))?;
    service::may_manage(&core, &request, &owner, node)?;
    match (request.verb, what.name()) {
        (Verb::Get, "configure") => {
            let form = config::form("form", config::NODE_CONFIG, &present);
            let configure = Element::new("configure", ns::PUBSUB_OWNER).with_attr("node", node);
            Ok(Some(answer(configure.with_child(form.element()))))
        }
        (Verb::Set, "configure") => configure(&core, &owner, node, what).await,
        (Verb::Set, "delete") => {
            // With the node go its subscriptions.
            let audience = notify::audience(&core, &owner, (node, &present));
            core.accounts().purge_node(&owner, node, true).await.map_err(|error| refused(&error))?;
            if present.notify_delete {
                let gone = Element::new("delete", ns::PUBSUB_EVENT).with_attr("node", node);
                audience.tell(&core, &owner, gone).await;
            }
            Ok(None)
        }
        (Verb::Set, "purge") => {
            core.accounts().purge_node(&owner, node, false).await.map_err(|error| refused(&error))?;
            if present.notify_retract {
                let gone = Element::new("purge", ns::PUBSUB_EVENT).with_attr("node", node);
                notify::tell(&core, &owner, (node, &present), gone).await;
            }
            Ok(None)
        }
        (Verb::Get, "affiliations" | "subscriptions") => standings(&core, &owner, node, what.name()),
        (Verb::Set, "affiliations" | "subscriptions") => set_standings(&core, &owner, node, what).await,
        _ => Err(StanzaError::new(Condition::FeatureNotImplemented, "this is not offered here")),
    }
}

fn answer(child: Element) -> Element {
    Element::new("pubsub", ns::PUBSUB_OWNER).with_child(child)
}

async fn configure(core: &Arc<Core>, owner: &OwnedUserId, node: &str, what: &Element) -> Answer {
    let form = Form::within(what).ok_or_else(|| StanzaError::new(Condition::BadRequest, "there is no form"))?;
    if form.kind == "cancel" {
        return Ok(None);
    }
    let present = core.accounts().node(owner, node).map_err(|error| refused(&NodeError::Store(error)))?;
    let changed = config::apply(&form, present.unwrap_or_default())?;
    core.accounts().configure_node(owner, node, changed.clone()).await.map_err(|error| refused(&error))?;
    if changed.notify_config {
        let told = Element::new("configuration", ns::PUBSUB_EVENT).with_attr("node", node);
        notify::tell(core, owner, (node, &changed), told).await;
    }
    Ok(None)
}

fn standings(core: &Core, owner: &OwnedUserId, node: &str, name: &str) -> Answer {
    let peers = core.accounts().node_peers(owner, node).map_err(|error| refused(&NodeError::Store(error)))?;
    let mut list = Element::new(name.to_owned(), ns::PUBSUB_OWNER).with_attr("node", node);
    if name == "affiliations" && !service::is_its(core, owner) {
        let own = core.jid_of(owner).map(|jid| jid.to_string());
        list.push(
            Element::new("affiliation", ns::PUBSUB_OWNER).with_attr_opt("jid", own).with_attr("affiliation", "owner"),
        );
    }
    for (jid, peer) in peers {
        if name == "affiliations" && !peer.affiliation.is_empty() {
            let entry = Element::new("affiliation", ns::PUBSUB_OWNER).with_attr("jid", jid);
            list.push(entry.with_attr("affiliation", peer.affiliation));
            continue;
        }
        if name == "subscriptions" {
            for (jid, state) in peer.subscriptions {
                let entry = Element::new("subscription", ns::PUBSUB_OWNER).with_attr("jid", jid);
                list.push(entry.with_attr("subscription", state));
            }
        }
    }
    Ok(Some(answer(list)))
}

/// [XEP-0060 §owner-affiliations] [XEP-0060 §owner-subscriptions]
async fn set_standings(core: &Arc<Core>, owner: &OwnedUserId, node: &str, what: &Element) -> Answer {
    let bad = |text: &str| StanzaError::new(Condition::NotAcceptable, text);
    let mut changes = Vec::new();
    for entry in what.children().take(CHANGES_MAX) {
        let jid = entry.attr("jid").and_then(|jid| Jid::new(jid).ok());
        let jid = jid.ok_or_else(|| StanzaError::new(Condition::JidMalformed, "`jid` is no address"))?;
        let word = entry.attr(entry.name().to_owned().as_str()).unwrap_or_default().to_owned();
        let known = match entry.name() {
            "affiliation" if word == "owner" => service::is_its(core, owner),
            "affiliation" => AFFILIATIONS.contains(&word.as_str()),
            "subscription" => matches!(word.as_str(), "none" | "pending" | "subscribed"),
            _ => false,
        };
        if !known {
            return Err(bad("there is no such standing"));
        }
        changes.push((entry.name() == "affiliation", jid, word));
    }
    if service::is_its(core, owner) && changes.iter().any(|(is_affiliation, ..)| *is_affiliation) {
        let peers = core.accounts().node_peers(owner, node).map_err(|error| refused(&NodeError::Store(error)))?;
        let mut owners: Vec<String> =
            peers.into_iter().filter(|(_, peer)| peer.affiliation == "owner").map(|(jid, _)| jid).collect();
        for (_, jid, word) in changes.iter().filter(|(is_affiliation, ..)| *is_affiliation) {
            owners.retain(|known| *known != jid.to_bare().to_string());
            owners.extend((word == "owner").then(|| jid.to_bare().to_string()));
        }
        if owners.is_empty() {
            // [XEP-0060 §owner-affiliations]
            return Err(bad("a node has an owner: make somebody else one first"));
        }
    }
    for (is_affiliation, jid, word) in changes {
        let (bare, text) = (jid.to_bare().to_string(), jid.to_string());
        let edit = move |peer: &mut NodePeer| match is_affiliation {
            true => peer.affiliation = if word == "none" { String::new() } else { word },
            false => {
                peer.subscriptions.retain(|(known, _)| *known != text);
                if word != "none" {
                    peer.subscriptions.push((text, word));
                }
            }
        };
        core.accounts().edit_node_peer(owner, node, &bare, edit).await.map_err(|error| refused(&error))?;
    }
    Ok(None)
}
