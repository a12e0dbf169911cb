//! XEP-0114: components, programs that the operator trusts with a host of their own.
//!
//! Each is named in the configuration with its secret. Whoever knows it has the host; a newcomer takes the place of the one before,
//! whose connection has mostly broken. Stanzas for a component that is not there come back to their senders.

use std::collections::HashMap;

use koine_stanza::{Condition, Element, Jid, StanzaError, StreamCondition, StreamError, ns, reader::Limits};
use parking_lot::Mutex;
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};

use super::{
    Beginning, NEGOTIATION_MAX, Peer, Tls, UNPROVEN_BYTES_MAX,
    client::new_id,
    end, end_with, handshake_for, shutdown,
    tcp::{Io, Tcp},
    transport::{Broken, Incoming, OurHeader, Security, Transport, next},
};
use crate::core::{Core, Xmpp};

/// Stanzas that wait for one component.
const WAITING_MAX: usize = 10_000;
/// Bytes that may wait in a connection; more waits in the queue.
const BACKLOG_MAX: usize = 64 * 1024;

/// A component, as the configuration has it.
#[derive(Clone)]
pub struct Component {
    /// Its host, as `irc.example.org`.
    pub host: String,
    /// What it proves itself with.
    pub secret: String,
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Component").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Components by their hosts.
pub(crate) struct Components {
    known: HashMap<String, Known>,
}

struct Known {
    secret: String,
    /// Where stanzas go, while it is connected.
    queue: Mutex<Option<mpsc::Sender<Element>>>,
}

impl Components {
    pub(crate) fn new(components: &[Component]) -> Self {
        let known = components.iter().map(|component| {
            let known = Known { secret: component.secret.clone(), queue: Mutex::default() };
            (component.host.to_ascii_lowercase(), known)
        });
        Self { known: known.collect() }
    }

    /// Whether there is such a component, connected or not.
    pub(crate) fn has(&self, host: &str) -> bool {
        self.known.contains_key(host)
    }

    /// Hosts of those that are connected.
    pub(crate) fn connected(&self) -> Vec<&str> {
        let is_connected = |known: &Known| known.queue.lock().as_ref().is_some_and(|queue| !queue.is_closed());
        let mut hosts: Vec<_> =
            self.known.iter().filter(|(_, known)| is_connected(known)).map(|(host, _)| host.as_str()).collect();
        hosts.sort_unstable();
        hosts
    }

    /// What a component is sent, in a test that speaks for it.
    #[cfg(test)]
    pub(crate) fn connect(&self, host: &str) -> mpsc::Receiver<Element> {
        let (queue, came) = mpsc::channel(1_000);
        *self.known.get(host).expect("there is such a component").queue.lock() = Some(queue);
        came
    }

