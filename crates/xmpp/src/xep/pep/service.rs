//! XEP-0060: Publish-Subscribe, at a host of its own: nodes that belong to no account. People of this server make them, and whoever
//! made one is its owner, with those whom they name. All else is as at accounts.

use std::sync::Arc;

use koine_account::{Access, NODE_ITEMS_MAX, NODE_SERVICE, NodeConfig, NodeError, NodePeer, SendLast};
use koine_stanza::{BareJid, Condition, StanzaError};
use ruma_common::{OwnedUserId, UserId};

use super::refused;
use crate::{address::Place, core::Core, iq::Request, xep::commands};

impl Core {
    /// Under whose name the service's nodes are kept.
    pub(crate) fn pubsub_owner(&self) -> OwnedUserId {
        UserId::parse(format!("@{NODE_SERVICE}:{}", self.rooms().server_name())).expect("a server name makes a user id")
    }
}

/// Whether nodes of somebody are the service's.
pub(super) fn is_its(core: &Core, owner: &UserId) -> bool {
    owner.localpart() == NODE_SERVICE && owner.server_name() == core.rooms().server_name()
}

/// Whose nodes a request is about.
pub(super) fn owner_of(core: &Core, request: &Request) -> Result<OwnedUserId, StanzaError> {
    if core.place(&request.to) == Place::PubsubService {
        return Ok(core.pubsub_owner());
    }
    let owner = request.account.clone().filter(|owner| core.is_account(owner));
    owner.ok_or_else(|| StanzaError::new(Condition::ServiceUnavailable, "there is nobody of that name"))
}

/// The address at which somebody's nodes are.
pub(super) fn address(core: &Core, owner: &UserId) -> Option<BareJid> {
    match is_its(core, owner) {
        true => BareJid::new(&core.hosts.pubsub).ok(),
        false => core.jid_of(owner),
    }
}

/// How a node is configured that nobody configured.
pub(super) fn usual(core: &Core, owner: &UserId) -> NodeConfig {
    match is_its(core, owner) {
        true => NodeConfig {
            access: Access::Open,
            max_items: NODE_ITEMS_MAX,
            send_last: SendLast::OnSubscription,
            ..NodeConfig::default()
        },
        false => NodeConfig::default(),
    }
}

fn forbidden() -> StanzaError {
    StanzaError::new(Condition::Forbidden, "this is for the owner of the node alone")
}

fn affiliation(core: &Core, request: &Request, owner: &UserId, node: &str) -> Result<String, StanzaError> {
    let peer = core.accounts().node_peer(owner, node, &request.from.to_bare().to_string());
    Ok(peer.map_err(|error| refused(&NodeError::Store(error)))?.unwrap_or_default().affiliation)
}

/// Only owners change a node.
pub(super) fn may_manage(core: &Core, request: &Request, owner: &UserId, node: &str) -> Result<(), StanzaError> {
    let may = request.is_own()
        || (is_its(core, owner)
            && (affiliation(core, request, owner, node)? == "owner" || commands::is_admin(core, request)));
    if may { Ok(()) } else { Err(forbidden()) }
}

/// Whether somebody may publish; at a node of the service that is not there yet, whoever may make it.
pub(super) fn may_publish(core: &Core, request: &Request, owner: &UserId, node: &str) -> Result<(), StanzaError> {
    if request.is_own() {
        return Ok(());
    }
    if is_its(core, owner)
        && core.accounts().node(owner, node).map_err(|error| refused(&NodeError::Store(error)))?.is_none()
    {
        return may_create(core, request, owner);
    }
    match affiliation(core, request, owner, node)?.as_str() {
        "owner" | "publisher" | "publish-only" => Ok(()),
        _ => Err(StanzaError::new(Condition::Forbidden, "this is for the owner of the node, and whom they named")),
    }
}

