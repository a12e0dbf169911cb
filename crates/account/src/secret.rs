//! Secrets that refuse to be printed, and tokens made of chance.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rand::RngCore;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Text that must not be seen: a password, a token. Wiped when dropped, printed as a placeholder.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Named so that it stands out in review: nothing that comes of this may be logged.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// What is kept of a token: nobody can log in with what they find in the store.
pub(crate) type TokenHash = [u8; 32];

/// A token of 256 random bits. Needs no escaping in addresses or headers.
pub(crate) fn new_token(prefix: &str, chance: &mut impl RngCore) -> Secret {
    let mut bytes = Zeroizing::new([0u8; 32]);
    chance.fill_bytes(&mut *bytes);
    format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(*bytes)).into()
}

/// Tokens are long and random, so a plain hash is enough; it is computed for every request.
pub(crate) fn hash_token(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// A name made of chance, from letters and digits that are told apart easily.
pub(crate) fn new_name(length: usize, alphabet: &[u8; 32], chance: &mut impl RngCore) -> String {
    let mut bytes = vec![0u8; length];
    chance.fill_bytes(&mut bytes);
    bytes.iter().map(|byte| char::from(alphabet[usize::from(byte % 32)])).collect()
}

/// For device ids, as clients are used to see them.
pub(crate) const UPPER_CASE: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// For names of accounts.
pub(crate) const LOWER_CASE: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "Secret(…)");
    }

    #[test]
    fn tokens_are_long_and_differ() {
        let (one, other) = (new_token("k_", &mut rand::rng()), new_token("k_", &mut rand::rng()));
        assert_ne!(one, other);
        assert_eq!(one.expose().len(), 2 + 43);
    }
}
