//! Listening: connections of strangers, each bounded in number, time and size before anything looks at a request.
//!
//! A connection that says nothing costs a socket and a few hundred bytes: no buffer is made before its first byte. One that
//! says too little too slowly is closed by one of the times below. What requests mean is the router's business.

mod connection;
mod limits;
mod request;
pub mod tls;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use koine_xmpp::Held;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
};
use tracing::{debug, info, warn};

use self::limits::Places;
use crate::{config::ListenerConfig, metrics::Metrics, shutdown::Shutdown};

/// Connections that the kernel keeps for us until we take them.
const BACKLOG: u32 = 4096;
/// After a refusal of the kernel (out of files, mostly) the next connection is taken this much later.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has it.
    #[error("{0} is taken by another program; stop that one, or choose another port")]
    Taken(SocketAddr),
    /// For instance a port below 1024 without the right to it, or an address that is not of this machine.
    #[error("cannot listen on {address}: {reason}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// What the operating system says.
        reason: io::Error,
    },
}

/// What answers.
#[derive(Clone)]
pub struct Services {
    /// Requests of HTTP.
    pub router: axum::Router,
    /// Streams of XMPP.
    pub xmpp: Option<koine_xmpp::Xmpp>,
    /// Mail.
    pub mail: Option<koine_mail::Mail>,
}

/// What every connection of one listener shares.
struct Shared {
    config: ListenerConfig,
    services: Services,
    certificates: Option<tls::Certificates>,
    places: Places,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
}

/// An open listener that takes no connections yet.
pub struct Listener {
    socket: TcpListener,
    shared: Arc<Shared>,
    alive: mpsc::Sender<()>,
}

impl Listener {
    /// Opens an address. `alive` is held by every connection, so that the end of the last one can be waited for.
    pub fn open(
        config: ListenerConfig,
        services: Services,
        certificates: Option<tls::Certificates>,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
        alive: mpsc::Sender<()>,
    ) -> Result<Self, ListenError> {
        let address = config.address;
        let socket = bind(address).map_err(|reason| match reason.kind() {
            io::ErrorKind::AddrInUse => ListenError::Taken(address),
            _ => ListenError::Refused { address, reason },
        })?;
        let places = Places::new(config.connections_max, config.connections_per_address_max);
        let shared = Shared { config, services, certificates, places, metrics, shutdown };
        Ok(Self { socket, shared: Arc::new(shared), alive })
    }

    /// Takes connections until the end of the program is announced.
    pub async fn run(self) {
        let Self { socket, shared, alive } = self;
        info!(address = %shared.config.address, tls = shared.config.tls, serves = ?shared.config.serves, "listening");
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = shared.shutdown.announced() => return,
            };
            match accepted {
                Ok((stream, peer)) => welcome(&shared, stream, peer, &alive),
                Err(error) => {
                    // A peer that hung up while waiting is nobody's problem. Being out of files is: taking no connections for a
                    // moment lets some of the open ones end.
                    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
                        warn!(reason = %error, "cannot take a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn welcome(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr, alive: &mpsc::Sender<()>) {
    let Some(place) = shared.places.take(peer.ip()) else {
        shared.metrics.connections_refused.inc();
        debug!(peer = %peer.ip(), "connection refused: no place left");
        return;
    };
    // Answers are written in one piece, so waiting for more to send only makes them late.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(reason = %error, "connection lost before it began");
        return;
    }
    let (shared, held) = (shared.clone(), Held::new((place, alive.clone())));
    tokio::spawn(async move { connection::serve(&shared, stream, peer, held).await });
}
