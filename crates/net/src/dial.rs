//! Connections to services of a host that are not HTTP: found by SRV records, guarded like all others. RFC 2782.

use rustls::pki_types::ServerName as CertificateName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    client::Client,
    connect::Aim,
    dns::DnsError,
    error::Error,
    name::Host,
    search::{SRV_RECORDS_MAX, Target, in_order},
};

impl Client {
    /// Connects to the service `service`, such as `_xmpp-server._tcp`, of a host; without SRV records to the host itself at
    /// `port`. A static destination for `host:port`, or one for `host` that names no port, takes the place of DNS.
    ///
    /// # Errors
    /// `NotFound` where the owner of the name says that there is no such service; whatever keeps us from connecting.
    pub async fn dial(&self, host: &str, service: &str, port: u16) -> Result<TcpStream, Error> {
        let finder = self.finder();
        let certificate = Host::parse(host);
        if let Some(target) = finder.fixed_service(host, port) {
            let aim = Aim { name: host, certificate: &certificate, targets: &[target], trusted: true };
            return finder.connector.connect_plain(&aim).await;
        }
        let records = match &certificate {
            Host::Address(_) => Vec::new(),
            Host::Name(name) => match finder.connector.dns.services(&format!("{service}.{name}")).await {
                Ok(records) => records,
                Err(DnsError::NotFound) => Vec::new(),
                Err(DnsError::Failed(reason)) => return Err(Error::Dns { name: host.to_owned(), reason }),
            },
        };
        // A single record with the root as its target: decidedly not offered.
        if matches!(records.as_slice(), [only] if only.target.is_empty()) {
            return Err(Error::NotFound(host.to_owned()));
        }
        let mut targets: Vec<Target> = in_order(records, &mut rand::rng())
            .into_iter()
            .take(SRV_RECORDS_MAX)
            .map(|record| Target { host: Host::parse(&record.target), port: record.port })
            .collect();
        if targets.is_empty() {
            targets.push(Target { host: certificate.clone(), port });
        }
        let mut last = Error::NotFound(host.to_owned());
        for target in targets {
            let aim = Aim { name: host, certificate: &certificate, targets: &[target], trusted: false };
            match finder.connector.connect_plain(&aim).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// TLS over a connection, with whoever has a certificate for `host` that an authority of ours vouches for. [RFC9525]
    pub async fn encrypt(&self, stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, Error> {
        let connector = &self.finder().connector;
        let refused = |reason: String| Error::Tls { name: host.to_owned(), reason };
        let name = CertificateName::try_from(host.to_owned()).map_err(|error| refused(error.to_string()))?;
        let mut config = (*connector.tls.http1).clone();
        config.alpn_protocols.clear();
        let handshake = TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream);
        match tokio::time::timeout(connector.limit, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(reason)) => Err(refused(reason.to_string())),
            Err(_) => Err(Error::Timeout { stage: crate::Stage::Connecting, limit: connector.limit }),
        }
    }
}
