//! Connections that other servers make to us: TLS, then what is offered; what follows is the [wire](super::wire)'s. [RFC6120 §13.13]

use std::sync::Arc;

use koine_stanza::{Element, StreamCondition, StreamError, ns, reader::Limits};
use rustls::pki_types::CertificateDer;
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;

use super::{
    BIDI_FEATURE, WAITING_MAX, dialback,
    external::EXTERNAL,
    flow::{Asking, Flow, Kept, RESUME_FOR},
    wire::{Ended, Maker, Wire},
};
use crate::{
    core::{Core, Xmpp},
    stream::{
        Beginning, HANDSHAKE_MAX, NEGOTIATION_MAX, Peer, Tls, UNPROVEN_BYTES_MAX, end, end_with, shutdown,
        tcp::{Io, Tcp},
        transport::{Broken, Incoming, OurHeader, Security, Transport, flush, next},
    },
};

impl Xmpp {
    /// Serves the connection of another server until it ends. `tls` should ask for certificates, see
    /// [`asks_for_certificates`](crate::asks_for_certificates): without, servers prove themselves by dialback alone.
    pub async fn serve_server(&self, socket: TcpStream, beginning: Beginning, tls: Tls, peer: Peer) {
        let core = self.0.clone();
        let begun = timeout(NEGOTIATION_MAX, Box::pin(begin(&core, socket, beginning, &tls))).await;
        let Ok(Some(mut wire)) = begun else { return };
        drop(core);
        let mut closing = peer.closing.clone();
        let ended = tokio::select! {
            ended = Box::pin(serve(&mut wire)) => ended,
            // The other server notices that the connection is gone, and keeps what it could not send.
            _ = closing.wait_for(|closing| *closing) => match shutdown() {
                Broken::Error(error) => Ended::Error(error),
                _ => Ended::Quiet,
            },
        };
        Box::pin(part(&self.0, wire, ended)).await;
    }
}

/// From the first byte to TLS.
async fn begin(core: &Arc<Core>, socket: TcpStream, beginning: Beginning, tls: &Tls) -> Option<Wire> {
    let socket = match beginning {
        Beginning::StartTls => start_tls(core, socket).await?,
        Beginning::Tls | Beginning::Encrypted => socket,
    };
    let accepted = timeout(HANDSHAKE_MAX, TlsAcceptor::from(tls.config()).accept(socket)).await.ok()?;
    let stream = accepted.map_err(|error| tracing::debug!(reason = %error, "TLS with a server failed")).ok()?;
    let chain = chain(stream.get_ref().1.peer_certificates());
    let security = Security { is_encrypted: true, ..Security::default() };
    let limits = Limits::bytes(UNPROVEN_BYTES_MAX);
    let tcp = Tcp::new(Io::Tls(Box::new(stream)), security, ns::SERVER, limits);
    Some(new_wire(core, tcp, chain))
}

fn new_wire(core: &Arc<Core>, tcp: Tcp, chain: Vec<CertificateDer<'static>>) -> Wire {
    let (to_queue, queue) = mpsc::channel(WAITING_MAX);
    let mut wire = Wire::new(Arc::downgrade(core), tcp, Maker::They, chain, Flow::new(&to_queue, queue));
    wire.to_queue = Some(to_queue);
    wire
}

