//! Connections to services of a host that are not HTTP: found by SRV records, guarded like all others. RFC 2782.
//!
//! A service may begin with TLS or turn to it later; records of both kinds are one list. [XEP-0368 §3]

use std::sync::Arc;

use rustls::{
    client::ResolvesClientCert,
    pki_types::{CertificateDer, ServerName as CertificateName},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    client::Client,
    connect::Aim,
    dns::DnsError,
    error::Error,
    name::Host,
    search::{SrvRecord, Target, in_order_by},
};

/// Places of one service that are tried.
const PLACES_MAX: usize = 6;

/// A service.
#[derive(Clone, Copy, Debug)]
pub struct StreamService {
    /// Its name in SRV records, as `_xmpp-server._tcp`.
    pub name: &'static str,
    /// The name under which it begins with TLS.
    pub name_tls: &'static str,
    /// The port without records.
    pub port: u16,
    /// The port that a static destination names for the service that begins with TLS.
    pub port_tls: u16,
}

/// Where a service of a host may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    target: Target,
    /// Whether the connection begins with TLS.
    pub begins_with_tls: bool,
    trusted: bool,
}

/// What goes with TLS to a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner<'a> {
    /// What is to be spoken. [RFC7301]
    pub protocol: Option<&'a [u8]>,
    /// The certificate that is shown when it is asked for.
    pub identity: Option<&'a Arc<dyn ResolvesClientCert>>,
}

impl Client {
    /// Where a service of a host may be, best first: by SRV records, without any the host itself. A static destination for
    /// `host:port`, or one for `host` that names no port, takes the place of DNS.
    ///
    /// # Errors
    /// `NotFound` where the owner of the name says that there is no such service; `Dns` where nothing can be found out.
    pub async fn places(&self, host: &str, service: &StreamService) -> Result<Vec<Place>, Error> {
        let finder = self.finder();
        let host = ascii(host).ok_or_else(|| Error::NotFound(host.to_owned()))?;
        let fixed = |target: Option<Target>, begins_with_tls| {
            target.map(|target| Place { target, begins_with_tls, trusted: true })
        };
        let first = fixed(finder.fixed_port(&host, service.port_tls), true);
        let second = fixed(finder.fixed_service(&host, service.port), false);
        let fixed: Vec<_> = first.into_iter().chain(second).collect();
        if !fixed.is_empty() {
            return Ok(fixed);
        }
        let itself = Host::parse(&host);
        let Host::Name(name) = &itself else {
            let target = Target { host: itself, port: service.port };
            return Ok(vec![Place { target, begins_with_tls: false, trusted: false }]);
        };
        let dns = &finder.connector.dns;
        let names = [service.name, service.name_tls].map(|service| format!("{service}.{name}"));
        let (later, at_once) = tokio::join!(dns.services(&names[0]), dns.services(&names[1]));
        let mut is_said = false;
        let mut records: Vec<(SrvRecord, bool)> = Vec::new();
        for (found, begins_with_tls) in [(later, false), (at_once, true)] {
            match found {
                Ok(found) => {
                    is_said = true;
                    // The root as its target: decidedly not offered.
                    let found = found.into_iter().filter(|record| !record.target.is_empty());
                    records.extend(found.map(|record| (record, begins_with_tls)));
                }
                Err(DnsError::NotFound) => {}
                Err(DnsError::Failed(reason)) if !begins_with_tls => return Err(Error::Dns { name: host, reason }),
                Err(DnsError::Failed(reason)) => {
                    tracing::debug!(peer = host, reason, "SRV records cannot be asked for");
                }
            }
        }
        if !is_said {
            let target = Target { host: itself, port: service.port };
            return Ok(vec![Place { target, begins_with_tls: false, trusted: false }]);
        }
        let ordered = in_order_by(records, |(record, _)| (record.priority, record.weight), &mut rand::rng());
        let places: Vec<_> = ordered
            .into_iter()
            .take(PLACES_MAX)
            .map(|(record, begins_with_tls)| {
                let target = Target { host: Host::parse(&record.target), port: record.port };
                Place { target, begins_with_tls, trusted: false }
            })
            .collect();
        if places.is_empty() { Err(Error::NotFound(host)) } else { Ok(places) }
    }

    /// Connects to a place of a host; TLS is the caller's, whatever the place begins with.
    ///
    /// # Errors
    /// Whatever keeps us from connecting.
    pub async fn dial(&self, host: &str, place: &Place) -> Result<TcpStream, Error> {
        let certificate = Host::parse(host);
        let targets = std::slice::from_ref(&place.target);
        let aim = Aim { name: host, certificate: &certificate, targets, trusted: place.trusted };
        self.finder().connector.connect_plain(&aim).await
    }

    /// TLS over a connection, with whoever has a certificate for `host` that an authority of ours vouches for. [RFC9525]
    ///
    /// # Errors
    /// `Tls` where there is no such certificate.
    pub async fn encrypt(
        &self,
        stream: TcpStream,
        host: &str,
        manner: Manner<'_>,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let connector = &self.finder().connector;
        let refused = |reason: String| Error::Tls { name: host.to_owned(), reason };
        let name = certificate_name(host).ok_or_else(|| refused("no certificate can be for this name".into()))?;
        let mut config = (*connector.tls.streams).clone();
        config.alpn_protocols.extend(manner.protocol.map(<[u8]>::to_vec));
        if let Some(identity) = manner.identity {
            config.client_auth_cert_resolver = identity.clone();
        }
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        match tokio::time::timeout(connector.limit, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(reason)) => Err(refused(reason.to_string())),
            Err(_) => Err(Error::Timeout { stage: crate::Stage::Connecting, limit: connector.limit }),
        }
    }

    /// Whether an authority of ours vouches for the certificate that somebody showed us, and it is for `host`. [RFC9525 §6]
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn vouches(&self, chain: &[CertificateDer<'_>], host: &str) -> Result<(), String> {
        let name = certificate_name(host).ok_or("no certificate can be for this name")?;
        self.finder().connector.tls.vouches(chain, &name)
    }
}

fn certificate_name(host: &str) -> Option<CertificateName<'static>> {
    Host::parse(&ascii(host)?).certificate_name()
}

/// A host as DNS and certificates write it: names of other alphabets in their coded form.
fn ascii(host: &str) -> Option<String> {
    if host.is_ascii() {
        return Some(host.to_ascii_lowercase());
    }
    match url::Host::parse(host) {
        Ok(url::Host::Domain(name)) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_alphabets_are_asked_for_in_their_coded_form() {
        assert_eq!(ascii("Example.ORG").as_deref(), Some("example.org"));
        assert_eq!(ascii("bücher.example").as_deref(), Some("xn--bcher-kva.example"));
        assert_eq!(ascii("a b\u{fc}"), None);
    }
}
