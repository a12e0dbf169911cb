//! Certificates of the TLS listeners: from files, read again at SIGHUP, or made by the server itself.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, SignatureScheme,
    client::ResolvesClientCert,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsConfig;

/// Names of the self-made certificate's files in the data folder.
const CERTIFICATE_FILE: &str = "tls-certificate.pem";
const KEY_FILE: &str = "tls-key.pem";

/// Why there is no certificate to use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there, or is not what it should be.
    #[error("cannot use {} for TLS: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("certificate and key cannot be used together: {0}")]
    Mismatch(#[from] rustls::Error),
    /// A certificate of our own could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// The certificate in use. Cheap to clone; all clones change together.
#[derive(Clone)]
pub struct Certificates(Arc<Files>);

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// Whose word it is whom certificates of clients are for.
    authorities: Option<PathBuf>,
    loaded: RwLock<Loaded>,
}

/// The certificate, ready for each kind of listener.
struct Loaded {
    http: TlsAcceptor,
    /// Whoever speaks XMPP is asked for a certificate.
    xmpp: koine_xmpp::Tls,
    xmpp_start_tls: koine_xmpp::Tls,
    /// The same for other servers.
    server: koine_xmpp::Tls,
    server_start_tls: koine_xmpp::Tls,
    /// What other servers are shown.
    identity: Arc<CertifiedKey>,
    mail: TlsAcceptor,
}

/// What XMPP clients say by ALPN. [XEP-0368 §5]
pub const XMPP_CLIENT: &[u8] = b"xmpp-client";

impl Certificates {
    /// The certificate of the configuration, or the server's own, which is made at the first start and kept in the data
    /// folder, so that clients that were told to trust it go on doing so.
    pub fn open(config: &TlsConfig, data_dir: &Path, names: &[String]) -> Result<Self, TlsError> {
        let (certificate, key) = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            _ => {
                let own = (data_dir.join(CERTIFICATE_FILE), data_dir.join(KEY_FILE));
                if !own.0.exists() || !own.1.exists() {
                    make(&own.0, &own.1, names)?;
                }
                own
            }
        };
        let authorities = config.client_authorities.clone();
        let loaded = RwLock::new(load(&certificate, &key, authorities.as_deref())?);
        Ok(Self(Arc::new(Files { certificate, key, authorities, loaded })))
    }

    /// Reads the files again. Connections that are open keep what they have; after an error, so do new ones.
    pub fn reload(&self) -> Result<(), TlsError> {
        let fresh = load(&self.0.certificate, &self.0.key, self.0.authorities.as_deref())?;
        *self.0.loaded.write() = fresh;
        Ok(())
    }

    /// For a new connection of HTTP, which may turn out to be one of XMPP.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.0.loaded.read().http.clone()
    }

    /// For a new connection of XMPP.
    pub fn xmpp_tls(&self) -> koine_xmpp::Tls {
        self.0.loaded.read().xmpp.clone()
    }

    /// For one that began in the clear.
    pub fn xmpp_start_tls(&self) -> koine_xmpp::Tls {
        self.0.loaded.read().xmpp_start_tls.clone()
    }

    /// For a connection of mail that goes on encrypted.
    pub fn mail_acceptor(&self) -> TlsAcceptor {
        self.0.loaded.read().mail.clone()
    }

    /// For a new connection of another XMPP server; `begins_with_tls` or turns to it.
    pub fn server_tls(&self, begins_with_tls: bool) -> koine_xmpp::Tls {
        let loaded = self.0.loaded.read();
        if begins_with_tls { loaded.server.clone() } else { loaded.server_start_tls.clone() }
    }

    /// What proves to other XMPP servers who we are.
    pub fn identity(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::new(Identity(self.clone()))
    }
}

/// The certificate in use at the time, where we are the one who connects.
struct Identity(Certificates);

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let identity = self.0.0.loaded.read().identity.clone();
        let can = identity.key.choose_scheme(schemes).is_some();
        can.then_some(identity)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn wrong(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), reason: reason.to_string() }
}

/// The certificates of a file, of which there is one at least.
fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(path, &error))?;
    match found.is_empty() {
        true => Err(wrong(path, &"it holds no certificate")),
        false => Ok(found),
    }
}

/// Who is believed about whom certificates of clients are for.
fn believed(path: &Path, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_in(path)? {
        roots.add(certificate).map_err(|error| wrong(path, &error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|error| wrong(path, &error))
}

fn load(certificate: &Path, key: &Path, authorities: Option<&Path>) -> Result<Loaded, TlsError> {
    let chain = certificates_in(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    let own = chain[0].clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let identity = Arc::new(CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider)?);
    // Nobody who comes by the web is asked for a certificate: browsers would ask people.
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain.clone(), key.clone_key())?;
    let asking = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(koine_xmpp::asks_for_certificates(provider.clone()))
        .with_single_cert(chain, key)?;
    let authorities = authorities.map(|path| believed(path, provider)).transpose()?;
    let for_clients = |config| {
        let tls = koine_xmpp::Tls::new(config, &own);
        authorities.iter().cloned().fold(tls, koine_xmpp::Tls::trusting)
    };
    let with = |config: &ServerConfig, protocols: &[&[u8]]| {
        let mut config = config.clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    };
    Ok(Loaded {
        http: TlsAcceptor::from(with(&config, &[b"h2", b"http/1.1", XMPP_CLIENT])),
        xmpp: for_clients(with(&asking, &[XMPP_CLIENT])),
        // [XEP-0368 §5] is about connections that begin with TLS; here the port has said what is spoken.
        xmpp_start_tls: for_clients(with(&asking, &[])),
        server: koine_xmpp::Tls::new(with(&asking, &[koine_xmpp::SERVER_PROTOCOL]), &own),
        server_start_tls: koine_xmpp::Tls::new(with(&asking, &[]), &own),
        identity,
        mail: TlsAcceptor::from(with(&config, &[])),
    })
}

fn make(certificate: &Path, key: &Path, names: &[String]) -> Result<(), TlsError> {
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "Koine's own certificate");
    let signed = params.self_signed(&pair)?;
    let write = |path: &Path, text: &str| {
        write_private(path, text.as_bytes())
            .map_err(|error| TlsError::File { path: path.to_owned(), reason: error.to_string() })
    };
    write(certificate, &signed.pem())?;
    write(key, &pair.serialize_pem())
}

/// Writes a file that only this user can read.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_self_made_certificate_is_made_once() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let open = || Certificates::open(&TlsConfig::default(), dir.path(), &names).expect("a certificate");
        open();
        let first = fs::read(dir.path().join(CERTIFICATE_FILE)).expect("it is kept");
        open().reload().expect("it can be read again");
        assert_eq!(fs::read(dir.path().join(CERTIFICATE_FILE)).expect("it is kept"), first);
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("note.txt");
        fs::write(&path, "hello").expect("a writable folder");
        let config = TlsConfig { certificate: Some(path.clone()), key: Some(path), ..TlsConfig::default() };
        let error = Certificates::open(&config, dir.path(), &[]).err().expect("this is no certificate");
        assert!(error.to_string().contains("note.txt"), "{error}");
    }
}
