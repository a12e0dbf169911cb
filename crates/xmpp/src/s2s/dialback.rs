//! XEP-0220: Server Dialback, with the keys of XEP-0185.

use hmac::{Hmac, Mac as _};
use koine_stanza::Element;
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
pub(super) fn is_key(core: &Core, receiving: &str, originating: &str, stream: &str, claimed: &str) -> bool {
    key(core, receiving, originating, stream).as_bytes().ct_eq(claimed.trim().as_bytes()).into()
}

/// `<db:name from= to=/>`
pub(super) fn element(name: &'static str, from: &str, to: &str) -> Element {
    Element::new(name, NS).with_attr("from", from).with_attr("to", to)
}
