//! Publishing, fetching and subscribing. [XEP-0060 §5-7]

use std::sync::Arc;

use koine_account::{NodeConfig, NodeError, NodePeer, Publishing};
use koine_stanza::{BareJid, Condition, Element, Jid, StanzaError, form::Form, ns, rsm::PageWish};
use ruma_common::OwnedUserId;

use super::{config, effect, may_read, node_of, notify, pubsub_error, refused, service, spaces, unsupported};
use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
    xep::order::Order,
};

/// Most items on a page.
const PAGE_MAX: usize = 1_000;
/// Most addresses that one person has subscribed with.
const SUBSCRIPTIONS_MAX: usize = 10;

macro_rules! features {
    ($($name:literal),*) => {
        &[
            (At::PubsubService, ns::PUBSUB),
            $((At::Account, concat!("http://jabber.org/protocol/pubsub#", $name)),)*
            $((At::PubsubService, concat!("http://jabber.org/protocol/pubsub#", $name)),)*
        ]
    };
}

/// Asked of accounts, and of the service.
pub(crate) const EXTENSION: Extension = Extension {
    features: features![
        "access-authorize",
        "access-open",
        "access-presence",
        "access-roster",
        "access-whitelist",
        "auto-create",
        "auto-subscribe",
        "config-node",
        "config-node-max",
        "create-and-configure",
        "create-nodes",
        "delete-items",
        "delete-nodes",
        "filtered-notifications",
        "get-pending",
        "instant-nodes",
        "item-ids",
        "last-published",
        "manage-subscriptions",
        "member-affiliation",
        "meta-data",
        "modify-affiliations",
        "multi-items",
        "outcast-affiliation",
        "persistent-items",
        "publish",
        "publish-options",
        "publisher-affiliation",
        "purge-nodes",
        "retract-items",
        "retrieve-affiliations",
        "retrieve-default",
        "retrieve-items",
        "retrieve-subscriptions",
        "rsm",
        "subscribe"
    ],
    handlers: &[Handler {
        at: &[At::Account, At::PubsubService],
        verbs: &[Verb::Get, Verb::Set],
        name: "pubsub",
        ns: ns::PUBSUB,
        run: |core, request| Box::pin(serve(core, request)),
    }],
};

async fn serve(core: Arc<Core>, request: Request) -> Answer {
    let owner = service::owner_of(&core, &request)?;
    let pubsub = request.payload.clone();
    let Some(what) = pubsub.children().find(|child| child.ns() == ns::PUBSUB) else {
        return Err(StanzaError::new(Condition::BadRequest, "the request does not say what it is"));
    };
    match (request.verb, what.name()) {
        (Verb::Get, "items") => items(&core, &request, &owner, what).await,
        (Verb::Get, "subscriptions") => subscriptions(&core, &request, &owner, what),
        (Verb::Get, "affiliations") => affiliations(&core, &request, &owner, what),
        (Verb::Get, "default") => {
            let form = config::form("form", config::NODE_CONFIG, &service::usual(&core, &owner));
            Ok(Some(answer(Element::new("default", ns::PUBSUB).with_child(form.element()))))
        }
        (Verb::Set, "publish") => publish(&core, &request, owner, &pubsub, what).await,
        (Verb::Set, "retract") => retract(&core, &request, &owner, what).await,
        (Verb::Set, "create") => create(&core, &request, &owner, &pubsub, what).await,
        (Verb::Set, "subscribe") => subscribe(&core, &request, &owner, what).await,
        (Verb::Set, "unsubscribe") => unsubscribe(&core, &request, &owner, what).await,
        (_, "options") => Err(unsupported("subscription-options")),
        _ => Err(StanzaError::new(Condition::FeatureNotImplemented, "this is not offered here")),
    }
}

fn answer(child: Element) -> Element {
    Element::new("pubsub", ns::PUBSUB).with_child(child)
}

pub(super) fn item(id: &str, payload: &str) -> Element {
    let item = Element::new("item", ns::PUBSUB).with_attr("id", id);
    item.with_child_opt(parse(payload))
}

/// A payload as it was kept.
pub(crate) fn parse(payload: &str) -> Option<Element> {
    if payload.is_empty() {
        return None;
    }
    koine_stanza::reader::document(payload.as_bytes(), koine_stanza::reader::Limits::bytes(payload.len())).ok()
}

