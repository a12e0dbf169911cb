//! XEP-0033: Extended Stanza Addressing: one message or presence for many, given to the server, which makes the copies.
//! Only for people of this server, each of whose copies goes the way that a stanza of its own would.

use std::sync::Arc;

use koine_stanza::{Condition, Element, Jid, StanzaError};

use crate::{
    core::Core,
    iq::{At, Extension},
    session::Session,
};

/// The protocol.
const ADDRESS: &str = "http://jabber.org/protocol/address";
/// Most addresses of one stanza. [XEP-0033 §multicast-usage]
const ADDRESSES_MAX: usize = 50;

/// Stanzas alone: there are no requests.
pub(crate) const EXTENSION: Extension = Extension { features: &[(At::Host, ADDRESS)], handlers: &[] };

/// A message or presence to the server itself, if it names whom it is for. `None`: it does not.
pub(crate) async fn spread(
    core: &Arc<Core>,
    stanza: &Element,
    session: Option<&Arc<Session>>,
) -> Option<Result<(), StanzaError>> {
    let addresses = stanza.child("addresses", ADDRESS)?;
    let Some(session) = session else {
        return Some(Err(StanzaError::new(Condition::Forbidden, "copies are made for people of this server alone")));
    };
    Some(copies(core, stanza, addresses, session).await)
}

async fn copies(
    core: &Arc<Core>,
    stanza: &Element,
    addresses: &Element,
    session: &Arc<Session>,
) -> Result<(), StanzaError> {
    let mut to: Vec<Jid> = Vec::new();
    let mut kept: Vec<Element> = Vec::new();
    for address in addresses.children().filter(|child| child.is("address", ADDRESS)) {
        let is_recipient = matches!(address.kind(), Some("to" | "cc" | "bcc"));
        if !is_recipient || address.attr("delivered") == Some("true") {
            kept.push(address.clone());
            continue;
        }
        if address.attr("uri").is_some() || address.attr("node").is_some() {
            return Err(StanzaError::new(Condition::ItemNotFound, "an address is a `jid` here"));
        }
        let jid = address.attr("jid").and_then(|jid| Jid::new(jid).ok());
        let jid = jid.ok_or_else(|| StanzaError::new(Condition::JidMalformed, "`jid` is no address"))?;
        if to.len() >= ADDRESSES_MAX {
            let text = format!("a stanza goes to at most {ADDRESSES_MAX} addresses");
            return Err(StanzaError::new(Condition::NotAcceptable, text));
        }
        // [XEP-0033 §multicast-usage] Nobody learns of the blind copies.
        if address.kind() != Some("bcc") {
            kept.push(address.clone().with_attr("delivered", "true"));
        }
        if !to.contains(&jid) {
            to.push(jid);
        }
    }
    if to.is_empty() {
        return Err(StanzaError::new(Condition::BadRequest, "nobody is named whom this is for"));
    }
    for jid in to {
        let mut copy = stanza.clone();
        copy.retain_children(|child| !child.is("addresses", ADDRESS));
        if !kept.is_empty() {
            copy.push(Element::new("addresses", ADDRESS).with_children(kept.iter().cloned()));
        }
        copy.set_attr("to", Some(jid.to_string()));
        Box::pin(core.route(copy, Some(session))).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, condition};

    fn is_message(stanza: &Element) -> bool {
        stanza.name() == "message"
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn all_get_a_copy_and_nobody_learns_of_the_blind_ones() {
        let world = World::new();
        let mut people = Vec::new();
        for name in ["alice", "bob", "carol"] {
            let client = world.connect(name, "r").await;
            client.send("<presence/>").await;
            people.push(client);
        }
        let [alice, bob, carol] = people.as_mut_slice() else { panic!("three came") };
        alice.send("<message to='example.org' type='chat' id='m1'><body>all</body><addresses xmlns='http://jabber.org/protocol/address'><address type='to' jid='bob@example.org'/><address type='bcc' jid='carol@example.org'/></addresses></message>").await;
        for client in [bob, carol] {
            let got = client.until(is_message).await;
            assert_eq!(got.child_text("body", koine_stanza::ns::CLIENT).as_deref(), Some("all"));
            let addresses = got.child("addresses", ADDRESS).expect("it says for whom it was");
            let told: Vec<_> = addresses.children().filter_map(|address| address.attr("jid")).collect();
            assert_eq!(told, ["bob@example.org"]);
        }
        alice.send("<message to='example.org' id='m2'><addresses xmlns='http://jabber.org/protocol/address'><address type='to' jid='@'/></addresses></message>").await;
        assert_eq!(condition(&alice.until(is_message).await).as_deref(), Some("jid-malformed"));
    }
}
