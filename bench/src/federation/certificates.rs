//! Certificates for servers that exist for one run: an authority of our own, and what it vouches for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};

use crate::Failure;

/// An authority, its certificate in a file that servers can be told of.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The file.
    pub file: PathBuf,
}

/// A certificate and its key.
pub struct Certificate {
    chain: CertificateDer<'static>,
    key: KeyPair,
    pem: String,
}

impl Authority {
    /// A new one, in `folder`.
    pub fn new(folder: &Path) -> Result<Self, Failure> {
        let mut params = CertificateParams::new(Vec::new()).map_err(in_words)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(in_words)?).map_err(in_words)?;
        let file = folder.join("authority.pem");
        write(&file, &issuer.pem())?;
        Ok(Self { issuer, file })
    }

    /// A certificate for these names and addresses.
    pub fn vouch(&self, names: Vec<String>) -> Result<Certificate, Failure> {
        let key = KeyPair::generate().map_err(in_words)?;
        let params = CertificateParams::new(names).map_err(in_words)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(in_words)?;
        Ok(Certificate { chain: certificate.der().clone(), pem: certificate.pem(), key })
    }

    /// How to connect to servers that this authority vouches for.
    pub fn client(&self) -> Result<Arc<ClientConfig>, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).map_err(in_words)?;
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(in_words)?;
        Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }
}

impl Certificate {
    /// Writes it and its key as `NAME.crt` and `NAME.key`.
    pub fn write(&self, folder: &Path, name: &str) -> Result<(PathBuf, PathBuf), Failure> {
        let (chain, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        write(&chain, &self.pem)?;
        write(&key, &self.key.serialize_pem())?;
        Ok((chain, key))
    }

    /// How to serve with it.
    pub fn server(&self) -> Result<Arc<ServerConfig>, Failure> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(in_words)?
            .with_no_client_auth()
            .with_single_cert(vec![self.chain.clone()], key);
        config.map(Arc::new).map_err(in_words)
    }
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|error| Failure::Io(file.display().to_string(), error))
}

fn in_words(error: impl std::fmt::Display) -> Failure {
    Failure::Words(format!("a certificate: {error}"))
}
