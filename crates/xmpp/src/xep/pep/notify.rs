//! Telling others what was published. [XEP-0163 §notify]
//!
//! Told are: sessions of the owner and of contacts who are told of the owner's presence, where their clients want the node
//! (`+notify`), and whoever has subscribed.

use std::{collections::HashSet, sync::Arc};

use koine_account::{NodeConfig, SendLast};
use koine_stanza::{BareJid, Element, FullJid, Jid, ns};
use ruma_common::UserId;

use super::{may_read, serve::parse};
use crate::{address::Place, core::Core, session::Session, time};

fn event(owner: &BareJid, to: &Jid, what: Element) -> Element {
    Element::new("message", ns::CLIENT)
        .with_attr("from", owner.to_string())
        .with_attr("to", to.to_string())
        .with_attr("type", "headline")
        .with_attr("id", format!("e{:x}", rand::random::<u64>()))
        .with_child(Element::new("event", ns::PUBSUB_EVENT).with_child(what))
}

fn items(node: &str, config: &NodeConfig, id: &str, payload: Option<&Element>) -> Element {
    let item = Element::new("item", ns::PUBSUB_EVENT).with_attr("id", id);
    let item = item.with_child_opt(payload.filter(|_| config.payloads).cloned());
    Element::new("items", ns::PUBSUB_EVENT).with_attr("node", node).with_child(item)
}

/// An item was published.
pub(super) async fn published(
    core: &Arc<Core>,
    owner: &UserId,
    (node, config): (&str, &NodeConfig),
    (id, payload): (&str, Option<&Element>),
) {
    tell(core, owner, (node, config), items(node, config, id, payload)).await;
}

/// Tells all who are to know of a node.
pub(super) async fn tell(core: &Arc<Core>, owner: &UserId, (node, config): (&str, &NodeConfig), what: Element) {
    audience(core, owner, (node, config)).tell(core, owner, what).await;
}

/// Who is to know of a node at some moment. A node that goes is told of to those who were to know of it before.
pub(super) struct Audience {
    /// Clients elsewhere that want it.
    remote: Vec<FullJid>,
    /// Sessions here that want it.
    sessions: Vec<Arc<Session>>,
    /// Addresses that have subscribed.
    subscribed: Vec<Jid>,
}

/// Who is to know of a node now.
pub(super) fn audience(core: &Core, owner: &UserId, (node, config): (&str, &NodeConfig)) -> Audience {
    let mut audience = Audience { remote: Vec::new(), sessions: Vec::new(), subscribed: Vec::new() };
    let Some(account) = super::service::address(core, owner) else { return audience };
    let mut accounts = vec![account];
    match core.accounts().contacts(owner) {
        Ok(contacts) => {
            let told = contacts.into_iter().filter(|(_, contact)| contact.from);
            accounts.extend(told.filter_map(|(address, _)| BareJid::new(&address).ok()));
        }
        Err(error) => tracing::error!(user_id = %owner, reason = %error, "contacts could not be read"),
    }
    for other in accounts {
        if may_read(core, owner, (node, config), &other).is_err() {
            continue;
        }
        audience.remote.extend(super::caps::remote_wanting(core, &other, node));
        let wants = |session: &Arc<Session>| session.priority().is_some() && super::caps::wants(core, session, node);
        audience.sessions.extend(core.sessions.of(&other).into_iter().filter(wants));
    }
    for (bare, peer) in core.accounts().node_peers(owner, node).unwrap_or_default() {
        let Ok(bare) = BareJid::new(&bare) else { continue };
        if peer.subscriptions.is_empty() || may_read(core, owner, (node, config), &bare).is_err() {
            continue;
        }
        let subscribed = peer.subscriptions.iter().filter(|(_, state)| state == "subscribed");
        audience.subscribed.extend(subscribed.filter_map(|(jid, _)| Jid::new(jid).ok()));
    }
    audience
}

impl Audience {
    pub(super) async fn tell(self, core: &Arc<Core>, owner: &UserId, what: Element) {
        let Some(account) = super::service::address(core, owner) else { return };
        for client in self.remote {
            let stanza = event(&account, &Jid::from(client), what.clone());
            Box::pin(core.send_elsewhere(stanza)).await;
        }
        let mut told: HashSet<FullJid> = HashSet::new();
        for session in self.sessions {
            told.insert(session.jid().clone());
            session.send(event(&account, &Jid::from(session.jid().clone()), what.clone()));
        }
        for jid in self.subscribed {
            deliver(core, &account, &jid, &what, &told).await;
        }
    }
}

async fn deliver(core: &Arc<Core>, account: &BareJid, to: &Jid, what: &Element, told: &HashSet<FullJid>) {
    match (core.place(to), to.clone().try_into_full()) {
        (Place::Account(_), Ok(full)) => {
            if let Some(session) = core.sessions.get(&full).filter(|session| !told.contains(session.jid())) {
                session.send(event(account, to, what.clone()));
            }
        }
        (Place::Account(_), Err(bare)) => {
            for session in core.sessions.takers(&bare).iter().filter(|session| !told.contains(session.jid())) {
                session.send(event(account, to, what.clone()));
            }
        }
        (Place::Elsewhere, _) => Box::pin(core.send_elsewhere(event(account, to, what.clone()))).await,
        _ => {}
    }
}

/// The newest item of a node, for somebody who is new to it. [XEP-0060 §subscriber-subscribe-last]
pub(super) async fn last(core: &Arc<Core>, owner: &UserId, (node, config): (&str, &NodeConfig), to: &Jid) {
    let Some(account) = super::service::address(core, owner) else { return };
    if config.send_last == SendLast::Never {
        return;
    }
    if let Some((what, _)) = newest(core, owner, node, config) {
        deliver(core, &account, to, &what, &HashSet::new()).await;
    }
}

/// The same for a session that came. [XEP-0163 §notify-last]
pub(super) fn last_for(core: &Core, owner: &UserId, (node, config): (&str, &NodeConfig), session: &Session) {
    let Some(account) = core.jid_of(owner) else { return };
    if config.send_last != SendLast::OnPresence {
        return;
    }
    if let Some((what, delay)) = newest(core, owner, node, config) {
        session.send(event(&account, &Jid::from(session.jid().clone()), what).with_child(delay));
    }
}

/// The same for a client elsewhere.
pub(super) async fn last_elsewhere(
    core: &Arc<Core>,
    owner: &UserId,
    (node, config): (&str, &NodeConfig),
    client: &FullJid,
) {
    let Some(account) = core.jid_of(owner) else { return };
    if config.send_last != SendLast::OnPresence {
        return;
    }
    if let Some((what, delay)) = newest(core, owner, node, config) {
        let stanza = event(&account, &Jid::from(client.clone()), what).with_child(delay);
        Box::pin(core.send_elsewhere(stanza)).await;
    }
}

fn newest(core: &Core, owner: &UserId, node: &str, config: &NodeConfig) -> Option<(Element, Element)> {
    let (id, kept) = core.accounts().node_items(owner, node, 1).ok()?.pop()?;
    // [XEP-0060 §impl-subscribe] It is told that it is not new.
    let delay = Element::new("delay", ns::DELAY).with_attr("stamp", time::format(kept.ts));
    Some((items(node, config, &id, parse(&kept.payload).as_ref()), delay))
}
