//! XEP-0030: Service Discovery. Features come from the list of extensions; identities and items from the places themselves.

use std::sync::Arc;

use koine_stanza::{Condition, Element, StanzaError, ns};

use ruma_common::UserId;

use super::{caps, commands, contact, pep, upload};
use crate::{
    address::Place,
    core::Core,
    iq::{self, Answer, At, Extension, Handler, Request, Verb},
};

/// Asked of the server, accounts and services. Rooms answer for themselves.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[
        (At::Host, ns::DISCO_INFO),
        (At::Host, ns::DISCO_ITEMS),
        (At::Account, ns::DISCO_INFO),
        (At::Account, ns::DISCO_ITEMS),
        (At::RoomService, ns::DISCO_INFO),
        (At::RoomService, ns::DISCO_ITEMS),
        (At::UploadService, ns::DISCO_INFO),
        (At::UploadService, ns::DISCO_ITEMS),
        (At::PubsubService, ns::DISCO_INFO),
        (At::PubsubService, ns::DISCO_ITEMS),
        (At::MatrixService, ns::DISCO_INFO),
        (At::MatrixService, ns::DISCO_ITEMS),
        (At::MatrixService, "jid\\20escaping"),
        (At::MailService, ns::DISCO_INFO),
        (At::MailService, ns::DISCO_ITEMS),
        (At::ProxyService, ns::DISCO_INFO),
        (At::ProxyService, ns::DISCO_ITEMS),
    ],
    handlers: &[
        Handler {
            at: &[
                At::Host,
                At::Account,
                At::RoomService,
                At::UploadService,
                At::MatrixService,
                At::PubsubService,
                At::MailService,
                At::ProxyService,
            ],
            verbs: &[Verb::Get],
            name: "query",
            ns: ns::DISCO_INFO,
            run: |core, request| Box::pin(async move { info(&core, &request) }),
        },
        Handler {
            at: &[
                At::Host,
                At::Account,
                At::UploadService,
                At::PubsubService,
                At::MatrixService,
                At::MailService,
                At::ProxyService,
            ],
            verbs: &[Verb::Get],
            name: "query",
            ns: ns::DISCO_ITEMS,
            run: |core, request| Box::pin(async move { items(&core, &request) }),
        },
    ],
};

fn info(core: &Arc<Core>, request: &Request) -> Answer {
    let place = core.place(&request.to);
    let Some(at) = iq::at(&place) else { return Err(Condition::ItemNotFound.into()) };
    if let Some(account) = &request.account {
        may_discover(core, account, request)?;
    }
    if let Some(node) = request.payload.attr("node").filter(|node| !node.is_empty()) {
        return match &request.account {
            Some(account) => pep::node_info(core, account, node, &request.from.to_bare()),
            None if at == At::PubsubService => {
                pep::node_info(core, &core.pubsub_owner(), node, &request.from.to_bare())
            }
            // [XEP-0115 §discover] What the hash in the features of streams stands for.
            None if at == At::Host && caps::is_node(core, node) => Ok(Some(about(core, at).with_attr("node", node))),
            None if at == At::Host => commands::about(core, request, node)
                .map(Some)
                .ok_or_else(|| StanzaError::new(Condition::ItemNotFound, "there is no such node")),
            None => Err(StanzaError::new(Condition::ItemNotFound, "there is no such node")),
        };
    }
    Ok(Some(about(core, at)))
}

