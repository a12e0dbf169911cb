//! Keys of servers: ed25519, named `ed25519:version`. [appendices §signing-json]

use std::fmt;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ed25519_dalek::Signer as _;

/// Base64 as Matrix writes it: standard alphabet, no padding; padding and odd trailing bits are forgiven when reading.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Longest version of a key, the part after `ed25519:`.
pub const KEY_VERSION_MAX: usize = 64;

/// Why something is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The version is empty, too long or has other characters than letters, digits and `_`.
    #[error("a key version has 1 to {KEY_VERSION_MAX} letters, digits or underscores")]
    Version,
    /// The public key is not 32 bytes of unpadded base64.
    #[error("a public key is 32 bytes in base64")]
    Encoding,
    /// The 32 bytes are not a point of the curve.
    #[error("these 32 bytes are not an ed25519 key")]
    Point,
}

/// A server's secret key. Wiped from memory when dropped; never printed.
#[derive(Clone)]
pub struct SigningKey {
    id: String,
    secret: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// The key that grows from `seed`, under the name `ed25519:version`.
    pub fn from_seed(version: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if version.is_empty() || version.len() > KEY_VERSION_MAX || !version.bytes().all(allowed) {
            return Err(KeyError::Version);
        }
        Ok(Self { id: format!("ed25519:{version}"), secret: ed25519_dalek::SigningKey::from_bytes(seed) })
    }

    /// Its name: `ed25519:version`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.secret.verifying_key())
    }

    /// Signs bytes.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.secret.sign(message).to_bytes()
    }

    /// Signs bytes; the signature in base64.
    pub fn sign_base64(&self, message: &[u8]) -> String {
        BASE64.encode(self.sign(message))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Somebody's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl PublicKey {
    /// From base64, as servers publish it.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let bytes = BASE64.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let bytes = bytes.ok_or(KeyError::Encoding)?;
        ed25519_dalek::VerifyingKey::from_bytes(&bytes).map(Self).map_err(|_| KeyError::Point)
    }

    /// In base64.
    pub fn to_base64(&self) -> String {
        BASE64.encode(self.0.as_bytes())
    }

    /// Whether `signature`, in base64, is this key's under `message`.
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let bytes = BASE64.decode(signature).ok().and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
        bytes.is_some_and(|bytes| self.0.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&bytes)).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_not_printed() {
        let key = SigningKey::from_seed("a_1", &[7; 32]).expect("a fine version");
        assert_eq!(format!("{key:?}"), "SigningKey { id: \"ed25519:a_1\", .. }");
    }

    #[test]
    fn public_half_verifies_what_the_secret_half_signed() {
        let key = SigningKey::from_seed("1", &[7; 32]).expect("a fine version");
        let public = PublicKey::from_base64(&key.public().to_base64()).expect("our own encoding");
        let signature = key.sign_base64(b"word");
        assert!(public.verifies(b"word", &signature));
        assert!(public.verifies(b"word", &format!("{signature}==")));
        assert!(!public.verifies(b"sword", &signature));
        assert!(!public.verifies(b"word", "c2hvcnQ"));
    }

    #[test]
    fn odd_versions_and_keys_are_refused() {
        for version in ["", "a b", "a:b", "é", &"x".repeat(KEY_VERSION_MAX + 1)] {
            assert_eq!(SigningKey::from_seed(version, &[0; 32]).err(), Some(KeyError::Version));
        }
        assert_eq!(PublicKey::from_base64("AAAA").err(), Some(KeyError::Encoding));
    }
}
