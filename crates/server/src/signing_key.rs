//! The key that signs this server's events: 32 random bytes in a file that only the server's user can read.
//!
//! The file is one line, `ed25519 <version> <seed in base64>`, the form that Synapse uses too, so that keys can be moved.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use koine_graph::SigningKey;
use rand::{Rng as _, distr::Alphanumeric};

use crate::listener::tls::write_private;

/// Name of the file in the data folder.
pub const FILE: &str = "signing.key";
/// Letters of a new key's version. They tell keys apart when one is replaced.
const VERSION_LENGTH: usize = 4;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("cannot use the signing key {}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// It is there, but not what it should be. It is never overwritten: other servers know the server by its key.
    #[error("the signing key {} is damaged ({reason}); bring it back from a backup, or move it away to have a new one made", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The server's key; made at the first start.
pub fn open(data_dir: &Path, chance: &mut impl rand::CryptoRng) -> Result<SigningKey, KeyFileError> {
    let path = data_dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => parse(&text).map_err(|reason| KeyFileError::Damaged { path, reason }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path, chance),
        Err(reason) => Err(KeyFileError::Io { path, reason }),
    }
}

fn parse(text: &str) -> Result<SigningKey, String> {
    let fields: Vec<_> = text.split_whitespace().collect();
    let ["ed25519", version, seed] = fields[..] else { return Err("it is not one line of three words".into()) };
    let seed = STANDARD_NO_PAD.decode(seed.trim_end_matches('=')).map_err(|error| error.to_string())?;
    let seed = <[u8; 32]>::try_from(seed).map_err(|seed| format!("the seed has {} bytes instead of 32", seed.len()))?;
    SigningKey::from_seed(version, &seed).map_err(|error| error.to_string())
}

fn make(path: &Path, chance: &mut impl rand::CryptoRng) -> Result<SigningKey, KeyFileError> {
    let version: String = (0..VERSION_LENGTH).map(|_| char::from(chance.sample(Alphanumeric))).collect();
    let seed: [u8; 32] = chance.random();
    let line = format!("ed25519 {version} {}\n", STANDARD_NO_PAD.encode(seed));
    write_private(path, line.as_bytes()).map_err(|reason| KeyFileError::Io { path: path.to_owned(), reason })?;
    Ok(SigningKey::from_seed(&version, &seed).expect("four letters and digits are a version"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut chance = StdRng::seed_from_u64(1);
        let first = open(dir.path(), &mut chance).expect("a new key");
        let again = open(dir.path(), &mut chance).expect("the same key");
        assert_eq!(first.id(), again.id());
        assert_eq!(first.public(), again.public());
        let mode = fs::metadata(dir.path().join(FILE)).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join(FILE), "ed25519 a_1 dG9vIHNob3J0").expect("a writable folder");
        let error = open(dir.path(), &mut StdRng::seed_from_u64(1)).expect_err("too short");
        assert!(error.to_string().contains("bytes instead of 32"), "{error}");
    }
}
