//! Streams: from the first byte of a connection to its last. RFC 6120.
//!
//! [`transport`] is what carries a stream, [`client`] how a client becomes a session, [`live`] what a session and its
//! connection do for each other. A connection is one task; what it costs while it is idle is that task and, with TLS, what
//! TLS keeps.

pub(crate) mod client;
pub(crate) mod component;
mod features;
pub(crate) mod live;
mod register;
mod sasl1;
pub(crate) mod sasl2;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod transport;
mod web;

use std::{net::IpAddr, sync::Arc, time::Duration};

use koine_stanza::{StreamCondition, StreamError, ns, reader::Limits};
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tokio_rustls::TlsAcceptor;

use self::{
    client::Negotiation,
    tcp::{Io, Tcp},
    transport::{Broken, Security, Transport, flush},
};
pub use self::{
    component::Component,
    tls::Tls,
    web::{Held, OverTls},
};
use crate::core::{Core, Xmpp};

/// Most bytes of an element of somebody who has not proven who they are. RFC 6120 allows no less. [RFC6120 §13.12]
pub(crate) const UNPROVEN_BYTES_MAX: usize = 10_000;
/// From the first byte to the session.
pub(crate) const NEGOTIATION_MAX: Duration = Duration::from_secs(60);
/// The TLS handshake.
pub(crate) const HANDSHAKE_MAX: Duration = Duration::from_secs(15);
/// Last words.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// In the clear, with the offer of STARTTLS. [RFC6120 §5]
    StartTls,
    /// With TLS. [XEP-0368]
    Tls,
    /// TLS was agreed upon below.
    Encrypted,
}

/// Whose connection it is.
#[derive(Clone)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Holds `true` once the server ends.
    pub closing: watch::Receiver<bool>,
}

impl Xmpp {
    /// Serves a client's connection until it ends.
    pub async fn serve_client(&self, socket: TcpStream, beginning: Beginning, tls: Tls, peer: Peer) {
        let core = self.0.clone();
        let opened = match beginning {
            Beginning::StartTls => Box::pin(start_tls(&core, socket, &tls, &peer)).await,
            Beginning::Tls | Beginning::Encrypted => Box::pin(handshake(socket, &tls)).await,
        };
        if let Some(transport) = opened {
            serve(core, Box::new(transport), peer).await;
        }
    }

    /// The same where TLS stands already.
    pub async fn serve_encrypted_client(
        &self,
        stream: tokio_rustls::server::TlsStream<TcpStream>,
        tls: &Tls,
        peer: Peer,
    ) {
        serve(self.0.clone(), Box::new(encrypted(stream, tls)), peer).await;
    }
}

async fn handshake(socket: TcpStream, tls: &Tls) -> Option<Tcp> {
    let accepted = timeout(HANDSHAKE_MAX, TlsAcceptor::from(tls.config()).accept(socket)).await;
    match accepted {
        Ok(Ok(stream)) => Some(encrypted(stream, tls)),
        Ok(Err(error)) => {
            tracing::debug!(reason = %error, "TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// TLS with somebody who connected to us, for a stream of stanzas in `content_ns`.
pub(crate) async fn handshake_for(socket: TcpStream, tls: &Tls, content_ns: &'static str) -> Option<Tcp> {
    let stream = timeout(HANDSHAKE_MAX, TlsAcceptor::from(tls.config()).accept(socket)).await.ok()?.ok()?;
    let security = tls.security(stream.get_ref().1);
    Some(Tcp::new(Io::Tls(Box::new(stream)), security, content_ns, Limits::bytes(UNPROVEN_BYTES_MAX)))
}

fn encrypted(stream: tokio_rustls::server::TlsStream<TcpStream>, tls: &Tls) -> Tcp {
    let security = tls.security(stream.get_ref().1);
    Tcp::new(Io::Tls(Box::new(stream)), security, ns::CLIENT, Limits::bytes(UNPROVEN_BYTES_MAX))
}

/// The stream before TLS; the one after it, or the same where clients may go on without.
async fn start_tls(core: &Arc<Core>, socket: TcpStream, tls: &Tls, peer: &Peer) -> Option<Tcp> {
    let mut tcp = Tcp::new(Io::Plain(socket), Security::default(), ns::CLIENT, Limits::bytes(UNPROVEN_BYTES_MAX));
    let mut negotiation = Negotiation::new(core.clone(), peer.address);
    let began =
        async { timeout(NEGOTIATION_MAX, negotiation.before_tls(&mut tcp)).await.unwrap_or_else(|_| Err(too_slow())) };
    let mut closing = peer.closing.clone();
    let began = tokio::select! {
        began = began => began,
        _ = closing.wait_for(|closing| *closing) => Err(shutdown()),
    };
    match began {
        Ok(client::BeforeTls::StartTls) => handshake(tcp.into_plain()?, tls).await,
        Ok(client::BeforeTls::GoOn(element)) => {
            let tcp: Box<dyn Transport> = Box::new(tcp);
            negotiate(negotiation, Some(element), tcp, peer.clone()).await;
            None
        }
        Err(broken) => {
            goodbye(&mut tcp, &mut negotiation, broken).await;
            None
        }
    }
}

/// Serves a client over what carries its stream.
pub(crate) async fn serve(core: Arc<Core>, transport: Box<dyn Transport>, peer: Peer) {
    negotiate(Negotiation::new(core, peer.address), None, transport, peer).await;
}

async fn negotiate(
    mut negotiation: Negotiation,
    first: Option<koine_stanza::Element>,
    mut transport: Box<dyn Transport>,
    peer: Peer,
) {
    let mut closing = peer.closing.clone();
    let bound = {
        let negotiated = Box::pin(timeout(NEGOTIATION_MAX, negotiation.run(&mut *transport, first)));
        tokio::select! {
            bound = negotiated => bound.unwrap_or_else(|_| Err(too_slow())),
            _ = closing.wait_for(|closing| *closing) => Err(shutdown()),
        }
    };
    match bound {
        Ok(bound) => {
            let core = negotiation.core().clone();
            drop(negotiation);
            live::run(core, transport, bound, peer).await;
        }
        Err(broken) => goodbye(&mut *transport, &mut negotiation, broken).await,
    }
}

fn too_slow() -> Broken {
    StreamError::new(StreamCondition::ConnectionTimeout, "logging in took too long").into()
}

pub(crate) fn shutdown() -> Broken {
    StreamError::new(StreamCondition::SystemShutdown, "the server ends, maybe to begin again").into()
}

/// Ends a stream that did not become a session. Its header goes before the error. [RFC6120 §4.9.1.2]
async fn goodbye(transport: &mut dyn Transport, negotiation: &mut Negotiation, broken: Broken) {
    match broken {
        Broken::Error(error) => {
            negotiation.send_header(transport);
            end_with(transport, &error).await;
        }
        Broken::Closed => end(transport).await,
        Broken::Lost => {}
    }
}

/// Says why the stream ends, and ends it. [RFC6120 §4.9.1.1]
pub(crate) async fn end_with(transport: &mut dyn Transport, error: &StreamError) {
    tracing::debug!(reason = %error, "a stream ends");
    transport.send_of_stream("error", &error.children());
    end(transport).await;
}

/// Ends the stream. [RFC6120 §4.4]
pub(crate) async fn end(transport: &mut dyn Transport) {
    transport.send_close();
    let words = async {
        flush(transport).await?;
        std::future::poll_fn(|cx| transport.poll_close(cx)).await;
        Ok::<(), Broken>(())
    };
    let _ = timeout(GOODBYE_MAX, words).await;
}