/// [XEP-0060 §subscriber-retrieve]
async fn items(core: &Arc<Core>, request: &Request, owner: &OwnedUserId, what: &Element) -> Answer {
    let node = node_of(what)?;
    let store = |error| refused(&NodeError::Store(error));
    let asker = request.from.to_bare();
    if !service::is_its(core, owner) && effect::is_mirrored(node) {
        // Written to only for who may read what is written; nobody has configured what is not there yet.
        let config = core.accounts().node(owner, node).map_err(store)?.unwrap_or_else(|| effect::usual(node));
        may_read(core, owner, (node, &config), &asker)?;
        effect::refresh(core, owner, node).await;
    }
    let config = core.accounts().node(owner, node).map_err(store)?;
    if config.is_none()
        && service::is_its(core, owner)
        && let Some(space) = spaces::find(core, node, &asker)?
    {
        let item = |(id, payload)| Element::new("item", ns::PUBSUB).with_attr("id", id).with_child(payload);
        let items = spaces::items(core, &space, &asker)?.into_iter().map(item);
        return Ok(Some(answer(Element::new("items", ns::PUBSUB).with_attr("node", node).with_children(items))));
    }
    let config = config.ok_or_else(|| refused(&NodeError::NoSuchNode))?;
    may_read(core, owner, (node, &config), &asker)?;
    let wanted: Vec<&str> = what.children().filter(|child| child.name() == "item").filter_map(Element::id).collect();
    let mut found = Element::new("items", ns::PUBSUB).with_attr("node", node);
    if !wanted.is_empty() {
        for id in wanted.into_iter().take(PAGE_MAX) {
            if let Some(kept) = core.accounts().node_item(owner, node, id).map_err(store)? {
                found.push(item(id, &kept.payload));
            }
        }
        return Ok(Some(answer(found)));
    }
    let max = match what.attr("max_items") {
        None => PAGE_MAX,
        Some(max) => {
            max.parse::<usize>().map_err(|_| StanzaError::new(Condition::BadRequest, "`max_items` is a number"))?
        }
    };
    let order = Order::within(&request.payload)?;
    // Which are the newest is another question where another order is asked for.
    let look = if order.is_some_and(|order| order.by_creation) { PAGE_MAX } else { max.min(PAGE_MAX) };
    let mut kept = core.accounts().node_items(owner, node, look).map_err(store)?;
    if order.is_some_and(|order| order.by_creation) {
        kept.sort_by_key(|(_, item)| std::cmp::Reverse(item.created));
        kept.truncate(max);
    }
    if !order.is_some_and(|order| order.descending) {
        kept.reverse();
    }
    let Some(wish) = PageWish::within(&request.payload) else {
        return Ok(Some(answer(found.with_children(kept.iter().map(|(id, kept)| item(id, &kept.payload))))));
    };
    let (page, given) = wish.cut(kept, PAGE_MAX, |(id, _)| id.clone()).ok_or_else(|| {
        StanzaError::new(Condition::ItemNotFound, "the item that the page is to begin at is not there")
    })?;
    found = found.with_children(page.iter().map(|(id, kept)| item(id, &kept.payload)));
    Ok(Some(answer(found).with_child(given.element())))
}

/// [XEP-0060 §publisher-publish]
async fn publish(core: &Arc<Core>, request: &Request, owner: OwnedUserId, pubsub: &Element, what: &Element) -> Answer {
    let node = node_of(what)?.to_owned();
    service::may_publish(core, request, &owner, &node)?;
    let is_service = service::is_its(core, &owner);
    let options = pubsub.child("publish-options", ns::PUBSUB).and_then(Form::within);
    let known = core.accounts().node(&owner, &node).map_err(|error| refused(&NodeError::Store(error)))?;
    let mut items = what.children().filter(|child| child.is("item", ns::PUBSUB));
    if let Some(config) = known.filter(|config| !config.persist && !config.payloads) {
        // [XEP-0060 §publisher-publish-error-badrequest] There is nothing of an item that such a node would tell or keep.
        if items.next().is_some() {
            return Err(pubsub_error(
                Condition::BadRequest,
                "item-forbidden",
                "this node tells that something is, not what",
            ));
        }
        if let Some(form) = &options
            && !config::apply(form, service::usual(core, &owner)).is_ok_and(|wanted| config::meets(&config, &wanted))
        {
            return Err(refused(&NodeError::OtherConfig));
        }
        let told = Element::new("items", ns::PUBSUB_EVENT).with_attr("node", node.as_str());
        notify::tell(core, &owner, (&node, &config), told).await;
        return Ok(Some(answer(Element::new("publish", ns::PUBSUB).with_attr("node", node))));
    }
    let item = match (items.next(), items.next()) {
        (Some(item), None) => item,
        (None, _) => return Err(pubsub_error(Condition::BadRequest, "item-required", "there is nothing to publish")),
        _ => return Err(StanzaError::new(Condition::NotAllowed, "one item is published at a time")),
    };
    let mut payloads = item.children();
    let payload = match (payloads.next(), payloads.next()) {
        (payload, None) => payload,
        _ => return Err(pubsub_error(Condition::BadRequest, "invalid-payload", "an item has one payload")),
    };
    let id = item
        .id()
        .filter(|id| !id.is_empty())
        .map_or_else(|| format!("{:016x}", rand::random::<u64>()), ToOwned::to_owned);
    let config = if is_service { service::usual(core, &owner) } else { effect::usual(&node) };
    let config = match &options {
        // [XEP-0060 §publisher-publish-options] What it cannot be configured to say is a precondition that is not met.
        Some(form) => config::apply(form, config).map_err(|_| refused(&NodeError::OtherConfig))?,
        None => config,
    };
    if !is_service {
        effect::before(core, &owner, &node, &id, payload).await?;
    }
    let precondition = match options {
        Some(_) => config::meets,
        None => |_: &NodeConfig, _: &NodeConfig| true,
    };
    let publishing = Publishing {
        node: node.clone(),
        id: id.clone(),
        publisher: request.from.to_string(),
        payload: payload.map_or_else(String::new, Element::to_xml),
        precondition,
        config,
    };
    let (made, config) = core.accounts().publish(&owner, publishing).await.map_err(|error| refused(&error))?;
    if made && is_service {
        service::own(core, &owner, &node, &request.from.to_bare()).await?;
    }
    notify::published(core, &owner, (&node, &config), (&id, payload)).await;
    if !is_service {
        effect::after(core, &owner, &node, &id, payload).await;
    }
    let published = Element::new("publish", ns::PUBSUB)
        .with_attr("node", node)
        .with_child(Element::new("item", ns::PUBSUB).with_attr("id", id));
    Ok(Some(answer(published)))
}

