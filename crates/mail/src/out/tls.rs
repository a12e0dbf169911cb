//! TLS towards mail servers. By itself it is opportunistic: whatever certificate is better than none. Where a domain's policy
//! or the operator asks for more, the certificate has to be for the host, from somebody who is believed; where DNS names it
//! (`dane.rs`) it has to be that one. [RFC 7435] [RFC 8461]

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::dane::{Dane, Demand};

/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);

/// All kinds.
pub(crate) struct Tls {
    any: Arc<ClientConfig>,
    verified: Arc<ClientConfig>,
    provider: Arc<CryptoProvider>,
}

impl Tls {
    /// With the authorities of the operating system, and those of a file.
    ///
    /// # Errors
    /// A sentence, if the file cannot be used.
    pub(crate) fn new(extra: Option<&PathBuf>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = extra {
            let wrong = |reason: String| format!("cannot use {} as authorities: {reason}", path.display());
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| wrong(error.to_string()))?;
            for certificate in certificates {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        Ok(Self {
            any: Arc::new(believing(None, &provider)?),
            verified: Arc::new(builder.with_root_certificates(roots).with_no_client_auth()),
            provider,
        })
    }

    /// Begins TLS with a host, whose certificate has to be what is asked for.
    pub(crate) async fn begin(
        &self,
        stream: TcpStream,
        host: &str,
        demand: &Demand,
    ) -> Result<TlsStream<TcpStream>, String> {
        let (config, asked) = match demand {
            Demand::Nothing | Demand::Encrypted => (self.any.clone(), host),
            Demand::Believed => (self.verified.clone(), host),
            Demand::Named(dane) => (Arc::new(believing(Some(dane.clone()), &self.provider)?), dane.base.as_str()),
        };
        let name = ServerName::try_from(asked.trim_matches(['[', ']']).to_owned())
            .map_err(|_| format!("{host} cannot have a certificate"))?;
        let handshake = TlsConnector::from(config).connect(name, stream);
        match tokio::time::timeout(HANDSHAKE_MAX, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(format!("TLS with {host} failed: {error}")),
            Err(_) => Err(format!("TLS with {host} did not begin for {} s", HANDSHAKE_MAX.as_secs())),
        }
    }
}

/// Settings that believe what DNS names, or everybody.
fn believing(dane: Option<Arc<Dane>>, provider: &Arc<CryptoProvider>) -> Result<ClientConfig, String> {
    let judge = Arc::new(Judge { dane, provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.dangerous().with_custom_certificate_verifier(judge).with_no_client_auth())
}

/// Believes the certificates that DNS names, or where it names none every one, though not that somebody else has its key.
#[derive(Debug)]
struct Judge {
    dane: Option<Arc<Dane>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(dane) = &self.dane {
            dane.check(own, others, now, &self.provider)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
