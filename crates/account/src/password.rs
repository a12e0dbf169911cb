//! Passwords: Argon2id for those who send theirs, and the keys of SCRAM for those who prove they know it.
//!
//! Both are made when the password is set, because later there is none to make them from. SCRAM is that of RFC 5802 and
//! RFC 7677, with SHA-1, SHA-256 and SHA-512; its keys cannot be used to log in, but are cheaper to guess against than
//! Argon2id, which is the price of serving XMPP from the same account.

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::SaltString,
};
use hmac::{Hmac, Mac as _};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use crate::Secret;

/// How long a password may be: what follows must not be a way to keep us busy.
pub const PASSWORD_BYTES_MAX: usize = 512;

/// What hashing a password costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PasswordConfig {
    /// Memory of Argon2id, in KiB. Default: 19456 (19 MiB). A password set before a change keeps its cost until it is
    /// set again. Needs a restart.
    pub argon2_memory_kib: u32,
    /// Passes of Argon2id over that memory. Default: 2. Needs a restart.
    pub argon2_passes: u32,
    /// Iterations of PBKDF2 for SCRAM. Default: 10000; fewer than 4096 are not allowed. Needs a restart.
    pub scram_iterations: u32,
}

impl Default for PasswordConfig {
    fn default() -> Self {
        Self { argon2_memory_kib: 19 * 1024, argon2_passes: 2, scram_iterations: 10_000 }
    }
}

/// The fewest iterations that RFC 7677 allows.
const SCRAM_ITERATIONS_MIN: u32 = 4096;
const SCRAM_SALT_BYTES: usize = 16;

/// What is kept of a password.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PasswordRecord {
    /// Argon2id in the PHC string format, which names its own parameters.
    argon2: String,
    /// One per hash function; none if the password has characters that SASL forbids.
    scram: Vec<ScramKeys>,
}

/// The hash function of a SCRAM mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScramHash {
    /// SCRAM-SHA-1
    Sha1,
    /// SCRAM-SHA-256
    Sha256,
    /// SCRAM-SHA-512
    Sha512,
}

/// What a server needs to know to be convinced by SCRAM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramKeys {
    /// For which mechanism.
    pub hash: ScramHash,
    /// The salt.
    pub salt: Vec<u8>,
    /// PBKDF2 iterations.
    pub iterations: u32,
    /// The hash of the client's key.
    pub stored_key: Vec<u8>,
    /// The server's key.
    pub server_key: Vec<u8>,
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ScramKeys({:?}, {} iterations, …)", self.hash, self.iterations)
    }
}

impl PasswordRecord {
    /// Slow on purpose, and hungry: only for [`Hasher`](crate::hasher::Hasher).
    pub(crate) fn new(password: &Secret, config: PasswordConfig, chance: &mut impl RngCore) -> Self {
        let mut salt = [0u8; SCRAM_SALT_BYTES];
        chance.fill_bytes(&mut salt);
        let salt_text = SaltString::encode_b64(&salt).expect("16 bytes are a valid length for a salt");
        let argon2 = hasher(config)
            .hash_password(password.expose().as_bytes(), &salt_text)
            .expect("the parameters were checked and the output has the standard length")
            .to_string();
        let scram = match stringprep::saslprep(password.expose()) {
            Ok(prepared) => [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512]
                .map(|hash| {
                    let mut salt = vec![0u8; SCRAM_SALT_BYTES];
                    chance.fill_bytes(&mut salt);
                    let iterations = config.scram_iterations.max(SCRAM_ITERATIONS_MIN);
                    ScramKeys::derive(hash, prepared.as_bytes(), salt, iterations)
                })
                .to_vec(),
            Err(_forbidden) => Vec::new(),
        };
        Self { argon2, scram }
    }

    /// Whether this is the password. As slow as making the record.
    pub(crate) fn matches(&self, password: &Secret) -> bool {
        PasswordHash::new(&self.argon2)
            .is_ok_and(|hash| Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok())
    }

    pub(crate) fn scram(&self, hash: ScramHash) -> Option<&ScramKeys> {
        self.scram.iter().find(|keys| keys.hash == hash)
    }
}