/// What is said about a kind of address.
pub(crate) fn about(core: &Core, at: At) -> Element {
    let identities: &[(&str, &str, &str)] = match at {
        At::RoomService => &[("conference", "text", "Rooms")],
        At::UploadService => &[("store", "file", "Files")],
        At::MatrixService => &[("gateway", "matrix", "Matrix")],
        At::PubsubService => &[("pubsub", "service", "What is published")],
        At::MailService => &[("gateway", "smtp", "Mail")],
        At::ProxyService => &[("proxy", "bytestreams", "Streams of bytes")],
        At::Account => &[("account", "registered", ""), ("pubsub", "pep", "")],
        At::Host | At::Room => &[("server", "im", "Koine")],
    };
    let identities = identities.iter().map(|(category, kind, name)| {
        Element::new("identity", ns::DISCO_INFO)
            .with_attr("category", *category)
            .with_attr("type", *kind)
            .with_attr_opt("name", Some(*name).filter(|name| !name.is_empty()))
    });
    let mut features: Vec<&str> = iq::features(at).collect();
    features.sort_unstable();
    features.dedup();
    let features =
        features.into_iter().map(|feature| Element::new("feature", ns::DISCO_INFO).with_attr("var", feature));
    let forms = match at {
        At::UploadService => vec![upload::about(core)],
        At::Host => contact::forms(core),
        _ => Vec::new(),
    };
    let forms = forms.into_iter().map(|form| form.element());
    Element::new("query", ns::DISCO_INFO).with_children(identities).with_children(features).with_children(forms)
}

/// Whether somebody may learn that there is such an account: its owner, and whoever is told of its presence. For others it is
/// as if there were none. [XEP-0030 §security]
fn may_discover(core: &Core, account: &UserId, request: &Request) -> Result<(), StanzaError> {
    let knows = || {
        let contact = core.accounts().contact(account, &request.from.to_bare().to_string()).ok().flatten();
        core.is_account(account) && contact.is_some_and(|contact| contact.from)
    };
    match request.is_own() || knows() {
        true => Ok(()),
        false => Err(StanzaError::new(Condition::ServiceUnavailable, "there is nobody of that name who tells")),
    }
}

/// What somebody has who is not there, or not for the asker. [XEP-0030 §security]
pub(crate) fn of_nobody(query: &Element) -> Element {
    Element::new("query", ns::DISCO_ITEMS).with_attr_opt("node", query.attr("node"))
}

fn items(core: &Arc<Core>, request: &Request) -> Answer {
    let node = request.payload.attr("node").filter(|node| !node.is_empty());
    if let Some(account) = &request.account {
        if node == Some(commands::COMMANDS) && request.is_own() {
            let query = Element::new("query", ns::DISCO_ITEMS).with_attr("node", commands::COMMANDS);
            return Ok(Some(query.with_children(commands::listed(core, request))));
        }
        if may_discover(core, account, request).is_err() {
            return Ok(Some(of_nobody(&request.payload)));
        }
        return pep::node_items(core, account, node, &request.from.to_bare());
    }
    if core.place(&request.to) == Place::PubsubService {
        return pep::node_items(core, &core.pubsub_owner(), node, &request.from.to_bare());
    }
    if node == Some(commands::COMMANDS) && core.place(&request.to) == Place::Host {
        let commands = commands::listed(core, request);
        let query = Element::new("query", ns::DISCO_ITEMS).with_attr("node", commands::COMMANDS);
        return Ok(Some(query.with_children(commands)));
    }
    if node.is_some() {
        return Err(StanzaError::new(Condition::ItemNotFound, "there is no such node"));
    }
    let hosts = &core.hosts;
    let mail = Some((&hosts.mail, "Mail")).filter(|_| core.config().mail);
    let proxy = Some((&hosts.proxy, "Streams of bytes")).filter(|_| core.config().proxy.is_some());
    let items = [
        (&hosts.rooms, "Rooms"),
        (&hosts.upload, "Files"),
        (&hosts.matrix, "Matrix"),
        (&hosts.pubsub, "What is published"),
    ];
    let items = items.into_iter().chain(mail).chain(proxy).filter(|_| core.place(&request.to) == Place::Host).map(
        |(host, name)| Element::new("item", ns::DISCO_ITEMS).with_attr("jid", host.as_str()).with_attr("name", name),
    );
    let components = core.components.connected().into_iter().filter(|_| core.place(&request.to) == Place::Host);
    let components = components.map(|host| Element::new("item", ns::DISCO_ITEMS).with_attr("jid", host));
    Ok(Some(Element::new("query", ns::DISCO_ITEMS).with_children(items).with_children(components)))
}
