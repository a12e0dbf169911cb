//! XEP-0115: Entity Capabilities of the server: a hash in the features of each stream, so that a client that knows it need not
//! ask what the server can. Those of clients are in `pep/caps.rs`.

use koine_stanza::Element;

use super::{disco, pep};
use crate::{
    core::Core,
    iq::{At, Extension},
};

const CAPS: &str = "http://jabber.org/protocol/caps";

/// What the server says; nobody asks for it but by service discovery.
pub(crate) const EXTENSION: Extension = Extension { features: &[(At::Host, CAPS)], handlers: &[] };

/// `<c/>` in the features of a stream. [XEP-0115 §stream]
pub(crate) fn of_server(core: &Core) -> Element {
    Element::new("c", CAPS)
        .with_attr("hash", "sha-1")
        .with_attr("node", software(core))
        .with_attr("ver", pep::verification(&disco::about(core, At::Host)))
}

/// The node at which the server tells what its hash stands for.
pub(super) fn node(core: &Core) -> String {
    format!("{}#{}", software(core), pep::verification(&disco::about(core, At::Host)))
}

fn software(core: &Core) -> String {
    format!("https://{}/", core.hosts.domain)
}