fn hasher(config: PasswordConfig) -> Argon2<'static> {
    let params = Params::new(config.argon2_memory_kib.max(8), config.argon2_passes.max(1), 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

impl ScramKeys {
    /// [RFC 5802 §3]
    fn derive(hash: ScramHash, password: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let (stored_key, server_key) = match hash {
            ScramHash::Sha1 => {
                let mut salted = [0u8; 20];
                pbkdf2::pbkdf2_hmac::<Sha1>(password, &salt, iterations, &mut salted);
                let client_key = hmac_sha1(&salted, b"Client Key");
                (Sha1::digest(&client_key).to_vec(), hmac_sha1(&salted, b"Server Key"))
            }
            ScramHash::Sha256 => {
                let mut salted = [0u8; 32];
                pbkdf2::pbkdf2_hmac::<Sha256>(password, &salt, iterations, &mut salted);
                let client_key = hmac_sha256(&salted, b"Client Key");
                (Sha256::digest(&client_key).to_vec(), hmac_sha256(&salted, b"Server Key"))
            }
            ScramHash::Sha512 => {
                let mut salted = [0u8; 64];
                pbkdf2::pbkdf2_hmac::<Sha512>(password, &salt, iterations, &mut salted);
                let client_key = hmac_sha512(&salted, b"Client Key");
                (Sha512::digest(&client_key).to_vec(), hmac_sha512(&salted, b"Server Key"))
            }
        };
        Self { hash, salt, iterations, stored_key, server_key }
    }
}

fn hmac_sha1(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("any length is a key");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hmac_sha512(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("any length is a key");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
pub(crate) const CHEAP: PasswordConfig =
    PasswordConfig { argon2_memory_kib: 8, argon2_passes: 1, scram_iterations: SCRAM_ITERATIONS_MIN };

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};

    use super::*;

    #[test]
    fn the_right_password_matches_and_no_other() {
        let record = PasswordRecord::new(&"übers3kr1t".into(), CHEAP, &mut rand::rng());
        assert!(record.matches(&"übers3kr1t".into()));
        assert!(!record.matches(&"Übers3kr1t".into()));
        assert!(!record.matches(&"".into()));
    }

    #[test]
    fn two_records_of_one_password_share_nothing() {
        let make = || PasswordRecord::new(&"same".into(), CHEAP, &mut rand::rng());
        let (one, other) = (make(), make());
        assert_ne!(one.argon2, other.argon2);
        assert_ne!(one.scram(ScramHash::Sha1), other.scram(ScramHash::Sha1));
    }

    /// [RFC 5802 §5] The conversation of user `user` with password `pencil`: the client's proof in it must be accepted
    /// with our stored key, and the server's signature must come of our server key.
    #[test]
    fn the_keys_are_those_of_the_published_conversation() {
        let salt = BASE64_STANDARD.decode("QSXCR+Q6sek8bf92").expect("base64");
        let keys = ScramKeys::derive(ScramHash::Sha1, b"pencil", salt, 4096);
        let auth_message = b"n=user,r=fyko+d2lbbFgONRv9qkxdawL,\
            r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096,\
            c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j";
        let proof = BASE64_STANDARD.decode("v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=").expect("base64");
        let signature = hmac_sha1(&keys.stored_key, auth_message);
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(one, other)| one ^ other).collect();
        assert_eq!(Sha1::digest(&client_key).to_vec(), keys.stored_key);
        assert_eq!(BASE64_STANDARD.encode(hmac_sha1(&keys.server_key, auth_message)), "rmF9pqV8S7suAoZWja4dJRkFsKQ=");
    }

    /// [RFC 7677 §3] The same for SHA-256.
    #[test]
    fn the_keys_are_those_of_the_published_conversation_with_sha_256() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let keys = ScramKeys::derive(ScramHash::Sha256, b"pencil", salt, 4096);
        let auth_message = b"n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = hmac_sha256(&keys.server_key, auth_message);
        assert_eq!(BASE64_STANDARD.encode(signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }
}