/// [XEP-0060 §publisher-delete]
async fn retract(core: &Arc<Core>, request: &Request, owner: &OwnedUserId, what: &Element) -> Answer {
    let node = node_of(what)?;
    let id =
        what.children().find(|child| child.is("item", ns::PUBSUB)).and_then(Element::id).filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| pubsub_error(Condition::BadRequest, "item-required", "say which item"))?;
    service::may_retract(core, request, owner, node, id)?;
    let config = core.accounts().retract(owner, node, id).await.map_err(|error| refused(&error))?;
    let asked = matches!(what.attr("notify"), Some("1" | "true"));
    if config.notify_retract || asked {
        let gone = Element::new("retract", ns::PUBSUB_EVENT).with_attr("id", id);
        let items = Element::new("items", ns::PUBSUB_EVENT).with_attr("node", node).with_child(gone);
        notify::tell(core, owner, (node, &config), items).await;
    }
    Ok(None)
}

/// [XEP-0060 §owner-create]
async fn create(core: &Arc<Core>, request: &Request, owner: &OwnedUserId, pubsub: &Element, what: &Element) -> Answer {
    service::may_create(core, request, owner)?;
    let named = what.attr("node").filter(|node| !node.is_empty());
    let node = named.map_or_else(|| format!("{:032x}", rand::random::<u128>()), ToOwned::to_owned);
    let form = pubsub.child("configure", ns::PUBSUB).and_then(Form::within);
    let config = match form {
        Some(form) => config::apply(&form, service::usual(core, owner))?,
        None => service::usual(core, owner),
    };
    core.accounts().create_node(owner, &node, config).await.map_err(|error| refused(&error))?;
    if service::is_its(core, owner) {
        service::own(core, owner, &node, &request.from.to_bare()).await?;
    }
    Ok(named.is_none().then(|| answer(Element::new("create", ns::PUBSUB).with_attr("node", node))))
}

fn invalid_jid() -> StanzaError {
    pubsub_error(Condition::BadRequest, "invalid-jid", "people subscribe for themselves")
}

/// The subscriber that a request names, if it is the asker.
fn subscriber(request: &Request, what: &Element) -> Result<Option<Jid>, StanzaError> {
    let jid = what.attr("jid").and_then(|jid| Jid::new(jid).ok()).ok_or_else(invalid_jid)?;
    Ok(Some(jid).filter(|jid| jid.to_bare() == request.from.to_bare()))
}

fn subscription(node: &str, jid: &str, state: &str) -> Element {
    Element::new("subscription", ns::PUBSUB)
        .with_attr("node", node)
        .with_attr("jid", jid)
        .with_attr("subscription", state)
}

