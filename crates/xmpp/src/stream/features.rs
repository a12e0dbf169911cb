//! What a stream offers. [RFC6120 §4.3.2]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_stanza::{Element, ns};
use sha2::{Digest as _, Sha256};

use crate::{
    core::Core,
    sasl::{Ht, Offer},
    session::Session,
    stream::{UNPROVEN_BYTES_MAX, transport::Security},
    xep::caps,
};

/// Before TLS. [RFC6120 §5.3.1]
pub(super) fn before_tls(offer: Option<&Offer>) -> Vec<Element> {
    let start = Element::new("starttls", ns::TLS);
    match offer {
        None => vec![start.with_child(Element::new("required", ns::TLS))],
        Some(offer) => vec![start, mechanisms(offer)],
    }
}

/// What is offered, as one word: who has seen it before need not wait to see it again. [XEP-0509 §3]
const IAP: &str = "urn:xmpp:iap:0";

/// Before authentication.
pub(super) fn before_login(core: &Core, offer: &Offer, security: &Security) -> Vec<Element> {
    let mut features = offered(core, offer, security);
    let version = Element::new("config-version", IAP).with_attr("scheme", "opaque");
    features.push(version.with_attr("value", version_of(&features)));
    features
}

/// Whether a client that did not wait to see what is offered knew it; one that waited need not say. [XEP-0509 §3]
pub(super) fn knew(request: &Element, core: &Core, offer: &Offer, security: &Security) -> bool {
    let Some(known) = request.child("config-version", IAP) else { return true };
    known.attr("value") == Some(version_of(&offered(core, offer, security)).as_str())
}

/// `<failure/>` for one that knew something else. Nobody's password was tried. [XEP-0509 §3]
pub(super) fn other_version() -> Element {
    let text = "what is offered has changed";
    Element::new("failure", ns::SASL2)
        .with_child(Element::new("aborted", ns::SASL))
        .with_child(Element::new("config-version-mismatch", IAP))
        .with_child(Element::text_of("text", ns::SASL2, text).with_attr("xml:lang", "en"))
}

fn version_of(features: &[Element]) -> String {
    let texts: String = features.iter().map(Element::to_xml).collect();
    BASE64_STANDARD.encode(Sha256::digest(texts))
}

fn offered(core: &Core, offer: &Offer, security: &Security) -> Vec<Element> {
    let mut features = vec![mechanisms(offer), sasl2(offer, security)];
    features.extend(offer.binding_feature());
    if core.config().registration {
        features.push(Element::new("register", ns::REGISTER_FEATURE));
    }
    // [XEP-0445 §discover]
    features.push(Element::new("register", "urn:xmpp:ibr-token:0"));
    features.push(limits(UNPROVEN_BYTES_MAX));
    features
}

/// After authentication.
pub(super) fn after_login(core: &Core) -> Vec<Element> {
    let mut features = vec![
        Element::new("bind", ns::BIND).with_child(Element::new("required", ns::BIND)),
        // COMPAT(clients of RFC 3921): without it some wait for ever.
        Element::new("session", ns::SESSION).with_child(Element::new("optional", ns::SESSION)),
    ];
    features.push(Element::new("sm", ns::SM));
    features.extend(in_session(core));
    features
}

/// Of a session that was resumed or bound in one go: nothing that it has already. [RFC6120 §4.3.3]
pub(super) fn of_session(core: &Core, session: &Session) -> Vec<Element> {
    let counts = session.outbox().counts.is_some();
    let mut features: Vec<_> = (!counts).then(|| Element::new("sm", ns::SM)).into_iter().collect();
    features.extend(in_session(core));
    features
}

fn in_session(core: &Core) -> Vec<Element> {
    vec![
        Element::new("csi", ns::CSI),
        // [RFC6121 §2.6.1]
        Element::new("ver", "urn:xmpp:features:rosterver"),
        // [RFC6121 §3.4.1]
        Element::new("sub", "urn:xmpp:features:pre-approval"),
        caps::of_server(core),
        caps::of_server_2(core),
        limits(core.config().stanza_bytes_max),
    ]
}

fn mechanisms(offer: &Offer) -> Element {
    let names = offer.mechanisms.iter().map(|name| Element::text_of("mechanism", ns::SASL, *name));
    Element::new("mechanisms", ns::SASL).with_children(names)
}

/// [XEP-0388 §2.1] [XEP-0386 §3.1] [XEP-0484 §3.1]
fn sasl2(offer: &Offer, security: &Security) -> Element {
    let inline_of_bind =
        [ns::CARBONS, ns::CSI, ns::SM].map(|feature| Element::new("feature", ns::BIND2).with_attr("var", feature));
    let bind =
        Element::new("bind", ns::BIND2).with_child(Element::new("inline", ns::BIND2).with_children(inline_of_bind));
    let tokens = Ht::offered(security).map(|ht| Element::text_of("mechanism", ns::FAST, ht.name()));
    let fast = Element::new("fast", ns::FAST).with_children(tokens);
    let inline = Element::new("inline", ns::SASL2)
        .with_child(Element::new("sm", ns::SM))
        .with_child(bind)
        .with_child_opt(security.is_encrypted.then_some(fast));
    let names = offer.mechanisms.iter().map(|name| Element::text_of("mechanism", ns::SASL2, *name));
    Element::new("authentication", ns::SASL2).with_children(names).with_child(inline)
}

/// [XEP-0478 §3]
fn limits(bytes: usize) -> Element {
    Element::new("limits", ns::STREAM_LIMITS).with_child(Element::text_of(
        "max-bytes",
        ns::STREAM_LIMITS,
        bytes.to_string(),
    ))
}
