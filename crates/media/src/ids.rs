//! The id of a piece of media, and of its bytes.
//!
//! Specified in [CS-API §matrix-content-mxc-uris]: an id is made of `A-Za-z0-9_-` and nothing else, which is also what
//! keeps `../` and its disguises out ([CS-API §content-repo-security-considerations]).

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::Rng;
use sha2::{Digest, Sha256};

/// Longest media id that is accepted; ours have 24 characters, other servers' rarely more than 60.
pub const MEDIA_ID_LENGTH_MAX: usize = 255;

/// Bytes of chance in an id of our own.
const MEDIA_ID_ENTROPY: usize = 18;

/// The last part of an `mxc://` address, checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MediaId(String);

impl MediaId {
    /// Parses what a client sent. `None` if it cannot be the id of anything.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        (!text.is_empty() && text.len() <= MEDIA_ID_LENGTH_MAX && text.bytes().all(allowed))
            .then(|| Self(text.to_owned()))
    }

    /// A new id that cannot be guessed: whoever knows it may fetch the content.
    pub fn random(chance: &mut impl Rng) -> Self {
        let mut bytes = [0; MEDIA_ID_ENTROPY];
        chance.fill(&mut bytes);
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The id as it stands in the address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MediaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of a blob: its name on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads what [`fmt::Display`] wrote.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_id_is_made_of_url_safe_characters_only() {
        for good in ["AQwafuaFswefuhsfAFAgsw", "a-b_c", "0"] {
            assert!(MediaId::parse(good).is_some(), "{good} should be accepted");
        }
        let long = "a".repeat(MEDIA_ID_LENGTH_MAX + 1);
        for bad in ["", ".", "..", "../etc/passwd", "a/b", "a%2e", "ä", "a b", "a\0b", &long] {
            assert!(MediaId::parse(bad).is_none(), "{bad:?} should be refused");
        }
    }

    #[test]
    fn a_new_media_id_is_valid_and_differs_each_time() {
        let first = MediaId::random(&mut rand::rng());
        let second = MediaId::random(&mut rand::rng());
        assert_eq!(first.as_str().len(), 24);
        assert_eq!(MediaId::parse(first.as_str()), Some(first.clone()));
        assert_ne!(first, second);
    }

    #[test]
    fn a_hash_survives_printing_and_parsing() {
        let hash = ContentHash::of(b"koine");
        assert_eq!(ContentHash::from_hex(&hash.to_string()), Some(hash));
        assert_eq!(ContentHash::from_hex("zz"), None);
        assert_eq!(ContentHash::from_hex(&"+1".repeat(32)), None, "a sign is not a digit");
    }
}
