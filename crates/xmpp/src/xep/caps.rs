//! XEP-0115 and XEP-0390: Entity Capabilities of the server: a hash in the features of each stream, so that a client that knows
//! it need not ask what the server can. Those of clients are in `pep/caps.rs`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_stanza::{Element, ns};
use sha2::{Digest as _, Sha256};

use super::{disco, pep};
use crate::{
    core::Core,
    iq::{At, Extension},
};

const CAPS: &str = "http://jabber.org/protocol/caps";

/// The second version.
const CAPS2: &str = "urn:xmpp:caps";
/// [XEP-0300]
const HASHES: &str = "urn:xmpp:hashes:2";
/// Separators of what is hashed, from the outer to the inner. [XEP-0390 §algorithm-input]
const SEPARATORS: [char; 4] = ['\x1c', '\x1d', '\x1e', '\x1f'];

/// What the server says; nobody asks for it but by service discovery. Presence that repeats what a client is goes to our own
/// people without that (`im/presence.rs`).
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Host, CAPS), (At::Host, "http://jabber.org/protocol/caps#optimize"), (At::Host, CAPS2)],
    handlers: &[],
};

/// A presence without what a client is, if the one before said the same. [XEP-0115 §optimizations]
pub(crate) fn without_repetition(before: Option<&Element>, stanza: &Element) -> Option<Element> {
    let caps = stanza.child("c", CAPS)?;
    (before?.child("c", CAPS)? == caps).then(|| {
        let mut shorter = stanza.clone();
        shorter.retain_children(|child| child.ns() != CAPS);
        shorter
    })
}

/// `<c/>` in the features of a stream. [XEP-0115 §stream]
pub(crate) fn of_server(core: &Core) -> Element {
    Element::new("c", CAPS)
        .with_attr("hash", "sha-1")
        .with_attr("node", software(core))
        .with_attr("ver", pep::verification(&disco::about(core, At::Host)))
}

/// The same in the second version. [XEP-0390 §usecases-stream]
pub(crate) fn of_server_2(core: &Core) -> Element {
    let hash = Element::text_of("hash", HASHES, hash_2(&disco::about(core, At::Host)));
    Element::new("c", CAPS2).with_child(hash.with_attr("algo", "sha-256"))
}

/// Whether a node is one at which the server tells what its hashes stand for.
pub(super) fn is_node(core: &Core, node: &str) -> bool {
    let about = disco::about(core, At::Host);
    node == format!("{}#{}", software(core), pep::verification(&about))
        || node == format!("{CAPS2}#sha-256.{}", hash_2(&about))
}

/// The hash of the second version.
fn hash_2(info: &Element) -> String {
    BASE64_STANDARD.encode(Sha256::digest(hashed_2(info).as_bytes()))
}

/// What it is the hash of. [XEP-0390 §algorithm-input]
fn hashed_2(info: &Element) -> String {
    let [outer, of_form, of_field, inner] = SEPARATORS;
    let attr = |element: &Element, name: &str| format!("{}{inner}", element.attr(name).unwrap_or_default());
    let joined = |mut parts: Vec<String>, end: char| {
        parts.sort_unstable();
        parts.concat() + &end.to_string()
    };
    let of = |name: &'static str| info.children().filter(move |child| child.is(name, ns::DISCO_INFO));
    let features = joined(of("feature").map(|feature| attr(feature, "var")).collect(), outer);
    let identity = |one: &Element| {
        let parts = ["category", "type", "xml:lang", "name"].map(|name| attr(one, name));
        format!("{}{of_field}", parts.concat())
    };
    let identities = joined(of("identity").map(identity).collect(), outer);
    let field = |field: &Element| {
        let values = field.children().filter(|child| child.is("value", ns::DATA_FORMS));
        let mut values: Vec<String> = values.map(|value| format!("{}{inner}", value.text())).collect();
        values.sort_unstable();
        format!("{}{}{of_field}", attr(field, "var"), values.concat())
    };
    let form = |form: &Element| {
        let fields = form.children().filter(|child| child.is("field", ns::DATA_FORMS));
        joined(fields.map(field).collect(), of_form)
    };
    let forms = info.children().filter(|child| child.is("x", ns::DATA_FORMS));
    let forms = joined(forms.map(form).collect(), outer);
    format!("{features}{identities}{forms}")
}

fn software(core: &Core) -> String {
    format!("https://{}/", core.hosts.domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_hash_is_that_of_the_specification() {
        // [XEP-0390 §algorithm-example-simple]
        let features = [
            "http://jabber.org/protocol/si",
            "http://jabber.org/protocol/bytestreams",
            "http://jabber.org/protocol/chatstates",
            "http://jabber.org/protocol/disco#info",
            "http://jabber.org/protocol/disco#items",
            "urn:xmpp:ping",
            "jabber:iq:time",
            "jabber:iq:privacy",
            "jabber:iq:version",
            "http://jabber.org/protocol/rosterx",
            "urn:xmpp:time",
            "jabber:x:oob",
            "http://jabber.org/protocol/ibb",
            "http://jabber.org/protocol/si/profile/file-transfer",
            "urn:xmpp:receipts",
            "jabber:iq:roster",
            "jabber:iq:last",
        ];
        let features = features.map(|var| Element::new("feature", ns::DISCO_INFO).with_attr("var", var));
        let identity = Element::new("identity", ns::DISCO_INFO)
            .with_attr("category", "client")
            .with_attr("name", "BombusMod")
            .with_attr("type", "mobile");
        let info = Element::new("query", ns::DISCO_INFO).with_child(identity).with_children(features);
        assert_eq!(hash_2(&info), "kzBZbkqJ3ADrj7v08reD1qcWUwNGHaidNUgD7nHpiw8=");
    }

    #[test]
    fn what_a_client_is_is_not_repeated() {
        let presence = |ver: &str| {
            let caps = Element::new("c", CAPS).with_attr("ver", ver);
            Element::new("presence", ns::CLIENT).with_child(caps)
        };
        let shorter = without_repetition(Some(&presence("1")), &presence("1")).expect("it is shorter");
        assert!(!shorter.has_child("c", CAPS));
        assert_eq!(without_repetition(Some(&presence("1")), &presence("2")), None);
        assert_eq!(without_repetition(None, &presence("1")), None);
    }
}
