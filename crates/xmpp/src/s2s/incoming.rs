//! Connections that other servers make to us: TLS, the proof of who they are, then their stanzas. [RFC6120 §13.13]

use std::{collections::HashSet, sync::Arc};

use koine_stanza::{Condition, Element, Jid, StreamCondition, StreamError, ns, reader::Limits};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};

use super::{IDLE_MAX, dialback, into_client, is_stanza, outgoing};
use crate::{
    core::{Core, Xmpp},
    stream::{
        self, NEGOTIATION_MAX, Peer, Tls, UNPROVEN_BYTES_MAX,
        client::new_id,
        end, end_with,
        tcp::{Io, Tcp},
        transport::{Broken, Incoming, OurHeader, Security, Transport, flush, next},
    },
};

/// Pairs of hosts that one connection may carry stanzas between.
const PAIRS_MAX: usize = 100;
/// Proofs that are looked into at once on one connection.
const PROOFS_MAX: usize = 10;

impl Xmpp {
    /// Serves the connection of another server until it ends.
    pub async fn serve_server(&self, socket: TcpStream, tls: Tls, peer: Peer) {
        let core = self.0.clone();
        let mut closing = peer.closing.clone();
        let served = Box::pin(serve(core, socket, tls));
        tokio::select! {
            () = served => {}
            // The other server notices that the connection is gone, and keeps what it could not send.
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }
}

async fn serve(core: Arc<Core>, socket: TcpStream, tls: Tls) {
    let begun = timeout(NEGOTIATION_MAX, start_tls(&core, socket, &tls)).await;
    let Ok(Some(mut tcp)) = begun else { return };
    let mut guest = Guest { core, id: new_id(), proven: HashSet::new(), our_host: None };
    let ended = match timeout(NEGOTIATION_MAX, guest.greet(&mut tcp)).await {
        Ok(Ok(())) => guest.listen(&mut tcp).await,
        Ok(Err(broken)) => broken,
        Err(_) => StreamError::new(StreamCondition::ConnectionTimeout, "the stream took too long to begin").into(),
    };
    match ended {
        Broken::Error(error) => end_with(&mut tcp, &error).await,
        Broken::Closed => end(&mut tcp).await,
        Broken::Lost => {}
    }
}

/// The stream before TLS. [RFC6120 §5.4]
async fn start_tls(core: &Arc<Core>, socket: TcpStream, tls: &Tls) -> Option<Tcp> {
    let mut tcp = Tcp::new(Io::Plain(socket), Security::default(), ns::SERVER, Limits::bytes(UNPROVEN_BYTES_MAX));
    let mut guest = Guest { core: core.clone(), id: new_id(), proven: HashSet::new(), our_host: None };
    let begun = async {
        guest.headers(&mut tcp).await?;
        let required = Element::new("required", ns::TLS);
        tcp.send_of_stream("features", &[Element::new("starttls", ns::TLS).with_child(required)]);
        match next(&mut tcp).await? {
            Incoming::Element(element) if element.is("starttls", ns::TLS) => Ok(()),
            _ => Err(Broken::from(StreamError::new(StreamCondition::PolicyViolation, "begin with STARTTLS"))),
        }
    };
    match begun.await {
        Ok(()) => {
            tcp.send(&Element::new("proceed", ns::TLS));
            flush(&mut tcp).await.ok()?;
            let socket = tcp.into_plain()?;
            stream::handshake_for(socket, tls, ns::SERVER).await
        }
        Err(Broken::Error(error)) => {
            end_with(&mut tcp, &error).await;
            None
        }
        Err(_) => None,
    }
}

/// A server that is connected.
struct Guest {
    core: Arc<Core>,
    /// Of the stream.
    id: String,
    /// Pairs of its host and ours that it has proven.
    proven: HashSet<(String, String)>,
    our_host: Option<String>,
}

impl Guest {
    /// Its header, and ours. [RFC6120 §4.7]
    async fn headers(&mut self, tcp: &mut Tcp) -> Result<(), Broken> {
        let header = match next(tcp).await? {
            Incoming::Open(header) => header,
            _ => return Err(StreamCondition::BadFormat.into()),
        };
        let to = header.element.attr("to").map(str::to_ascii_lowercase);
        let ours = to.clone().filter(|host| self.core.hosts.is_ours(host));
        let from = ours.clone().unwrap_or_else(|| self.core.hosts.domain.clone());
        let theirs = header.element.attr("from").map(ToOwned::to_owned);
        tcp.send_open(&OurHeader { from, to: theirs, id: self.id.clone() });
        if !header.element.is("stream", ns::STREAM) {
            return Err(StreamCondition::InvalidNamespace.into());
        }
        if header.content_ns.as_deref() != Some(ns::SERVER) {
            return Err(StreamError::new(StreamCondition::InvalidNamespace, "this port is for servers").into());
        }
        if to.is_some() && ours.is_none() {
            return Err(StreamError::new(StreamCondition::HostUnknown, "that host is not served here").into());
        }
        self.our_host = ours;
        Ok(())
    }

    async fn greet(&mut self, tcp: &mut Tcp) -> Result<(), Broken> {
        self.headers(tcp).await?;
        // [XEP-0220 §2.2.1]
        let features = [
            Element::new("dialback", dialback::FEATURE).with_child(Element::new("errors", dialback::FEATURE)),
            Element::new("limits", ns::STREAM_LIMITS).with_child(Element::text_of(
                "max-bytes",
                ns::STREAM_LIMITS,
                self.core.config().stanza_bytes_max.to_string(),
            )),
        ];
        tcp.send_of_stream("features", &features);
        flush(tcp).await
    }

