//! From a host and port to a TLS connection with whom we meant: addresses, the guard, TCP, the certificate.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::ClientConfig;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    dns::{DnsError, Resolver},
    error::{Error, Stage},
    guard::Guard,
    name::Host,
    search::Target,
    tls::Tls,
};

/// Addresses of one host that are tried.
const ADDRESSES_MAX: usize = 8;
/// Hosts that are tried, when SRV records name several.
const TARGETS_MAX: usize = 4;
/// How long the next address waits for the one before it [RFC 8305 §5].
const STAGGER: Duration = Duration::from_millis(250);

/// What to connect to.
pub struct Aim<'a> {
    /// Whom to name in errors.
    pub name: &'a str,
    /// Whom the certificate has to be for.
    pub certificate: &'a Host,
    /// Where, best first.
    pub targets: &'a [Target],
    /// Whether the operator named the place, so that the guard need not look.
    pub trusted: bool,
}

/// Makes connections.
pub struct Connector {
    pub dns: Arc<dyn Resolver>,
    pub guard: Guard,
    pub tls: Tls,
    /// For TCP and TLS together, of one host.
    pub limit: Duration,
}

impl Connector {
    /// Tries the targets in turn. The error is that of the last one.
    pub async fn connect(&self, aim: &Aim<'_>, config: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, Error> {
        let mut last = Error::NotFound(aim.name.to_owned());
        for target in aim.targets.iter().take(TARGETS_MAX) {
            match self.connect_to(aim, target, config).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The same without TLS, for addresses that say so.
    pub async fn connect_plain(&self, aim: &Aim<'_>) -> Result<TcpStream, Error> {
        let target = aim.targets.first().ok_or_else(|| Error::NotFound(aim.name.to_owned()))?;
        let addresses = self.addresses(aim, target).await?;
        let late = |_| Error::Timeout { stage: Stage::Connecting, limit: self.limit };
        let dialled = timeout(self.limit, dial(&addresses)).await.map_err(late)?;
        let (_, stream) =
            dialled.map_err(|reason| Error::Unreachable { name: aim.name.to_owned(), reason: Arc::new(reason) })?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn connect_to(
        &self,
        aim: &Aim<'_>,
        target: &Target,
        config: &Arc<ClientConfig>,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let mut addresses = self.addresses(aim, target).await?;
        let certificate = aim.certificate.certificate_name().ok_or_else(|| Error::NotFound(aim.name.to_owned()))?;
        let late = |_| Error::Timeout { stage: Stage::Connecting, limit: self.limit };
        let deadline = tokio::time::Instant::now() + self.limit;
        loop {
            let dialled = timeout_at(deadline, dial(&addresses)).await.map_err(late)?;
            let (address, stream) =
                dialled.map_err(|reason| Error::Unreachable { name: aim.name.to_owned(), reason: Arc::new(reason) })?;
            // Small messages go out at once; a platform that cannot is only slower.
            let _ = stream.set_nodelay(true);
            let handshake = TlsConnector::from(config.clone()).connect(certificate.clone(), stream);
            match timeout_at(deadline, handshake).await.map_err(late)? {
                Ok(stream) => return Ok(stream),
                Err(reason) => {
                    addresses.retain(|other| *other != address);
                    if addresses.is_empty() {
                        return Err(Error::Tls { name: aim.name.to_owned(), reason: reason.to_string() });
                    }
                }
            }
        }
    }

    /// The addresses of a target that may be connected to. These very addresses are then connected to: between the
    /// guard's look and the connection, no name is asked for again.
    async fn addresses(&self, aim: &Aim<'_>, target: &Target) -> Result<Vec<SocketAddr>, Error> {
        let found = match &target.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.dns.addresses(name).await.map_err(|error| match error {
                DnsError::NotFound => Error::NotFound(name.clone()),
                DnsError::Failed(reason) => Error::Dns { name: name.clone(), reason },
            })?,
        };
        let first = *found.first().ok_or_else(|| Error::NotFound(target.host.to_string()))?;
        let allowed = found.into_iter().filter(|address| aim.trusted || self.guard.allows(*address));
        let allowed = interleaved(allowed);
        if allowed.is_empty() {
            return Err(Error::Guarded { name: aim.name.to_owned(), address: first });
        }
        Ok(allowed.into_iter().take(ADDRESSES_MAX).map(|address| SocketAddr::new(address, target.port)).collect())
    }
}

/// IPv6 and IPv4 by turns, so that a broken one of them costs one stagger [RFC 8305 §4].
fn interleaved(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let (six, four): (Vec<_>, Vec<_>) = addresses.partition(IpAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] {
            return mixed;
        }
        mixed.extend(pair.into_iter().flatten());
    }
}

/// The first address that takes the connection. Each gets a head start before the next; a refusal ends it early.
async fn dial(addresses: &[SocketAddr]) -> io::Result<(SocketAddr, TcpStream)> {
    let mut waiting = addresses.iter().copied();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let more = match waiting.next() {
            Some(address) => {
                attempts.spawn(async move { TcpStream::connect(address).await.map(|stream| (address, stream)) });
                waiting.len() > 0
            }
            None => false,
        };
        let ended = if more {
            match timeout(STAGGER, attempts.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        } else {
            attempts.join_next().await
        };
        match ended {
            Some(Ok(Ok(connected))) => return Ok(connected),
            Some(Ok(Err(error))) => last = error,
            Some(Err(error)) => last = io::Error::other(error),
            None => return Err(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_take_turns() {
        let address = |text: &&str| text.parse::<IpAddr>().expect("an address");
        let given = ["1.1.1.1", "2.2.2.2", "3.3.3.3", "2001::1"];
        let mixed = ["2001::1", "1.1.1.1", "2.2.2.2", "3.3.3.3"];
        let mixed: Vec<_> = mixed.iter().map(address).collect();
        assert_eq!(interleaved(given.iter().map(address)), mixed);
    }

    #[tokio::test]
    async fn an_address_that_refuses_gives_way_to_the_next() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let good = listener.local_addr().expect("an address");
        // Bound and closed again: nobody listens there.
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr();
        let closed = closed.expect("an address");
        let (address, _) = dial(&[closed, good]).await.expect("a connection");
        assert_eq!(address, good);
        assert_eq!(dial(&[closed]).await.expect_err("nobody").kind(), io::ErrorKind::ConnectionRefused);
        assert!(dial(&[]).await.is_err());
    }
}
