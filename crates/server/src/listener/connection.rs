//! One connection from its first byte to its last.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout},
};
use tracing::debug;

use koine_mail::{Dialect, Encryption};
use koine_xmpp::{Beginning, Held, Peer};

use super::{
    Shared,
    request::Requests,
    tls::{Certificates, XMPP_CLIENT},
};
use crate::config::{ListenerConfig, Serves};

/// A connection that has said nothing after this is closed.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(30);
/// From the first byte to the end of the TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(15);
/// From the end of one request to the end of the headers of the next. Clients poll for 30 seconds and go on.
const HEADERS_MAX: Duration = Duration::from_secs(60);
/// An HTTP/2 connection without requests for this long is closed.
const IDLE_MAX: Duration = Duration::from_secs(120);
/// Bytes of one request's line and headers together.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers of one request.
const HEADERS_COUNT_MAX: usize = 100;
/// Requests at the same time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 100;
/// Streams reset by the peer that may wait for our side to notice (CVE-2023-44487, rapid reset).
const PENDING_RESETS_MAX: usize = 20;

/// Serves a connection until it ends. It counts for as long as `held` is.
pub async fn serve(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr, held: Held) {
    if !greets(&shared.config) && !speaks(shared, &stream).await {
        return;
    }
    let gauge = &shared.metrics.connections_open;
    gauge.inc();
    match (shared.config.serves, &shared.certificates) {
        (Serves::Http, Some(certificates)) if shared.config.tls => {
            Box::pin(tls(shared, certificates, stream, peer, held)).await;
        }
        (Serves::Http, _) => Box::pin(http(shared, stream, peer, false, held)).await,
        (Serves::XmppClient, Some(certificates)) => xmpp(shared, certificates, stream, peer).await,
        (Serves::XmppServer, Some(certificates)) => {
            if let Some(xmpp) = &shared.services.xmpp {
                let peer = Peer { address: peer.ip(), closing: shared.shutdown.receiver() };
                let tls = certificates.server_tls(shared.config.tls);
                Box::pin(xmpp.serve_server(stream, beginning(shared), tls, peer)).await;
            }
        }
        (Serves::XmppComponent, Some(certificates)) => {
            if let Some(xmpp) = &shared.services.xmpp {
                let peer = Peer { address: peer.ip(), closing: shared.shutdown.receiver() };
                Box::pin(xmpp.serve_component(stream, beginning(shared), certificates.xmpp_start_tls(), peer)).await;
            }
        }
        (Serves::XmppBytestreams, _) => {
            if let Some(xmpp) = &shared.services.xmpp {
                let peer = Peer { address: peer.ip(), closing: shared.shutdown.receiver() };
                Box::pin(xmpp.serve_bytestream(stream, peer)).await;
            }
        }
        (Serves::XmppClient | Serves::XmppServer | Serves::XmppComponent, None) => {}
        (Serves::Smtp, certificates) => mail(shared, certificates.as_ref(), stream, peer, Dialect::Smtp).await,
        (Serves::Lmtp, certificates) => mail(shared, certificates.as_ref(), stream, peer, Dialect::Lmtp).await,
    }
    gauge.dec();
}

/// Whether it is ours to speak first. [RFC 5321 §3.1] [RFC 2033 §4.1]
fn greets(config: &ListenerConfig) -> bool {
    matches!(config.serves, Serves::Smtp | Serves::Lmtp) && !config.tls
}

/// Waits for the first byte; whether it came. Before it the connection has no buffers: ten thousand silent ones cost next to
/// nothing.
async fn speaks(shared: &Shared, stream: &TcpStream) -> bool {
    let mut first = [0];
    tokio::select! {
        spoke = timeout(FIRST_BYTE_MAX, stream.peek(&mut first)) => matches!(spoke, Ok(Ok(1..))),
        () = shared.shutdown.announced() => false,
    }
}

async fn xmpp(shared: &Arc<Shared>, certificates: &Certificates, stream: TcpStream, peer: SocketAddr) {
    let Some(xmpp) = &shared.services.xmpp else { return };
    let tls = if shared.config.tls { certificates.xmpp_tls() } else { certificates.xmpp_start_tls() };
    let beginning = beginning(shared);
    let peer = Peer { address: peer.ip(), closing: shared.shutdown.receiver() };
    Box::pin(xmpp.serve_client(stream, beginning, tls, peer)).await;
}

fn beginning(shared: &Shared) -> Beginning {
    if shared.config.tls { Beginning::Tls } else { Beginning::StartTls }
}

async fn mail(
    shared: &Arc<Shared>,
    certificates: Option<&Certificates>,
    stream: TcpStream,
    peer: SocketAddr,
    dialect: Dialect,
) {
    let Some(mail) = &shared.services.mail else { return };
    let peer = koine_mail::Peer { address: peer.ip(), closing: shared.shutdown.receiver() };
    let encryption = match certificates.map(Certificates::mail_acceptor) {
        Some(acceptor) if shared.config.tls => Encryption::First(acceptor),
        Some(acceptor) => Encryption::Offered(acceptor),
        // Where TLS is wanted there are certificates; without, nothing is said in the clear.
        None if shared.config.tls => return,
        None => Encryption::None,
    };
    Box::pin(mail.serve(stream, encryption, dialect, peer)).await;
}

async fn tls(shared: &Arc<Shared>, certificates: &Certificates, stream: TcpStream, peer: SocketAddr, held: Held) {
    match timeout(HANDSHAKE_MAX, certificates.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => {
            if stream.get_ref().1.alpn_protocol() == Some(XMPP_CLIENT) {
                if let Some(xmpp) = &shared.services.xmpp {
                    let peer = Peer { address: peer.ip(), closing: shared.shutdown.receiver() };
                    Box::pin(xmpp.serve_encrypted_client(stream, &certificates.xmpp_tls(), peer)).await;
                }
                return;
            }
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            http(shared, stream, peer, http2, held).await;
        }
        Ok(Err(error)) => debug!(peer = %peer.ip(), reason = %error, "TLS handshake failed"),
        Err(_) => debug!(peer = %peer.ip(), "TLS handshake took too long"),
    }
}

async fn http<S>(shared: &Arc<Shared>, stream: S, peer: SocketAddr, http2: bool, held: Held)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::default());
    let requests = Requests::new(shared.clone(), peer, activity.clone(), held);
    let builder = builder(http2);
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), requests));
    let mut ending = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(peer = %peer.ip(), reason = %error, "connection ended early");
                }
                return;
            }
            () = shared.shutdown.announced(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = activity.idle_for(IDLE_MAX), if http2 && !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The protocol is settled before (plain connections speak HTTP/1.1, TLS says by ALPN), so that nothing is guessed from
/// first bytes that may never come.
fn builder(http2: bool) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX)
        .max_headers(HEADERS_COUNT_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20));
    if http2 { builder.http2_only() } else { builder.http1_only() }
}

/// How many requests of a connection run.
#[derive(Default)]
pub struct Activity {
    running: AtomicUsize,
    begun: AtomicUsize,
}

/// One request that runs.
pub struct Active(Arc<Activity>);

impl Activity {
    /// A request begins; it ends when the result is dropped.
    pub fn begin(self: &Arc<Self>) -> Active {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        Active(self.clone())
    }

    /// Returns when for this long no request has run.
    async fn idle_for(&self, long: Duration) {
        loop {
            let begun = self.begun.load(Ordering::Relaxed);
            tokio::time::sleep_until(Instant::now() + long).await;
            if self.running.load(Ordering::Relaxed) == 0 && self.begun.load(Ordering::Relaxed) == begun {
                return;
            }
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