/// Owners take back whatever they like, publishers what they published.
pub(super) fn may_retract(
    core: &Core,
    request: &Request,
    owner: &UserId,
    node: &str,
    id: &str,
) -> Result<(), StanzaError> {
    let refusal = match may_manage(core, request, owner, node) {
        Ok(()) => return Ok(()),
        Err(refusal) => refusal,
    };
    let is_publisher = matches!(affiliation(core, request, owner, node)?.as_str(), "publisher" | "publish-only");
    let item = core.accounts().node_item(owner, node, id).map_err(|error| refused(&NodeError::Store(error)))?;
    let by = item.and_then(|item| koine_stanza::Jid::new(&item.publisher).ok());
    let is_own = by.is_some_and(|by| by.to_bare() == request.from.to_bare());
    if is_publisher && is_own { Ok(()) } else { Err(refusal) }
}

/// Accounts make nodes of their own; people of this server those of the service.
pub(super) fn may_create(core: &Core, request: &Request, owner: &UserId) -> Result<(), StanzaError> {
    let may = request.is_own() || (is_its(core, owner) && request.asker().is_some());
    if may { Ok(()) } else { Err(forbidden()) }
}

/// Whoever made a node owns it.
pub(super) async fn own(core: &Arc<Core>, owner: &UserId, node: &str, maker: &BareJid) -> Result<(), StanzaError> {
    let edit = |peer: &mut NodePeer| peer.affiliation = "owner".to_owned();
    core.accounts().edit_node_peer(owner, node, &maker.to_string(), edit).await.map_err(|error| refused(&error))
}

#[cfg(test)]
mod tests {
    use koine_stanza::{Element, ns};

    use crate::testing::{World, condition};