/// What somebody showed in the handshake.
pub(super) fn chain(shown: Option<&[CertificateDer<'_>]>) -> Vec<CertificateDer<'static>> {
    shown.unwrap_or_default().iter().map(|certificate| certificate.clone().into_owned()).collect()
}

/// The stream before TLS. [RFC6120 §5.4]
async fn start_tls(core: &Arc<Core>, socket: TcpStream) -> Option<TcpStream> {
    let tcp = Tcp::new(Io::Plain(socket), Security::default(), ns::SERVER, Limits::bytes(UNPROVEN_BYTES_MAX));
    let mut wire = new_wire(core, tcp, Vec::new());
    let begun = async {
        wire.headers(core).await?;
        let required = Element::new("required", ns::TLS);
        wire.tcp.send_of_stream("features", &[Element::new("starttls", ns::TLS).with_child(required)]);
        match next(&mut wire.tcp).await? {
            Incoming::Element(element) if element.is("starttls", ns::TLS) => Ok(()),
            _ => Err(Ended::Error(StreamError::new(StreamCondition::PolicyViolation, "begin with STARTTLS"))),
        }
    };
    match begun.await {
        Ok(()) => {
            wire.tcp.send(&Element::new("proceed", ns::TLS));
            flush(&mut wire.tcp).await.ok()?;
            wire.tcp.into_plain()
        }
        Err(Ended::Error(error)) => {
            end_with(&mut wire.tcp, &error).await;
            None
        }
        Err(_) => None,
    }
}

async fn serve(wire: &mut Wire) -> Ended {
    let greeted = async {
        let core = wire.core.upgrade().ok_or(Ended::Quiet)?;
        wire.headers(&core).await?;
        let features = features(&core, wire);
        wire.tcp.send_of_stream("features", &features);
        Ok(())
    };
    match timeout(NEGOTIATION_MAX, greeted).await {
        Ok(Ok(())) => wire.run().await,
        Ok(Err(ended)) => ended,
        Err(_) => {
            Ended::Error(StreamError::new(StreamCondition::ConnectionTimeout, "the stream took too long to begin"))
        }
    }
}

/// What a stream with TLS offers.
pub(super) fn features(core: &Core, wire: &Wire) -> Vec<Element> {
    let mut features = Vec::new();
    match wire.certified {
        // [XEP-0198 §3] Whoever comes by dialback has no stream that begins once more, in which it could be offered.
        Some(_) => features.push(Element::new("sm", ns::SM)),
        None => {
            if wire.is_vouched(core) {
                let mechanism = Element::text_of("mechanism", ns::SASL, EXTERNAL);
                features.push(Element::new("mechanisms", ns::SASL).with_child(mechanism));
            }
            features.push(Element::new("bidi", BIDI_FEATURE));
        }
    }
    // [XEP-0220 §2.2.1]
    features.push(Element::new("dialback", dialback::FEATURE).with_child(Element::new("errors", dialback::FEATURE)));
    let bytes_max = core.config().stanza_bytes_max.to_string();
    let limits = [("max-bytes", bytes_max), ("idle-seconds", super::IDLE_MAX.as_secs().to_string())];
    let limits = limits.map(|(name, value)| Element::text_of(name, ns::STREAM_LIMITS, value));
    features.push(Element::new("limits", ns::STREAM_LIMITS).with_children(limits));
    features
}

impl Wire {
    /// Their header, and ours. [RFC6120 §4.7]
    pub(super) async fn headers(&mut self, core: &Core) -> Result<(), Ended> {
        let header = match next(&mut self.tcp).await? {
            Incoming::Open(header) => header,
            _ => return Err(StreamCondition::BadFormat.into()),
        };
        let to = header.element.attr("to").map(str::to_ascii_lowercase);
        let ours = to.clone().filter(|host| core.is_served(host));
        let from = ours.clone().unwrap_or_else(|| core.hosts.domain.clone());
        let said = header.element.attr("from").map(ToOwned::to_owned);
        self.id = crate::stream::client::new_id();
        self.tcp.send_open(&OurHeader { from, to: said, id: self.id.clone() });
        if !header.element.is("stream", ns::STREAM) {
            return Err(StreamCondition::InvalidNamespace.into());
        }
        if header.content_ns.as_deref() != Some(ns::SERVER) {
            let error = StreamError::new(StreamCondition::InvalidNamespace, "this port is for servers");
            return Err(Ended::Error(error));
        }
        if to.is_some() && ours.is_none() {
            let error = StreamError::new(StreamCondition::HostUnknown, "that host is not served here");
            return Err(Ended::Error(error));
        }
        let theirs = dialback::host(&header.element, "from");
        if theirs.as_deref().is_some_and(|theirs| core.is_blocked_server(theirs)) {
            let error = StreamError::new(StreamCondition::PolicyViolation, "this server does not talk to yours");
            return Err(Ended::Error(error));
        }
        (self.ours, self.theirs) = (ours, theirs);
        Ok(())
    }
}

/// The end of a connection.
async fn part(core: &Arc<Core>, wire: Wire, ended: Ended) {
    let can_go_on = matches!(ended, Ended::Lost);
    let (mut tcp, flow, is_bidi, asked) = wire.into_parts();
    match asked {
        Some(asked) if can_go_on => {
            tokio::spawn(keep(Arc::downgrade(core), Kept { flow, is_bidi }, asked));
        }
        _ => {
            if let Some(id) = &flow.id {
                core.links.resumable.remove(id);
            }
            super::not_certain(core, flow);
        }
    }
    match ended {
        Ended::Error(error) => end_with(&mut tcp, &error).await,
        Ended::TakenOver => {
            let error = StreamError::new(StreamCondition::Conflict, "another connection goes on with this stream");
            end_with(&mut tcp, &error).await;
        }
        Ended::Closed | Ended::Quiet => end(&mut tcp).await,
        Ended::Lost => {}
    }
}

/// Keeps what was under way until the other server goes on with it, or does not.
async fn keep(core: std::sync::Weak<Core>, kept: Kept, mut asked: mpsc::Receiver<Asking>) {
    let until = Instant::now() + RESUME_FOR;
    let kept = match timeout_at(until, asked.recv()).await {
        Ok(Some(asking)) => match asking.send(kept) {
            Ok(()) => return,
            Err(kept) => kept,
        },
        _ => kept,
    };
    if let Some(core) = core.upgrade() {
        if let Some(id) = &kept.flow.id {
            core.links.resumable.remove(id);
        }
        super::not_certain(&core, kept.flow);
    }
}
