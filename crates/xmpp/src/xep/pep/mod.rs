//! XEP-0163: Personal Eventing Protocol: every account is a publish-subscribe service of its own. [XEP-0060]
//!
//! | file | what |
//! |---|---|
//! | `serve.rs` | publishing, fetching, subscribing |
//! | `own.rs` | what the owner of a node does with it |
//! | `config.rs` | the form of a node |
//! | `notify.rs` | telling others |
//! | `caps.rs` | what a client wants to be told |
//! | `effect.rs` | nodes that mean something to the rest of the server |
//! | `service.rs` | the same for what belongs to no account, at a host of its own |
//! | `spaces.rs` | spaces of Matrix as nodes there |

mod caps;
mod config;
mod effect;
mod notify;
mod own;
mod serve;
mod service;
mod spaces;

use koine_account::{Access, NodeConfig, NodeError};
use koine_stanza::{BareJid, Condition, Element, ErrorType, StanzaError, ns};
use ruma_common::UserId;

pub(crate) use self::{
    caps::{Wants, answered, answered_remote, forget, greet, greet_remote, verification},
    effect::{SERVER_ASSIST, assist, publish as publish_own, retract as retract_own, set_profile},
    own::EXTENSION as OWNER,
    serve::{EXTENSION, parse},
    spaces::EXTENSION as SPACES,
};
use crate::{core::Core, iq::Answer};

/// Most items of a node that are discovered.
const DISCOVERED_MAX: usize = 500;

/// With a condition of the extension.
fn pubsub_error(condition: Condition, name: &'static str, text: &str) -> StanzaError {
    StanzaError::new(condition, text).with_application(Element::new(name, ns::PUBSUB_ERRORS))
}

/// [XEP-0060 §errors]
fn unsupported(feature: &'static str) -> StanzaError {
    let application = Element::new("unsupported", ns::PUBSUB_ERRORS).with_attr("feature", feature);
    StanzaError::new(Condition::FeatureNotImplemented, "this is not offered here").with_application(application)
}

fn refused(error: &NodeError) -> StanzaError {
    match error {
        NodeError::UnknownUser | NodeError::NoSuchNode | NodeError::NoSuchItem => {
            StanzaError::new(Condition::ItemNotFound, error.to_string())
        }
        NodeError::Exists => StanzaError::new(Condition::Conflict, error.to_string()),
        NodeError::OtherConfig => pubsub_error(
            Condition::Conflict,
            "precondition-not-met",
            "the node is configured otherwise: configure it first, or leave the options out",
        ),
        NodeError::TooMany => {
            pubsub_error(Condition::NotAllowed, "max-nodes-exceeded", &error.to_string()).with_type(ErrorType::Cancel)
        }
        NodeError::TooLarge(_) => pubsub_error(Condition::NotAcceptable, "payload-too-big", &error.to_string()),
        NodeError::Store(error) => {
            tracing::error!(reason = %error, "a node could not be read or written");
            StanzaError::new(Condition::InternalServerError, "the node could not be read or written: try again later")
        }
    }
}

/// What a node is, for who discovers. [XEP-0060 §entity-metadata]
pub(crate) fn node_info(core: &Core, owner: &UserId, node: &str, asker: &BareJid) -> Answer {
    let config = core.accounts().node(owner, node).map_err(|error| refused(&NodeError::Store(error)))?;
    if config.is_none()
        && service::is_its(core, owner)
        && let Some(space) = spaces::find(core, node, asker)?
    {
        return spaces::info(node, &space).map(Some);
    }
    let config = config.ok_or_else(|| refused(&NodeError::NoSuchNode))?;
    may_read(core, owner, (node, &config), asker)?;
    let identity = Element::new("identity", ns::DISCO_INFO).with_attr("category", "pubsub").with_attr("type", "leaf");
    let feature = Element::new("feature", ns::DISCO_INFO).with_attr("var", ns::PUBSUB);
    let form = config::form("result", "http://jabber.org/protocol/pubsub#meta-data", &config).element();
    let query = Element::new("query", ns::DISCO_INFO).with_attr("node", node);
    Ok(Some(query.with_child(identity).with_child(feature).with_child(form)))
}

