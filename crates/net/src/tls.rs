//! Whom we believe: the authorities of the operating system, and those that the configuration adds.
//!
//! There is no setting that believes everybody; whoever tries things out makes an authority and names its file.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use thiserror::Error;
use tracing::warn;

/// Why there is no TLS.
#[derive(Debug, Error)]
pub enum TlsSetupError {
    /// The file of further authorities is not what it should be.
    #[error("cannot use {} as authorities: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS library refuses our settings.
    #[error(transparent)]
    Library(#[from] rustls::Error),
}

/// TLS for requests that may go over HTTP/2, for those that may not, and for what is no HTTP.
pub struct Tls {
    pub any: Arc<ClientConfig>,
    pub http1: Arc<ClientConfig>,
    /// Without resumption: who shows a certificate shows it each time.
    pub streams: Arc<ClientConfig>,
    roots: Arc<RootCertStore>,
}

impl Tls {
    pub fn new(extra: Option<&PathBuf>) -> Result<Self, TlsSetupError> {
        let roots = Arc::new(roots(extra)?);
        let mut streams = (*client(&roots, &[])?).clone();
        streams.resumption = Resumption::disabled();
        Ok(Self {
            any: client(&roots, &[b"h2", b"http/1.1"])?,
            http1: client(&roots, &[b"http/1.1"])?,
            streams: Arc::new(streams),
            roots,
        })
    }

    /// Whether an authority of ours vouches for a certificate that somebody showed us, and it is for that name; what is wrong
    /// with it otherwise. Those for servers and those for clients are taken alike. [RFC9525 §6]
    pub fn vouches(&self, chain: &[CertificateDer<'_>], name: &ServerName<'_>) -> Result<(), String> {
        let (own, others) = chain.split_first().ok_or("it shows no certificate")?;
        let provider = rustls::crypto::ring::default_provider();
        let own = ParsedCertificate::try_from(own).map_err(|error| error.to_string())?;
        let algorithms = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&own, &self.roots, others, UnixTime::now(), algorithms)
            .and_then(|()| verify_server_name(&own, name))
            .map_err(|error| error.to_string())
    }
}

fn client(roots: &Arc<RootCertStore>, protocols: &[&[u8]]) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

fn roots(extra: Option<&PathBuf>) -> Result<RootCertStore, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        warn!(reason = %error, "some authorities of the operating system cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = extra {
        let wrong = |reason: String| TlsSetupError::File { path: path.clone(), reason };
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong(error.to_string()))?;
        if certificates.is_empty() {
            return Err(wrong("it holds no certificate".to_owned()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
    }
    if roots.is_empty() {
        warn!("no certificate authorities are known, so no other server will be believed; install ca-certificates");
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_holds_no_certificate_is_named() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for content in
            [None, Some(""), Some("hello"), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")]
        {
            let path = dir.path().join("note.txt");
            if let Some(content) = content {
                std::fs::write(&path, content).expect("a writable folder");
            }
            let error = Tls::new(Some(&path)).err().expect("no authority");
            assert!(error.to_string().contains("note.txt"), "{error}");
        }
    }
}
