//! Other XMPP servers. RFC 6120; who they are is proven by certificates [XEP-0178] or by dialback [XEP-0220], in both cases over TLS
//! whose certificates are checked.
//!
//! ```text
//! send_elsewhere ──▶ component
//!               └──▶ link (our host, theirs) ── queue ──▶ wire     a connection that we made, or one of theirs that goes both ways
//! ```
//!
//! Stanzas for a server wait in a bounded queue while its connection is made; when it cannot be, each comes back as an error to its
//! sender. A server that was not reached is left alone for a while, longer each time.
//!
//! Inside of the server stanzas are in `jabber:client`; here they change into `jabber:server` and back.

pub(crate) mod certificate;
mod dialback;
mod external;
mod flow;
mod incoming;
mod outgoing;
mod wire;

use std::{collections::HashMap, sync::Arc, time::Duration};

use koine_stanza::{Condition, Element, Jid, StanzaError, ns};
use parking_lot::Mutex;
use ruma_common::OwnedServerName;
use tokio::sync::mpsc;

pub(crate) use self::outgoing::PROTOCOL;
use self::{
    flow::{Flow, Resumable},
    outgoing::Unreached,
};
use crate::core::Core;

/// What a stream advertises that may go both ways. [XEP-0288 §2]
const BIDI_FEATURE: &str = "urn:xmpp:features:bidi";
/// Whoever wants it to says so with this. [XEP-0288 §2]
const BIDI: &str = "urn:xmpp:bidi";
/// Stanzas that wait for one server.
const WAITING_MAX: usize = 1_000;
/// Connections to servers at once.
const LINKS_MAX: usize = 2_000;
/// A connection that nothing goes over for so long is ended.
const IDLE_MAX: Duration = Duration::from_secs(600);

/// Connections to other servers.
#[derive(Default)]
pub(crate) struct Links {
    /// By our host and theirs.
    to: Mutex<HashMap<(String, String), Link>>,
    resumable: Resumable,
}

struct Link {
    queue: mpsc::Sender<Element>,
    /// What stanzas come back with at once while the server is left alone.
    failed: Option<StanzaError>,
}

impl Links {
    /// A connection that they made takes stanzas of that pair, unless there is another one.
    fn adopt(&self, ours: &str, theirs: &str, queue: mpsc::Sender<Element>) {
        let mut to = self.to.lock();
        let key = (ours.to_owned(), theirs.to_owned());
        if to.get(&key).is_none_or(|link| link.queue.is_closed()) {
            to.insert(key, Link { queue, failed: None });
        }
    }

    /// Connections that are gone take no place.
    fn forget_closed(&self) {
        self.to.lock().retain(|_, link| !link.queue.is_closed() || link.failed.is_some());
    }
}

impl Core {
    /// Whether stanzas for a host are taken here: one of ours, or a component's.
    pub(crate) fn is_served(&self, host: &str) -> bool {
        self.hosts.is_ours(host) || self.components.has(host)
    }

