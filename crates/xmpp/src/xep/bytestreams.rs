//! XEP-0065: SOCKS5 Bytestreams, through a proxy of ours: where it is, and the word by which a stream begins.

use std::sync::Arc;

use koine_stanza::{Condition, Element, StanzaError};

use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
    proxy::{self, NotBegun},
};

/// The protocol.
const BYTESTREAMS: &str = "http://jabber.org/protocol/bytestreams";
/// Longest id of a stream.
const SID_BYTES_MAX: usize = 1023;

/// Asked of the proxy.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::ProxyService, BYTESTREAMS)],
    handlers: &[
        Handler {
            at: &[At::ProxyService],
            verbs: &[Verb::Get],
            name: "query",
            ns: BYTESTREAMS,
            run: |core, request| Box::pin(async move { address(&core, &request) }),
        },
        Handler {
            at: &[At::ProxyService],
            verbs: &[Verb::Set],
            name: "query",
            ns: BYTESTREAMS,
            run: |core, request| Box::pin(async move { activate(&core, &request) }),
        },
    ],
};

/// Whoever sends to people elsewhere may do so by their own server's means.
fn forbidden() -> StanzaError {
    StanzaError::new(Condition::Forbidden, "this proxy is for people of this server")
}

/// [XEP-0065 §disco-proxy]
fn address(core: &Core, request: &Request) -> Answer {
    request.asker().ok_or_else(forbidden)?;
    let proxy = core.config().proxy.as_ref().ok_or(Condition::ItemNotFound)?;
    let host = Element::new("streamhost", BYTESTREAMS)
        .with_attr("jid", core.hosts.proxy.as_str())
        .with_attr("host", proxy.host.as_str())
        .with_attr("port", proxy.port.to_string());
    Ok(Some(Element::new("query", BYTESTREAMS).with_child(host)))
}

/// [XEP-0065 §mediated-proto-activate]
fn activate(core: &Arc<Core>, request: &Request) -> Answer {
    let user = request.asker().ok_or_else(forbidden)?;
    let id = request.payload.attr("sid").filter(|id| !id.is_empty() && id.len() <= SID_BYTES_MAX);
    let target = request.payload.child_text("activate", BYTESTREAMS).filter(|target| !target.is_empty());
    let (Some(id), Some(target)) = (id, target) else {
        return Err(StanzaError::new(Condition::BadRequest, "say the id of the stream, and whom it is with"));
    };
    // As both have written it: their hash is of the same letters.
    let hash = proxy::hash_of(id, request.from.as_str(), &target);
    proxy::begin(core, user, &hash).map(|()| None).map_err(|reason| match reason {
        NotBegun::Nobody => StanzaError::new(Condition::ItemNotFound, "nobody has come to such a stream"),
        NotBegun::OneAlone => StanzaError::new(Condition::NotAllowed, "one of both has not come"),
        NotBegun::TooMany => StanzaError::new(Condition::ResourceConstraint, "you have too many streams at once"),
    })
}