    /// Hands a stanza to a component; `None` if there is none of that host.
    pub(crate) fn send(&self, host: &str, stanza: &Element) -> Option<Result<(), StanzaError>> {
        let known = self.known.get(host)?;
        let queue = known.queue.lock().clone();
        Some(match queue.map(|queue| queue.try_send(stanza.clone())) {
            Some(Ok(())) => Ok(()),
            Some(Err(mpsc::error::TrySendError::Full(_))) => {
                Err(StanzaError::new(Condition::ResourceConstraint, "too much waits for that service: try again later"))
            }
            Some(Err(mpsc::error::TrySendError::Closed(_))) | None => {
                let error = StanzaError::new(Condition::ServiceUnavailable, "that service is not connected");
                Err(error.with_type(koine_stanza::ErrorType::Wait))
            }
        })
    }
}

impl Xmpp {
    /// Serves a component until its connection ends.
    pub async fn serve_component(&self, socket: TcpStream, beginning: Beginning, tls: Tls, peer: Peer) {
        let tcp = match beginning {
            Beginning::Tls => handshake_for(socket, &tls, ns::COMPONENT).await,
            // Listeners of components are on loopback, or behind something that protects them.
            Beginning::StartTls | Beginning::Encrypted => {
                let limits = Limits::bytes(UNPROVEN_BYTES_MAX);
                Some(Tcp::new(Io::Plain(socket), Security::default(), ns::COMPONENT, limits))
            }
        };
        let Some(mut tcp) = tcp else { return };
        let mut closing = peer.closing.clone();
        let ended = tokio::select! {
            ended = Box::pin(serve(&self.0, &mut tcp)) => ended,
            _ = closing.wait_for(|closing| *closing) => shutdown(),
        };
        match ended {
            Broken::Error(error) => end_with(&mut tcp, &error).await,
            Broken::Closed => end(&mut tcp).await,
            Broken::Lost => {}
        }
    }
}

/// Why it ends.
async fn serve(core: &std::sync::Arc<Core>, tcp: &mut Tcp) -> Broken {
    let late = StreamError::new(StreamCondition::ConnectionTimeout, "it took too long to prove who you are");
    let host = match timeout(NEGOTIATION_MAX, greet(core, tcp)).await {
        Ok(Ok(host)) => host,
        Ok(Err(broken)) => return broken,
        Err(_) => return late.into(),
    };
    tcp.set_limits(Limits::bytes(core.config().stanza_bytes_max));
    let Some(known) = core.components.known.get(&host) else { return StreamCondition::HostGone.into() };
    let (queue, mut waiting) = mpsc::channel(WAITING_MAX);
    // Whoever was here before sees its queue end.
    *known.queue.lock() = Some(queue);
    tracing::info!(component = host, "a component is connected");
    let ended = carry(core, tcp, &host, &mut waiting).await;
    waiting.close();
    while let Some(stanza) = waiting.recv().await {
        core.send_elsewhere(stanza).await;
    }
    tracing::info!(component = host, "a component has gone");
    ended
}

/// Headers and handshake; the host that it has. [XEP-0114 §3]
async fn greet(core: &Core, tcp: &mut Tcp) -> Result<String, Broken> {
    let Incoming::Open(header) = next(tcp).await? else { return Err(StreamCondition::InvalidXml.into()) };
    let wanted = header.element.attr("to").map(str::to_ascii_lowercase).unwrap_or_default();
    let id = new_id();
    tcp.send_open(&OurHeader { from: wanted.clone(), to: None, id: id.clone() });
    let is_stream = header.element.is("stream", ns::STREAM) && header.content_ns.as_deref() == Some(ns::COMPONENT);
    if !is_stream {
        return Err(StreamError::new(StreamCondition::InvalidNamespace, "this port is for components").into());
    }
    let Some(known) = core.components.known.get(&wanted) else {
        return Err(StreamError::new(StreamCondition::HostUnknown, "there is no such component").into());
    };
    let given = match next(tcp).await? {
        Incoming::Element(handshake) if handshake.is("handshake", ns::COMPONENT) => handshake.text(),
        Incoming::Close => return Err(Broken::Closed),
        _ => return Err(StreamError::new(StreamCondition::NotAuthorized, "begin with the handshake").into()),
    };
    let expected = data_encoding::HEXLOWER.encode(&Sha1::digest(format!("{id}{}", known.secret)));
    if !bool::from(expected.as_bytes().ct_eq(given.trim().to_ascii_lowercase().as_bytes())) {
        return Err(StreamError::new(StreamCondition::NotAuthorized, "the secret is another one").into());
    }
    tcp.send(&Element::new("handshake", ns::COMPONENT));
    Ok(wanted)
}

async fn carry(
    core: &std::sync::Arc<Core>,
    tcp: &mut Tcp,
    host: &str,
    waiting: &mut mpsc::Receiver<Element>,
) -> Broken {
    loop {
        let has_room = tcp.backlog() < BACKLOG_MAX;
        tokio::select! {
            stanza = waiting.recv(), if has_room => match stanza {
                Some(stanza) => tcp.send(&stanza),
                None => return StreamError::new(StreamCondition::Conflict, "another connection has this host now").into(),
            },
            came = next(tcp) => match came {
                Ok(Incoming::Element(element)) if element.is("error", ns::STREAM) => return Broken::Closed,
                Ok(Incoming::Element(element)) => {
                    if let Err(error) = take(core, host, element).await {
                        return error.into();
                    }
                }
                Ok(Incoming::Close) => return Broken::Closed,
                Ok(Incoming::Open(_)) => return StreamCondition::InvalidXml.into(),
                Err(broken) => return broken,
            },
        }
    }
}

/// A stanza of a component: from anybody at its host. [XEP-0114 §3]
async fn take(core: &std::sync::Arc<Core>, host: &str, mut stanza: Element) -> Result<(), StreamError> {
    let is_stanza = matches!(stanza.name(), "message" | "presence" | "iq");
    if !is_stanza || !matches!(stanza.ns(), ns::COMPONENT | ns::CLIENT) {
        return Err(StreamCondition::UnsupportedStanzaType.into());
    }
    let address = |name: &str| stanza.attr(name).and_then(|jid| Jid::new(jid).ok());
    let (Some(from), Some(to)) = (address("from"), address("to")) else {
        return Err(StreamError::new(StreamCondition::ImproperAddressing, "a stanza has both addresses"));
    };
    if from.domain() != host {
        return Err(StreamError::new(StreamCondition::InvalidFrom, "`from` is not at your host"));
    }
    let to = to.domain().to_string();
    crate::s2s::into_client(&mut stanza);
    core.take_from_elsewhere(stanza, &to).await;
    Ok(())
}
