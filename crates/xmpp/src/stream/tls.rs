//! TLS of streams, and what ties authentication to it. [RFC7590] [RFC9266] [RFC5929]

use std::sync::Arc;

use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::transport::Security;

/// What a listener encrypts with.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    end_point: Option<Vec<u8>>,
}

impl Tls {
    /// `certificate` is the server's own, in DER: the first of the chain that `config` shows.
    pub fn new(config: Arc<ServerConfig>, certificate: &[u8]) -> Self {
        Self { config, end_point: end_point(certificate) }
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
        Security { is_encrypted: true, exporter: is_new.then(export).flatten(), end_point: self.end_point.clone() }
    }
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