    /// Whether a server is not talked to: it, or a domain that it is below of.
    fn is_blocked_server(&self, host: &str) -> bool {
        self.config().blocked_servers.iter().any(|blocked| {
            host.strip_suffix(blocked.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// Takes a stanza of another server or component, whose `from` is proven, for a host that is served here.
    pub(crate) async fn take_from_elsewhere(self: &Arc<Self>, stanza: Element, host: &str) {
        match self.hosts.is_ours(host) {
            true => self.route(stanza, None).await,
            false => self.send_elsewhere(stanza).await,
        }
    }

    /// Sends a stanza to another server or a component. What cannot be delivered comes back as an error.
    pub(crate) async fn send_elsewhere(self: &Arc<Self>, stanza: Element) {
        if let Err(error) = self.queue_elsewhere(&stanza)
            && let Some(answer) = error.answer(&stanza)
        {
            Box::pin(self.bounce(answer)).await;
        }
    }

    /// Hands an answer of ours to its recipient.
    async fn bounce(self: &Arc<Self>, answer: Element) {
        let Some(to) = answer.attr("to").and_then(|to| Jid::new(to).ok()) else { return };
        match self.hosts.is_ours(to.domain()) {
            true => self.route(answer, None).await,
            // An error that is not delivered is answered by none, so this ends.
            false => drop(self.queue_elsewhere(&answer)),
        }
    }

    fn queue_elsewhere(self: &Arc<Self>, stanza: &Element) -> Result<(), StanzaError> {
        let host =
            |name: &str| stanza.attr(name).and_then(|jid| Jid::new(jid).ok()).map(|jid| jid.domain().to_string());
        let (Some(ours), Some(theirs)) = (host("from"), host("to")) else {
            return Err(StanzaError::new(Condition::JidMalformed, "a stanza for another server has both addresses"));
        };
        if let Some(taken) = self.components.send(&theirs, stanza) {
            return taken;
        }
        let nowhere = |text: &str| Err(StanzaError::new(Condition::RemoteServerNotFound, text));
        let Some(servers) = &self.config().servers else {
            return nowhere("this server does not talk to other XMPP servers");
        };
        if !self.is_served(&ours) {
            return nowhere("stanzas of other servers are not passed on");
        }
        if self.is_blocked_server(&theirs) {
            return Err(StanzaError::new(Condition::PolicyViolation, "this server does not talk to that one"));
        }
        let full =
            || StanzaError::new(Condition::ResourceConstraint, "too much waits for that server: try again later");
        let is_left_alone = book_name(&theirs).is_some_and(|name| servers.ready_at(&name).is_some());
        let mut links = self.links.to.lock();
        let key = (ours.clone(), theirs.clone());
        let mut failed = None;
        if let Some(link) = links.get(&key) {
            failed = link.failed.clone();
            if failed.is_none() {
                match link.queue.try_send(stanza.clone()) {
                    Ok(()) => return Ok(()),
                    Err(mpsc::error::TrySendError::Full(_)) => return Err(full()),
                    // It has just ended: another takes its place.
                    Err(mpsc::error::TrySendError::Closed(_)) => {}
                }
            }
        }
        if is_left_alone {
            let unknown =
                || StanzaError::new(Condition::RemoteServerNotFound, "that server could not be reached a moment ago");
            return Err(failed.unwrap_or_else(unknown));
        }
        links.remove(&key);
        if links.len() >= LINKS_MAX {
            links.retain(|_, link| !link.queue.is_closed());
            if links.len() >= LINKS_MAX {
                return Err(full());
            }
        }
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        queue.try_send(stanza.clone()).map_err(|_| full())?;
        let flow = Flow::new(&queue, waiting);
        links.insert(key, Link { queue, failed: None });
        drop(links);
        tokio::spawn(outgoing::run(Arc::downgrade(self), ours, theirs, flow));
        Ok(())
    }

    /// A connection to a server did not come to be.
    fn link_failed(&self, ours: &str, theirs: &str, error: &StanzaError) {
        if let Some(link) = self.links.to.lock().get_mut(&(ours.to_owned(), theirs.to_owned())) {
            link.failed = Some(error.clone());
        }
    }

    /// Notes that a server was not reached, so that it is left alone for a while.
    fn server_failed(&self, theirs: &str, began: std::time::Instant, reason: &Unreached) {
        let (Some(servers), Some(name)) = (&self.config().servers, book_name(theirs)) else { return };
        let error = match reason {
            Unreached::Network(error) => error.clone(),
            other => koine_net::Error::Broken(other.to_string()),
        };
        servers.failed(&name, began, &error);
    }

    /// Waits until a server may be tried again.
    async fn until_server_ready(&self, theirs: &str) {
        if let (Some(servers), Some(name)) = (&self.config().servers, book_name(theirs)) {
            servers.until_ready(&name).await;
        }
    }

    /// A server talks to us, so it can be talked to.
    fn heard_from_server(&self, theirs: &str) {
        if let (Some(servers), Some(name)) = (&self.config().servers, book_name(theirs)) {
            servers.heard_from(&name);
        }
        self.links.to.lock().retain(|(_, host), link| host != theirs || link.failed.is_none());
    }
}

/// A server in the book of those who are left alone. Not by its name alone: what is wrong with its XMPP says nothing of its Matrix.
fn book_name(host: &str) -> Option<OwnedServerName> {
    format!("{host}:5269").try_into().ok()
}

/// A connection has ended. What was sent and not confirmed goes back to its senders; what was not sent takes another connection.
fn not_certain(core: &Arc<Core>, mut flow: Flow) {
    let uncertain = flow.take_unconfirmed();
    let rest = flow.give_up();
    core.links.forget_closed();
    let text = "the connection to that server broke: whether this has arrived is not known";
    bounce_all(core, &uncertain, &StanzaError::new(Condition::RemoteServerTimeout, text));
    send_again(core, rest);
}

/// Stanzas that a connection did not send.
fn send_again(core: &Arc<Core>, stanzas: Vec<Element>) {
    for stanza in stanzas {
        if let Err(error) = core.queue_elsewhere(&stanza) {
            bounce_all(core, &[stanza], &error);
        }
    }
}

/// Stanzas come back to their senders with an error.
fn bounce_all(core: &Arc<Core>, stanzas: &[Element], error: &StanzaError) {
    let answers: Vec<_> = stanzas.iter().filter_map(|stanza| error.answer(stanza)).collect();
    if answers.is_empty() {
        return;
    }
    let core = core.clone();
    tokio::spawn(async move {
        for answer in answers {
            core.bounce(answer).await;
        }
    });
}

/// Whether an element is a stanza.
fn is_stanza(element: &Element) -> bool {
    matches!(element.name(), "message" | "presence" | "iq") && matches!(element.ns(), ns::SERVER | ns::CLIENT)
}

/// What came from a server or component, as it is inside of ours.
pub(crate) fn into_client(element: &mut Element) {
    if matches!(element.ns(), ns::SERVER | ns::COMPONENT) {
        element.move_ns(ns::CLIENT);
    }
    for child in element.children_mut() {
        into_client(child);
    }
}

#[cfg(test)]
mod tests;
