//! Whom we believe: the authorities of the operating system, and those that the configuration adds.
//!
//! There is no setting that believes everybody; whoever tries things out makes an authority and names its file.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
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

/// TLS for requests that may go over HTTP/2, and for those that may not.
pub struct Tls {
    pub any: Arc<ClientConfig>,
    pub http1: Arc<ClientConfig>,
}

impl Tls {
    pub fn new(extra: Option<&PathBuf>) -> Result<Self, TlsSetupError> {
        let roots = Arc::new(roots(extra)?);
        Ok(Self { any: client(&roots, &[b"h2", b"http/1.1"])?, http1: client(&roots, &[b"http/1.1"])? })
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
