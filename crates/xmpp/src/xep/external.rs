//! XEP-0215: External Service Discovery: the TURN server that callers meet at, with credentials of the kind that Matrix
//! clients get.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac as _};
use koine_stanza::{Condition, Element, StanzaError};
use sha1::Sha1;

use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
    time,
};

/// The protocol.
const SERVICES: &str = "urn:xmpp:extdisco:2";

/// The TURN server.
#[derive(Clone)]
pub struct Turn {
    /// Its addresses, as `turn:turn.example.org:3478?transport=udp`.
    pub uris: Vec<String>,
    /// The secret shared with it.
    pub shared_secret: String,
    /// How long credentials are good for, in seconds.
    pub lifetime_s: u64,
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Turn").field("uris", &self.uris).finish_non_exhaustive()
    }
}

/// Asked of the server.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Host, SERVICES)],
    handlers: &[
        Handler {
            at: &[At::Host],
            verbs: &[Verb::Get],
            name: "services",
            ns: SERVICES,
            run: |core, request| Box::pin(async move { services(&core, &request) }),
        },
        Handler {
            at: &[At::Host],
            verbs: &[Verb::Get],
            name: "credentials",
            ns: SERVICES,
            run: |core, request| Box::pin(async move { credentials(&core, &request) }),
        },
    ],
};

/// A service's address in parts: type, host, port, transport.
fn parts(uri: &str) -> Option<(&str, &str, Option<&str>, &str)> {
    let (kind, rest) = uri.split_once(':')?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let transport = query.strip_prefix("transport=").unwrap_or(if kind.ends_with('s') { "tcp" } else { "udp" });
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
        _ => (place, None),
    };
    matches!(kind, "stun" | "stuns" | "turn" | "turns").then_some((kind, host, port, transport))
}

fn all(core: &Core, request: &Request) -> Result<Vec<Element>, StanzaError> {
    let Some(user) = request.asker() else {
        return Err(StanzaError::new(Condition::Forbidden, "this is for people of this server"));
    };
    let Some(turn) = &core.config().turn else { return Ok(Vec::new()) };
    let ends_s = (core.now_ms() / 1_000).saturating_add(turn.lifetime_s);
    let name = format!("{ends_s}:{user}");
    let mut hmac = Hmac::<Sha1>::new_from_slice(turn.shared_secret.as_bytes()).expect("a key may have any length");
    hmac.update(name.as_bytes());
    let password = BASE64_STANDARD.encode(hmac.finalize().into_bytes());
    let services = turn.uris.iter().filter_map(|uri| parts(uri)).map(|(kind, host, port, transport)| {
        let service = Element::new("service", SERVICES)
            .with_attr("type", kind)
            .with_attr("host", host)
            .with_attr_opt("port", port)
            .with_attr("transport", transport);
        if kind.starts_with("stun") {
            return service;
        }
        service
            .with_attr("restricted", "true")
            .with_attr("username", name.as_str())
            .with_attr("password", password.as_str())
            .with_attr("expires", time::format(ends_s.saturating_mul(1_000)))
    });
    Ok(services.collect())
}

fn services(core: &Arc<Core>, request: &Request) -> Answer {
    let kind = request.payload.kind();
    let mut services = all(core, request)?;
    services.retain(|service| kind.is_none_or(|kind| service.kind() == Some(kind)));
    Ok(Some(Element::new("services", SERVICES).with_attr_opt("type", kind).with_children(services)))
}

/// [XEP-0215 §protocol-credentials]
fn credentials(core: &Arc<Core>, request: &Request) -> Answer {
    let asked = request.payload.child("service", SERVICES);
    let asked = asked.filter(|asked| asked.attr("host").is_some() && asked.kind().is_some());
    let asked = asked.ok_or_else(|| StanzaError::new(Condition::BadRequest, "name a service by host and type"))?;
    let is_meant = |service: &Element| {
        service.attr("host") == asked.attr("host")
            && service.kind() == asked.kind()
            && asked.attr("port").is_none_or(|port| service.attr("port") == Some(port))
    };
    let found: Vec<Element> = all(core, request)?.into_iter().filter(is_meant).collect();
    match found.is_empty() {
        false => Ok(Some(Element::new("credentials", SERVICES).with_children(found))),
        true => Err(StanzaError::new(Condition::ItemNotFound, "there is no such service")),
    }
}