    /// Everything after the features; why it ends.
    async fn listen(&mut self, tcp: &mut Tcp) -> Broken {
        let (done, mut proofs) = mpsc::channel::<Proof>(PROOFS_MAX);
        let mut pending = 0;
        loop {
            let came = tokio::select! {
                came = timeout(IDLE_MAX, next(tcp)) => match came {
                    Ok(came) => came,
                    Err(_) => return StreamError::new(StreamCondition::ConnectionTimeout, "nothing came for long").into(),
                },
                Some(proof) = proofs.recv() => {
                    pending -= 1;
                    self.proven(tcp, proof);
                    continue;
                }
            };
            let element = match came {
                Ok(Incoming::Element(element)) => element,
                Ok(Incoming::Close) => return Broken::Closed,
                Ok(Incoming::Open(_)) => return StreamCondition::BadFormat.into(),
                Err(broken) => return broken,
            };
            let handled = match (element.name(), element.ns()) {
                ("result", dialback::NS) if element.kind().is_none() => match pending < PROOFS_MAX {
                    true => self.look_into(tcp, &element, &done).map(|begun| pending += usize::from(begun)),
                    false => Err(StreamCondition::PolicyViolation.into()),
                },
                ("verify", dialback::NS) if element.kind().is_none() => {
                    self.answer_for_ours(tcp, &element);
                    Ok(())
                }
                _ if is_stanza(&element) => self.stanza(element).await,
                ("error", ns::STREAM) => return Broken::Closed,
                _ => Err(StreamCondition::UnsupportedStanzaType.into()),
            };
            if let Err(broken) = handled {
                return broken;
            }
        }
    }

    /// Somebody says to be a host, and gives a key that its server knows. [XEP-0220 §2.2]
    fn look_into(&self, tcp: &mut Tcp, element: &Element, done: &mpsc::Sender<Proof>) -> Result<bool, Broken> {
        let host =
            |name: &str| element.attr(name).and_then(|host| Jid::new(host).ok()).filter(|jid| jid.node().is_none());
        let (Some(theirs), Some(ours)) = (host("from"), host("to")) else {
            return Err(StreamCondition::ImproperAddressing.into());
        };
        let (theirs, ours) = (theirs.domain().to_string(), ours.domain().to_string());
        let refuse = |tcp: &mut Tcp, condition: Condition| {
            let error = koine_stanza::StanzaError::from(condition).element();
            tcp.send(&dialback::element("result", &ours, &theirs).with_attr("type", "error").with_child(error));
        };
        if !self.core.hosts.is_ours(&ours) {
            refuse(tcp, Condition::ItemNotFound);
            return Ok(false);
        }
        // Nobody else is who we are.
        if self.core.hosts.is_ours(&theirs) || self.proven.len() >= PAIRS_MAX {
            refuse(tcp, Condition::NotAllowed);
            return Ok(false);
        }
        let (core, id, key, done) = (self.core.clone(), self.id.clone(), element.text(), done.clone());
        tokio::spawn(async move {
            let valid = outgoing::verify(&core, &ours, &theirs, &id, key.trim()).await;
            if let Err(reason) = &valid {
                tracing::info!(server = theirs, %reason, "an XMPP server could not be asked whether a key is its");
            }
            // Whoever asked may be gone.
            let _ = done.send(Proof { ours, theirs, valid: valid.map_err(drop) }).await;
        });
        Ok(true)
    }

    fn proven(&mut self, tcp: &mut Tcp, proof: Proof) {
        let Proof { ours, theirs, valid } = proof;
        let result = dialback::element("result", &ours, &theirs);
        let answer = match valid {
            Ok(true) => result.with_attr("type", "valid"),
            Ok(false) => result.with_attr("type", "invalid"),
            // [XEP-0220 §2.5]
            Err(()) => {
                let error = koine_stanza::StanzaError::from(Condition::RemoteServerNotFound).element();
                result.with_attr("type", "error").with_child(error)
            }
        };
        if valid == Ok(true) {
            tcp.set_limits(Limits::bytes(self.core.config().stanza_bytes_max));
            self.core.heard_from_server(&theirs);
            self.proven.insert((theirs, ours));
        }
        tcp.send(&answer);
    }

    /// Another server asks whether a key is ours. [XEP-0220 §2.4]
    fn answer_for_ours(&self, tcp: &mut Tcp, element: &Element) {
        let attr = |name: &str| element.attr(name).unwrap_or_default().to_ascii_lowercase();
        let (receiving, originating) = (attr("from"), attr("to"));
        let stream = element.id().unwrap_or_default();
        let is_ours = self.core.hosts.is_ours(&originating)
            && dialback::is_key(&self.core, &receiving, &originating, stream, &element.text());
        let answer = dialback::element("verify", &originating, &receiving).with_attr("id", stream);
        tcp.send(&answer.with_attr("type", if is_ours { "valid" } else { "invalid" }));
    }

    async fn stanza(&self, mut stanza: Element) -> Result<(), Broken> {
        let address = |name: &str| stanza.attr(name).and_then(|jid| Jid::new(jid).ok());
        // [RFC6120 §8.1.1.2] [RFC6120 §8.1.2.2]
        let (Some(from), Some(to)) = (address("from"), address("to")) else {
            return Err(StreamCondition::ImproperAddressing.into());
        };
        let pair = (from.domain().to_string(), to.domain().to_string());
        if !self.proven.contains(&pair) {
            let condition = match self.proven.is_empty() {
                true => StreamCondition::NotAuthorized,
                false => StreamCondition::InvalidFrom,
            };
            return Err(StreamError::new(condition, "the stanza is from a host that was not proven").into());
        }
        into_client(&mut stanza);
        self.core.route(stanza, None).await;
        Ok(())
    }
}

/// What came of looking into a proof.
struct Proof {
    ours: String,
    theirs: String,
    valid: Result<bool, ()>,
}
