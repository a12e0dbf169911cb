//! XEP-0220: Server Dialback, with the keys of XEP-0185.

use hmac::{Hmac, Mac as _};
use koine_stanza::{Condition, Element, Jid, StanzaError, ns};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::core::Core;

/// `<db:result/>`, `<db:verify/>`.
pub(super) const NS: &str = "jabber:server:dialback";
/// What a stream advertises. [XEP-0220 §2.2.1]
pub(super) const FEATURE: &str = "urn:xmpp:features:dialback";

/// The key with which `originating`, a host of ours, proves itself on a stream of `receiving`. [XEP-0185 §3]
pub(super) fn key(core: &Core, receiving: &str, originating: &str, stream: &str) -> String {
    let secret = data_encoding::HEXLOWER.encode(&Sha256::digest(core.secret));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length is good for HMAC");
    mac.update(format!("{receiving} {originating} {stream}").as_bytes());
    data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
}

/// Whether a key is ours.
fn is_key(core: &Core, receiving: &str, originating: &str, stream: &str, claimed: &str) -> bool {
    key(core, receiving, originating, stream).as_bytes().ct_eq(claimed.trim().as_bytes()).into()
}

/// `<db:name from= to=/>`
pub(super) fn element(name: &'static str, from: &str, to: &str) -> Element {
    Element::new(name, NS).with_attr("from", from).with_attr("to", to)
}

/// A proof that is not looked into, or could not be. [XEP-0220 §2.5]
pub(super) fn refusal(ours: &str, theirs: &str, condition: Condition) -> Element {
    let mut error = StanzaError::from(condition).element();
    error.move_ns(ns::SERVER);
    element("result", ours, theirs).with_attr("type", "error").with_child(error)
}

/// The host that an attribute names.
pub(super) fn host(element: &Element, name: &str) -> Option<String> {
    let jid = element.attr(name).and_then(|host| Jid::new(host).ok())?;
    jid.node().is_none().then(|| jid.domain().to_string())
}

/// The answer to another server that asks whether a key is ours. [XEP-0220 §2.4]
pub(super) fn answer(core: &Core, question: &Element) -> Element {
    let attr = |name: &str| question.attr(name).unwrap_or_default().to_ascii_lowercase();
    let (receiving, originating) = (attr("from"), attr("to"));
    let stream = question.id().unwrap_or_default();
    let is_ours = core.is_served(&originating) && is_key(core, &receiving, &originating, stream, &question.text());
    let answer = element("verify", &originating, &receiving).with_attr("id", stream);
    answer.with_attr("type", if is_ours { "valid" } else { "invalid" })
}