/// Nodes of an account, or items of a node, as far as the asker may read them. [XEP-0060 §entity-nodes]
pub(crate) fn node_items(core: &Core, owner: &UserId, node: Option<&str>, asker: &BareJid) -> Answer {
    let store = |error| refused(&NodeError::Store(error));
    let own = service::address(core, owner).map(|jid| jid.to_string());
    let item = || Element::new("item", ns::DISCO_ITEMS).with_attr_opt("jid", own.clone());
    let Some(node) = node else {
        let nodes = core.accounts().nodes(owner).map_err(store)?.into_iter();
        let readable = nodes.filter(|(node, config)| may_read(core, owner, (node, config), asker).is_ok());
        let name = |config: &NodeConfig| Some(config.title.clone()).filter(|title| !title.is_empty());
        let items = readable.map(|(node, config)| item().with_attr("node", node).with_attr_opt("name", name(&config)));
        let spaces = if service::is_its(core, owner) { spaces::listed(core, asker)? } else { Vec::new() };
        let spaces = spaces.into_iter().map(|(node, name)| item().with_attr("node", node).with_attr("name", name));
        let items: Vec<Element> = items.chain(spaces).collect();
        return Ok(Some(Element::new("query", ns::DISCO_ITEMS).with_children(items)));
    };
    let config = core.accounts().node(owner, node).map_err(store)?.ok_or_else(|| refused(&NodeError::NoSuchNode))?;
    may_read(core, owner, (node, &config), asker)?;
    let items = core.accounts().node_items(owner, node, DISCOVERED_MAX).map_err(store)?;
    let items = items.into_iter().map(|(id, _)| item().with_attr("name", id));
    Ok(Some(Element::new("query", ns::DISCO_ITEMS).with_attr("node", node).with_children(items)))
}

/// The name of a node in a request.
fn node_of(element: &Element) -> Result<&str, StanzaError> {
    element
        .attr("node")
        .filter(|node| !node.is_empty())
        .ok_or_else(|| pubsub_error(Condition::BadRequest, "nodeid-required", "say which node"))
}

pub(crate) use may_read as readable;

/// Whether somebody may read a node. [XEP-0060 §accessmodels]
pub(crate) fn may_read(
    core: &Core,
    owner: &UserId,
    (node, config): (&str, &NodeConfig),
    asker: &BareJid,
) -> Result<(), StanzaError> {
    if core.jid_of(owner).as_ref() == Some(asker) {
        return Ok(());
    }
    let store = |error: koine_account::StoreUnavailable| refused(&NodeError::Store(error));
    let blocked = core.person_of(asker).is_some_and(|asker| core.has_blocked(owner, &asker));
    let asker = asker.to_string();
    let peer = core.accounts().node_peer(owner, node, &asker).map_err(store)?.unwrap_or_default();
    match peer.affiliation.as_str() {
        "outcast" => return Err(StanzaError::new(Condition::Forbidden, "the owner has shut you out")),
        "owner" | "member" | "publisher" => return Ok(()),
        _ if blocked => return Err(StanzaError::new(Condition::ItemNotFound, "there is no such node")),
        _ => {}
    }
    let contact = || core.accounts().contact(owner, &asker).map(Option::unwrap_or_default).map_err(store);
    match config.access {
        Access::Open => Ok(()),
        Access::Presence if contact()?.from => Ok(()),
        Access::Presence => Err(pubsub_error(
            Condition::NotAuthorized,
            "presence-subscription-required",
            "subscribe to the owner's presence first",
        )),
        Access::Roster => match contact()?.groups.iter().any(|group| config.groups.contains(group)) {
            true => Ok(()),
            false => Err(pubsub_error(
                Condition::NotAuthorized,
                "not-in-roster-group",
                "the owner has not listed you for this",
            )),
        },
        Access::Authorize => match peer.subscriptions.iter().any(|(_, state)| state == "subscribed") {
            true => Ok(()),
            false => Err(pubsub_error(Condition::NotAuthorized, "not-subscribed", "subscribe first")),
        },
        Access::Whitelist => {
            Err(pubsub_error(Condition::NotAllowed, "closed-node", "this node is for those whom the owner named"))
        }
    }
}

#[cfg(test)]
mod tests;
