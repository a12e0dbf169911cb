//! DKIM: mails are signed in the name of our domain, with two keys, since not everybody checks the newer kind.
//! [RFC 6376] [RFC 8463]
//!
//! The keys are made when they are first needed, in the data folder, for the server's user alone. Whoever has them can write
//! in the domain's name.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mail_auth::{
    common::{
        crypto::{Ed25519Key, RsaKey, Sha256, SigningKey},
        headers::HeaderWriter as _,
    },
    dkim::{DkimSigner, Done, generate::DkimKeyPair},
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};

/// Names of the keys in DNS: `koine-rsa._domainkey.example.org`.
const RSA_SELECTOR: &str = "koine-rsa";
const ED25519_SELECTOR: &str = "koine-ed25519";
/// Where they are in the data folder.
const RSA_FILE: &str = "dkim-rsa.pem";
const ED25519_FILE: &str = "dkim-ed25519.pem";
/// [RFC 8301 §3.2]
const RSA_BITS: usize = 2048;
/// What is signed, where a mail has it.
const SIGNED: [&str; 14] = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
    "Auto-Submitted",
    "Chat-Edit",
];

/// Signs mails of a domain.
pub(crate) struct Keys {
    rsa: DkimSigner<RsaKey<Sha256>, Done>,
    ed25519: DkimSigner<Ed25519Key, Done>,
    records: [(String, String); 2],
}

impl Keys {
    /// Reads the keys, or makes them. Blocks, and makes the processor work for about a second when there are none.
    ///
    /// # Errors
    /// A sentence, if they cannot be read or written.
    pub(crate) fn open(folder: &Path, domain: &str) -> Result<Self, String> {
        let rsa = read_or_make(&folder.join(RSA_FILE), "RSA PRIVATE KEY", || DkimKeyPair::generate_rsa(RSA_BITS))?;
        let ed25519 = read_or_make(&folder.join(ED25519_FILE), "PRIVATE KEY", DkimKeyPair::generate_ed25519)?;
        let pkcs1 =
            PrivatePkcs1KeyDer::from_pem_slice(rsa.as_bytes()).map_err(|error| wrong(folder, RSA_FILE, &error))?;
        let pkcs8 = PrivatePkcs8KeyDer::from_pem_slice(ed25519.as_bytes())
            .map_err(|error| wrong(folder, ED25519_FILE, &error))?;
        let rsa = RsaKey::<Sha256>::from_key_der(PrivateKeyDer::Pkcs1(pkcs1));
        let rsa = rsa.map_err(|error| wrong(folder, RSA_FILE, &error))?;
        let ed25519 = Ed25519Key::from_pkcs8_maybe_unchecked_der(pkcs8.secret_pkcs8_der());
        let ed25519 = ed25519.map_err(|error| wrong(folder, ED25519_FILE, &error))?;
        let record = |selector: &str, kind: &str, key: &[u8]| {
            let name = format!("{selector}._domainkey.{domain}");
            (name, format!("v=DKIM1; k={kind}; p={}", STANDARD.encode(key)))
        };
        let records = [
            record(RSA_SELECTOR, "rsa", &spki(&rsa.public_key())),
            record(ED25519_SELECTOR, "ed25519", &ed25519.public_key()),
        ];
        Ok(Self {
            rsa: DkimSigner::from_key(rsa).domain(domain).selector(RSA_SELECTOR).headers(SIGNED),
            ed25519: DkimSigner::from_key(ed25519).domain(domain).selector(ED25519_SELECTOR).headers(SIGNED),
            records,
        })
    }

    /// What DNS is to say: names and texts.
    pub(crate) fn records(&self) -> &[(String, String); 2] {
        &self.records
    }

    /// The mail with its signatures in front.
    ///
    /// # Errors
    /// A sentence, for a mail without headers.
    pub(crate) fn sign(&self, mail: &[u8]) -> Result<Vec<u8>, String> {
        let mut signed = Vec::with_capacity(mail.len() + 1_600);
        for header in [header(&self.ed25519, mail)?, header(&self.rsa, mail)?] {
            signed.extend_from_slice(header.as_bytes());
        }
        signed.extend_from_slice(mail);
        Ok(signed)
    }
}

fn header<T: SigningKey>(signer: &DkimSigner<T, Done>, mail: &[u8]) -> Result<String, String> {
    Ok(signer.sign(mail).map_err(|error| error.to_string())?.to_header())
}

fn wrong(folder: &Path, file: &str, reason: &dyn std::fmt::Display) -> String {
    format!("the key {} cannot be used: {reason}", folder.join(file).display())
}

fn read_or_make(path: &Path, label: &str, make: impl Fn() -> mail_auth::Result<DkimKeyPair>) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| format!("the key {} cannot be made: {error}", path.display());
    match fs::read_to_string(path) {
        Ok(text) => return Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("the key {} cannot be read: {error}", path.display())),
    }
    let pair = make().map_err(|error| failed(&error))?;
    let coded = STANDARD.encode(pair.private_key());
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in coded.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    // Whole or not at all: a key of which a part is there would be believed.
    let draft = path.with_extension("new");
    let write = || -> io::Result<()> {
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|error| failed(&error))?;
    Ok(text)
}

/// A public key of RSA in the form that DNS has it: with the name of its kind in front. [RFC 6376 §3.6.1] [RFC 3279 §2.3.1]
fn spki(pkcs1: &[u8]) -> Vec<u8> {
    const RSA: [u8; 15] = [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let mut bits = vec![0x00];
    bits.extend_from_slice(pkcs1);
    let mut inner = RSA.to_vec();
    inner.extend(der(0x03, &bits));
    der(0x30, &inner)
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1);
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(short as u8),
        _ => {
            out.push(0x80 | (length.len() - significant) as u8);
            out.extend_from_slice(&length[significant..]);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_made_once_and_for_their_owner_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keys = Keys::open(folder.path(), "example.org").expect("a writable folder");
        let again = Keys::open(folder.path(), "example.org").expect("keys that were just made");
        assert_eq!(keys.records(), again.records());
        for file in [RSA_FILE, ED25519_FILE] {
            let mode = fs::metadata(folder.path().join(file)).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        assert_eq!(keys.records()[0].0, "koine-rsa._domainkey.example.org");
        let signed = keys.sign(b"From: a@example.org\r\nSubject: x\r\n\r\ny\r\n").expect("it has headers");
        let text = String::from_utf8(signed).expect("text");
        assert_eq!(text.matches("DKIM-Signature: ").count(), 2, "{text}");
        assert!(text.contains("a=ed25519-sha256") && text.contains("a=rsa-sha256"), "{text}");
    }

    #[test]
    fn lengths_are_written_in_as_few_bytes_as_can_be() {
        assert_eq!(der(4, &[1, 2]), [4, 2, 1, 2]);
        assert_eq!(der(4, &[0; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(der(4, &[0; 0x123])[..4], [4, 0x82, 0x01, 0x23]);
    }
}