    #[tokio::test(flavor = "multi_thread")]
    async fn people_make_nodes_of_the_service_and_others_subscribe() {
        let world = World::new();
        let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
        let to = "pubsub.example.org";
        let set = |inner: &str| {
            format!("<iq type='set' id='s' to='{to}'><pubsub xmlns='{}'>{inner}</pubsub></iq>", ns::PUBSUB)
        };
        assert_eq!(alice.ask(&set("<create node='news'/>")).await.kind(), Some("result"));
        assert_eq!(condition(&bob.ask(&set("<create node='news'/>")).await).as_deref(), Some("conflict"));
        let item = "<publish node='news'><item id='1'><x xmlns='n'/></item></publish>";
        assert_eq!(condition(&bob.ask(&set(item)).await).as_deref(), Some("forbidden"));
        let subscribed = bob.ask(&set("<subscribe node='news' jid='bob@example.org/b'/>")).await;
        assert_eq!(subscribed.kind(), Some("result"), "{}", subscribed.to_xml());
        assert_eq!(alice.ask(&set(item)).await.kind(), Some("result"));
        let told = bob.until(|stanza| stanza.name() == "message").await;
        assert_eq!(told.attr("from"), Some(to));
        assert!(told.child("event", ns::PUBSUB_EVENT).is_some_and(|event| event.has_child("items", ns::PUBSUB_EVENT)));
        let owner = |inner: &str| {
            format!("<iq type='set' id='o' to='{to}'><pubsub xmlns='{}'>{inner}</pubsub></iq>", ns::PUBSUB_OWNER)
        };
        let promote =
            "<affiliations node='news'><affiliation jid='bob@example.org' affiliation='publisher'/></affiliations>";
        assert_eq!(condition(&bob.ask(&owner(promote)).await).as_deref(), Some("forbidden"));
        assert_eq!(alice.ask(&owner(promote)).await.kind(), Some("result"));
        assert_eq!(bob.ask(&set(&item.replace("id='1'", "id='2'"))).await.kind(), Some("result"));
        assert_eq!(
            condition(&bob.ask(&set("<retract node='news'><item id='1'/></retract>")).await).as_deref(),
            Some("forbidden")
        );
        assert_eq!(bob.ask(&set("<retract node='news'><item id='2'/></retract>")).await.kind(), Some("result"));
        let nodes =
            bob.ask(&format!("<iq type='get' id='d' to='{to}'><query xmlns='{}'/></iq>", ns::DISCO_ITEMS)).await;
        let names: Vec<_> = nodes.children().flat_map(Element::children).filter_map(|item| item.attr("node")).collect();
        assert_eq!(names, ["news"]);
        assert_eq!(alice.ask(&owner("<delete node='news'/>")).await.kind(), Some("result"));
        let has = |stanza: &Element, name: &str| {
            stanza.child("event", ns::PUBSUB_EVENT).is_some_and(|event| event.has_child(name, ns::PUBSUB_EVENT))
        };
        bob.until(|stanza| has(stanza, "delete")).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_waits_for_an_owner_is_told_so_and_nobody_unsubscribes_others() {
        let world = World::new();
        let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
        let set = |inner: &str| {
            format!(
                "<iq type='set' id='s' to='pubsub.example.org'><pubsub xmlns='{}'>{inner}</pubsub></iq>",
                ns::PUBSUB
            )
        };
        let configure = |fields: &[(&str, &str)]| {
            let fields =
                fields.iter().map(|(var, value)| format!("<field var='pubsub#{var}'><value>{value}</value></field>"));
            format!("<configure><x xmlns='jabber:x:data' type='submit'>{}</x></configure>", fields.collect::<String>())
        };
        let closed = format!("<create node='n'/>{}", configure(&[("access_model", "authorize")]));
        assert_eq!(alice.ask(&set(&closed)).await.kind(), Some("result"));
        let subscribe = set("<subscribe node='n' jid='bob@example.org'/>");
        assert!(bob.ask(&subscribe).await.to_xml().contains("subscription='pending'"));
        let again = bob.ask(&subscribe).await;
        assert_eq!(condition(&again).as_deref(), Some("not-authorized"));
        assert!(again.to_xml().contains("pending-subscription"), "{}", again.to_xml());
        let other = alice.ask(&set("<unsubscribe node='n' jid='bob@example.org'/>")).await;
        assert_eq!(condition(&other).as_deref(), Some("forbidden"));

        // A node that tells and keeps nothing of what is published.
        let bell = configure(&[("persist_items", "0"), ("deliver_payloads", "0")]);
        assert_eq!(alice.ask(&set(&format!("<create node='bell'/>{bell}"))).await.kind(), Some("result"));
        assert_eq!(bob.ask(&set("<subscribe node='bell' jid='bob@example.org/b'/>")).await.kind(), Some("result"));
        let item = alice.ask(&set("<publish node='bell'><item id='1'/></publish>")).await;
        assert!(item.to_xml().contains("item-forbidden"), "{}", item.to_xml());
        assert_eq!(alice.ask(&set("<publish node='bell'/>")).await.kind(), Some("result"));
        let rung = bob.until(|stanza| stanza.name() == "message").await;
        let items = rung.child("event", ns::PUBSUB_EVENT).and_then(|event| event.child("items", ns::PUBSUB_EVENT));
        assert_eq!(items.map(|items| (items.attr("node"), items.children().count())), Some((Some("bell"), 0)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn items_come_in_the_order_that_is_asked_for() {
        let world = World::new();
        let mut alice = world.connect("alice", "a").await;
        let to = "pubsub.example.org";
        for id in ["A", "B", "C", "A"] {
            let publish = format!(
                "<iq type='set' id='s' to='{to}'><pubsub xmlns='{}'><publish node='n'><item id='{id}'><x xmlns='n'/></item></publish></pubsub></iq>",
                ns::PUBSUB
            );
            assert_eq!(alice.ask(&publish).await.kind(), Some("result"));
        }
        for (order, expected) in [
            ("by='modification'", ["B", "C", "A"]),
            ("by='creation'", ["A", "B", "C"]),
            ("by='creation' desc='true'", ["C", "B", "A"]),
        ] {
            let ask = format!(
                "<iq type='get' id='g' to='{to}'><pubsub xmlns='{}'><items node='n'/><order xmlns='urn:xmpp:order-by:1' {order}/></pubsub></iq>",
                ns::PUBSUB
            );
            let answer = alice.ask(&ask).await;
            let items = answer.child("pubsub", ns::PUBSUB).and_then(|pubsub| pubsub.child("items", ns::PUBSUB));
            let ids: Vec<_> = items.expect("items").children().filter_map(Element::id).collect();
            assert_eq!(ids, expected, "{order}");
        }
    }
}
