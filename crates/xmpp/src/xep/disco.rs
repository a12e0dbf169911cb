//! XEP-0030: Service Discovery. Features come from the list of extensions; identities and items from the places themselves.

use std::sync::Arc;

use koine_stanza::{Condition, Element, StanzaError, ns};

use crate::{
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
    ],
    handlers: &[
        Handler {
            at: &[At::Host, At::RoomService, At::UploadService, At::MatrixService],
            verbs: &[Verb::Get],
            name: "query",
            ns: ns::DISCO_INFO,
            run: |core, request| Box::pin(info(core, request)),
        },
        Handler {
            at: &[At::Host],
            verbs: &[Verb::Get],
            name: "query",
            ns: ns::DISCO_ITEMS,
            run: |core, request| Box::pin(items(core, request)),
        },
    ],
};

async fn info(core: Arc<Core>, request: Request) -> Answer {
    if request.payload.attr("node").is_some() {
        return Err(StanzaError::new(Condition::ItemNotFound, "there is no such node"));
    }
    let place = core.place(&request.to);
    let Some(at) = iq::at(&place) else { return Err(Condition::ItemNotFound.into()) };
    let (category, kind, name) = match at {
        At::RoomService => ("conference", "text", "Rooms"),
        At::UploadService => ("store", "file", "Files"),
        At::MatrixService => ("gateway", "matrix", "Matrix"),
        At::Host | At::Account | At::Room => ("server", "im", "Koine"),
    };
    let identity = Element::new("identity", ns::DISCO_INFO)
        .with_attr("category", category)
        .with_attr("type", kind)
        .with_attr("name", name);
    let features = iq::features(at).map(|feature| Element::new("feature", ns::DISCO_INFO).with_attr("var", feature));
    Ok(Some(Element::new("query", ns::DISCO_INFO).with_child(identity).with_children(features)))
}

async fn items(core: Arc<Core>, request: Request) -> Answer {
    if request.payload.attr("node").is_some() {
        return Err(StanzaError::new(Condition::ItemNotFound, "there is no such node"));
    }
    let hosts = &core.hosts;
    let items = [(&hosts.rooms, "Rooms"), (&hosts.upload, "Files"), (&hosts.matrix, "Matrix")];
    let items = items.map(|(host, name)| {
        Element::new("item", ns::DISCO_ITEMS).with_attr("jid", host.as_str()).with_attr("name", name)
    });
    Ok(Some(Element::new("query", ns::DISCO_ITEMS).with_children(items)))
}