/// [XEP-0060 §subscriber-subscribe]
async fn subscribe(core: &Arc<Core>, request: &Request, owner: &OwnedUserId, what: &Element) -> Answer {
    let node = node_of(what)?;
    // [XEP-0060 §subscriber-subscribe-error-nomatch]
    let jid = subscriber(request, what)?.ok_or_else(invalid_jid)?;
    let config = core.accounts().node(owner, node).map_err(|error| refused(&NodeError::Store(error)))?;
    let config = config.ok_or_else(|| refused(&NodeError::NoSuchNode))?;
    let asker = jid.to_bare();
    let pending = config.access == koine_account::Access::Authorize && !request.is_own();
    if !pending {
        may_read(core, owner, (node, &config), &asker)?;
    }
    let (text, state) = (jid.to_string(), if pending { "pending" } else { "subscribed" });
    let edit = move |peer: &mut NodePeer| {
        if peer.affiliation == "outcast" {
            return Err(StanzaError::new(Condition::Forbidden, "the owner has shut you out"));
        }
        if let Some((_, known)) = peer.subscriptions.iter().find(|(known, _)| *known == text) {
            // [XEP-0060 §subscriber-subscribe-error-pending]
            if known == "pending" {
                let words = "the owner has not answered yet";
                return Err(pubsub_error(Condition::NotAuthorized, "pending-subscription", words));
            }
            return Ok((text, known.clone(), false));
        }
        if peer.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(pubsub_error(
                Condition::NotAllowed,
                "too-many-subscriptions",
                "you have subscribed often enough",
            ));
        }
        peer.subscriptions.push((text.clone(), state.to_owned()));
        Ok((text, state.to_owned(), true))
    };
    let edited = core.accounts().edit_node_peer(owner, node, &asker.to_string(), edit).await;
    let (text, state, is_new) = edited.map_err(|error| refused(&error))??;
    if is_new && state == "subscribed" {
        notify::last(core, owner, (node, &config), &jid).await;
    }
    Ok(Some(answer(subscription(node, &text, &state))))
}

/// [XEP-0060 §subscriber-unsubscribe]
async fn unsubscribe(core: &Arc<Core>, request: &Request, owner: &OwnedUserId, what: &Element) -> Answer {
    let node = node_of(what)?;
    // [XEP-0060 §subscriber-unsubscribe-error-forbidden]
    let jid = subscriber(request, what)?
        .ok_or_else(|| StanzaError::new(Condition::Forbidden, "people unsubscribe themselves"))?;
    let text = jid.to_string();
    let edit = move |peer: &mut NodePeer| {
        let before = peer.subscriptions.len();
        peer.subscriptions.retain(|(known, _)| *known != text);
        peer.subscriptions.len() < before
    };
    let edited = core.accounts().edit_node_peer(owner, node, &jid.to_bare().to_string(), edit).await;
    match edited.map_err(|error| refused(&error))? {
        true => Ok(None),
        false => Err(pubsub_error(Condition::UnexpectedRequest, "not-subscribed", "there is no such subscription")),
    }
}

/// Nodes at which somebody has a standing.
fn standings(
    core: &Core,
    owner: &OwnedUserId,
    what: &Element,
    asker: &BareJid,
) -> Result<Vec<(String, NodePeer)>, StanzaError> {
    let store = |error| refused(&NodeError::Store(error));
    let nodes: Vec<String> = match what.attr("node") {
        Some(node) => vec![node.to_owned()],
        None => core.accounts().nodes(owner).map_err(store)?.into_iter().map(|(node, _)| node).collect(),
    };
    let mut found = Vec::new();
    for node in nodes {
        if let Some(peer) = core.accounts().node_peer(owner, &node, &asker.to_string()).map_err(store)? {
            found.push((node, peer));
        }
    }
    Ok(found)
}

fn subscriptions(core: &Core, request: &Request, owner: &OwnedUserId, what: &Element) -> Answer {
    let known = standings(core, owner, what, &request.from.to_bare())?;
    let mut list = Element::new("subscriptions", ns::PUBSUB);
    for (node, peer) in &known {
        for (jid, state) in &peer.subscriptions {
            list.push(subscription(node, jid, state));
        }
    }
    Ok(Some(answer(list)))
}

fn affiliations(core: &Core, request: &Request, owner: &OwnedUserId, what: &Element) -> Answer {
    let mut list = Element::new("affiliations", ns::PUBSUB);
    let affiliation = |node: &str, word: &str| {
        Element::new("affiliation", ns::PUBSUB).with_attr("node", node).with_attr("affiliation", word)
    };
    if request.is_own() {
        for (node, _) in core.accounts().nodes(owner).map_err(|error| refused(&NodeError::Store(error)))? {
            list.push(affiliation(&node, "owner"));
        }
        return Ok(Some(answer(list)));
    }
    for (node, peer) in standings(core, owner, what, &request.from.to_bare())? {
        if !peer.affiliation.is_empty() {
            list.push(affiliation(&node, &peer.affiliation));
        }
    }
    Ok(Some(answer(list)))
}
