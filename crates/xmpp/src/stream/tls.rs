//! TLS of streams, and what ties authentication to it. [RFC7590] [RFC9266] [RFC5929]

use std::{ops::RangeInclusive, sync::Arc};

use koine_account::{CERTIFICATE_BYTES_MAX, CertificateHash, certificate_hash};
use koine_stanza::{BareJid, Jid};
use rustls::{
    ProtocolVersion, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, UnixTime},
    server::danger::ClientCertVerifier,
};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use super::transport::Security;

/// The object identifier of an address in a certificate, 1.3.6.1.5.5.7.8.5. [RFC6120 §13.7.1.4]
const XMPP_ADDR: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x08, 0x05];
/// Most addresses of one certificate that are looked at.
const ADDRESSES_MAX: usize = 16;

/// What a listener encrypts with.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    end_point: Option<Vec<u8>>,
    /// Whose word it is that a client's certificate is that of an address.
    authorities: Option<Arc<dyn ClientCertVerifier>>,
}

impl Tls {
    /// `certificate` is the server's own, in DER: the first of the chain that `config` shows.
    pub fn new(config: Arc<ServerConfig>, certificate: &[u8]) -> Self {
        Self { config, end_point: end_point(certificate), authorities: None }
    }

    /// The same, that believes these about whom certificates of clients are for. [XEP-0178 §2]
    #[must_use]
    pub fn trusting(self, authorities: Arc<dyn ClientCertVerifier>) -> Self {
        Self { authorities: Some(authorities), ..self }
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// What a connection over it can be tied to.
    pub(crate) fn security(&self, connection: &ServerConnection) -> Security {
        // [RFC9266 §4.2] Before TLS 1.3 only with an extension that we do not learn about.
        let is_new = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let export = || {
            let label = b"EXPORTER-Channel-Binding";
            connection.export_keying_material(vec![0; 32], label, Some(b"")).ok()
        };
        Security {
            is_encrypted: true,
            exporter: is_new.then(export).flatten(),
            end_point: self.end_point.clone(),
            certificate: self.presented(connection.peer_certificates().unwrap_or_default()).map(Arc::new),
        }
    }

    fn presented(&self, chain: &[CertificateDer<'_>]) -> Option<Presented> {
        let (own, others) = chain.split_first()?;
        let mut presented = Presented::of(own)?;
        let vouches = |authorities: &Arc<dyn ClientCertVerifier>| {
            authorities.verify_client_cert(own, others, UnixTime::now()).is_ok()
        };
        if !self.authorities.as_ref().is_some_and(vouches) {
            presented.addresses.clear();
        }
        Some(presented)
    }
}

/// A certificate that a client has shown, and whose key it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Presented {
    /// What it is known by.
    pub(crate) hash: CertificateHash,
    /// When it is good, in seconds since 1970.
    pub(crate) validity: RangeInclusive<u64>,
    /// Whom it says that it is for; of one that was shown, as far as an authority of ours vouches for that.
    pub(crate) addresses: Vec<BareJid>,
}

impl Presented {
    /// What is to be known of a certificate in DER; nothing of what is none, or is too large.
    pub(crate) fn of(der: &[u8]) -> Option<Self> {
        let fits = der.len() <= CERTIFICATE_BYTES_MAX;
        let (rest, certificate) = x509_parser::parse_x509_certificate(Some(der).filter(|_| fits)?).ok()?;
        let second = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        let validity = certificate.validity();
        let validity = second(validity.not_before)..=second(validity.not_after);
        let addresses = addresses(&certificate);
        rest.is_empty().then(|| Self { hash: certificate_hash(der), validity, addresses })
    }
}

/// The addresses in a certificate. [RFC6120 §13.7.1.4] Those with a resource stand for the account.
fn addresses(certificate: &X509Certificate<'_>) -> Vec<BareJid> {
    let names = certificate.subject_alternative_name().ok().flatten().map(|names| names.value);
    let address = |name: &GeneralName<'_>| match name {
        GeneralName::OtherName(kind, value) if kind.as_bytes() == XMPP_ADDR => {
            // [0] EXPLICIT UTF8String
            let (text, _) = der(der(value)?.0)?;
            Some(Jid::new(std::str::from_utf8(text).ok()?).ok()?.to_bare())
        }
        _ => None,
    };
    names.into_iter().flat_map(|names| &names.general_names).filter_map(address).take(ADDRESSES_MAX).collect()
}

/// Hash functions of signatures, by the object identifier of the signature's algorithm. MD5 and SHA-1 count as SHA-256.
const SIGNATURES: &[(&[u8], Hash)] = &[
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c], Hash::Sha384),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d], Hash::Sha512),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03], Hash::Sha384),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04], Hash::Sha512),
];

#[derive(Clone, Copy)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// The hash of a certificate with the hash function of its signature; none for signatures that do not name one.
/// [RFC5929 §4.1]
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    // Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, ... }, ... }
    let (body, _) = der(certificate)?;
    let (_, rest) = der(body)?;
    let (algorithm, _) = der(rest)?;
    let (identifier, _) = der(algorithm)?;
    let (_, hash) = SIGNATURES.iter().find(|(known, _)| *known == identifier)?;
    Some(match hash {
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

/// Content of the first value, and what follows it.
fn der(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.get(1..)?.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}
