//! Other XMPP servers. RFC 6120; who they are is proven by dialback over TLS [XEP-0220], whose certificates are checked.
//!
//! One connection carries our stanzas to a server, and another, that it makes, its stanzas to us. Stanzas for a server wait in
//! a bounded queue while its connection is made; when it cannot be, each comes back as an error to its sender.
//!
//! Inside of the server stanzas are in `jabber:client`; here they change into `jabber:server` and back.

mod dialback;
mod incoming;
mod outgoing;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use koine_stanza::{Condition, Element, Jid, StanzaError, ns};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::core::Core;

/// Where servers listen for servers. [RFC6120 §14.7]
pub(crate) const PORT: u16 = 5269;
/// What DNS is asked for. [RFC6120 §3.2.1]
pub(crate) const SERVICE: &str = "_xmpp-server._tcp";
/// Stanzas that wait for one server.
const WAITING_MAX: usize = 1_000;
/// Connections to servers at once.
const LINKS_MAX: usize = 2_000;
/// How long a server that could not be reached is not tried again.
const BACK_OFF: Duration = Duration::from_secs(20);
/// A connection that nothing goes over for so long is ended.
const IDLE_MAX: Duration = Duration::from_secs(600);

/// Connections to other servers, by our host and theirs.
#[derive(Default)]
pub(crate) struct Links {
    to: Mutex<HashMap<(String, String), Link>>,
}

struct Link {
    queue: mpsc::Sender<Element>,
    /// Until when stanzas come back at once, since the server could not be reached.
    closed_until: Option<(Instant, Condition)>,
}

impl Core {
    /// Sends a stanza, whose `from` is ours, to another server. What cannot be delivered comes back as an error.
    pub(crate) async fn send_elsewhere(self: &Arc<Self>, stanza: Element) {
        if let Err(error) = self.queue_elsewhere(&stanza)
            && let Some(answer) = error.answer(&stanza)
        {
            Box::pin(self.bounce(answer)).await;
        }
    }

    /// Hands an answer of ours to its recipient, who is one of ours.
    async fn bounce(self: &Arc<Self>, answer: Element) {
        let is_ours = answer
            .attr("to")
            .and_then(|to| Jid::new(to).ok())
            .is_some_and(|to| self.hosts.is_ours(to.domain().as_str()));
        if is_ours {
            self.route(answer, None).await;
        }
    }

    fn queue_elsewhere(self: &Arc<Self>, stanza: &Element) -> Result<(), StanzaError> {
        let host =
            |name: &str| stanza.attr(name).and_then(|jid| Jid::new(jid).ok()).map(|jid| jid.domain().to_string());
        let (Some(ours), Some(theirs)) = (host("from"), host("to")) else {
            return Err(StanzaError::new(Condition::JidMalformed, "a stanza for another server has both addresses"));
        };
        if self.config().servers.is_none() {
            return Err(StanzaError::new(
                Condition::RemoteServerNotFound,
                "this server does not talk to other XMPP servers",
            ));
        }
        let full =
            || StanzaError::new(Condition::ResourceConstraint, "too much waits for that server: try again later");
        let mut links = self.links.to.lock();
        let key = (ours.clone(), theirs.clone());
        let now = Instant::now();
        if let Some(link) = links.get_mut(&key) {
            match link.closed_until {
                Some((until, condition)) if now < until => {
                    return Err(StanzaError::new(condition, "that server could not be reached a moment ago"));
                }
                Some(_) => {}
                None => match link.queue.try_send(stanza.clone()) {
                    Ok(()) => return Ok(()),
                    Err(mpsc::error::TrySendError::Full(_)) => return Err(full()),
                    // It has just ended: another takes its place.
                    Err(mpsc::error::TrySendError::Closed(_)) => {}
                },
            }
            links.remove(&key);
        }
        if links.len() >= LINKS_MAX {
            links.retain(|_, link| !link.queue.is_closed() || link.closed_until.is_some_and(|(until, _)| now < until));
            if links.len() >= LINKS_MAX {
                return Err(full());
            }
        }
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        queue.try_send(stanza.clone()).map_err(|_| full())?;
        links.insert(key, Link { queue, closed_until: None });
        drop(links);
        tokio::spawn(outgoing::run(Arc::downgrade(self), ours, theirs, waiting));
        Ok(())
    }

    /// The connection to a server ended, or never came to be.
    fn link_ended(&self, ours: &str, theirs: &str, failed: Option<Condition>) {
        let mut links = self.links.to.lock();
        let key = (ours.to_owned(), theirs.to_owned());
        match failed {
            Some(condition) => {
                if let Some(link) = links.get_mut(&key) {
                    link.closed_until = Some((Instant::now() + BACK_OFF, condition));
                }
            }
            None => drop(links.remove(&key)),
        }
    }

    /// A server talks to us, so it can be talked to.
    fn heard_from_server(&self, theirs: &str) {
        self.links.to.lock().retain(|(_, host), link| host != theirs || link.closed_until.is_none());
    }
}

/// Whether an element is a stanza.
fn is_stanza(element: &Element) -> bool {
    matches!(element.name(), "message" | "presence" | "iq") && matches!(element.ns(), ns::SERVER | ns::CLIENT)
}

/// What came from a server, as it is inside of ours.
fn into_client(element: &mut Element) {
    if element.ns() == ns::SERVER {
        element.move_ns(ns::CLIENT);
    }
    for child in element.children_mut() {
        into_client(child);
    }
}

#[cfg(test)]
mod tests;
