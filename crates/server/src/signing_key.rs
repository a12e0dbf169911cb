//! The key that signs this server's events: 32 random bytes in a file that only the server's user can read.
//!
//! The file is one line, `ed25519 <version> <seed in base64>`, the form that Synapse uses too, so that keys can be moved.
//! A key that was replaced goes to a file of its own as `<id> <public key> <when it ended, in ms>`, one line each; these
//! are published for as long as there are events that they signed, which is for ever. [SS-API §publishing-keys]

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use koine_graph::{PublicKey, SigningKey};
use rand::{Rng as _, distr::Alphanumeric};
use ruma_common::MilliSecondsSinceUnixEpoch;

use crate::listener::tls::write_private;

/// Name of the file in the data folder.
pub const FILE: &str = "signing.key";
/// Name of the file of keys that were replaced, in the same folder.
pub const OLD_FILE: &str = "signing.key.old";
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

/// A key that signed for this server once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldKey {
    /// Its id, as `ed25519:a_1`.
    pub id: String,
    /// The public part, in base64.
    pub key: String,
    /// When it was replaced.
    pub ended: MilliSecondsSinceUnixEpoch,
}

/// The keys that were replaced, oldest first.
pub fn old(data_dir: &Path) -> Result<Vec<OldKey>, KeyFileError> {
    let path = data_dir.join(OLD_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(reason) => return Err(KeyFileError::Io { path, reason }),
    };
    let damaged = |line: &str| KeyFileError::Damaged { path: path.clone(), reason: format!("{line:?} is no old key") };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| parse_old(line).ok_or_else(|| damaged(line))).collect()
}

fn parse_old(line: &str) -> Option<OldKey> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [id, key, ended] = fields[..] else { return None };
    PublicKey::from_base64(key).ok().filter(|_| id.starts_with("ed25519:"))?;
    let ended = MilliSecondsSinceUnixEpoch(ended.parse::<u64>().ok()?.try_into().ok()?);
    Some(OldKey { id: id.to_owned(), key: key.to_owned(), ended })
}

/// Replaces the key by a new one, for the next start; its public part stays known. The ids of both.
pub fn rotate(
    data_dir: &Path,
    now: MilliSecondsSinceUnixEpoch,
    chance: &mut impl rand::CryptoRng,
) -> Result<(String, String), KeyFileError> {
    let present = open(data_dir, chance)?;
    let path = data_dir.join(OLD_FILE);
    let write = |path: &Path, bytes: &[u8]| {
        let refuse = |reason| KeyFileError::Io { path: path.to_owned(), reason };
        // Whole or not at all: a key that is half written is none.
        let new = path.with_extension("new");
        write_private(&new, bytes).and_then(|()| fs::rename(&new, path)).map_err(refuse)
    };
    let mut lines: String = old(data_dir)?.iter().map(OldKey::to_string).collect();
    let ended = OldKey { id: present.id().to_owned(), key: present.public().to_base64(), ended: now };
    lines.push_str(&ended.to_string());
    // First this: a key that is published twice harms nobody, one that is lost makes old events unreadable.
    write(&path, lines.as_bytes())?;
    let (key, line) = new_key(chance);
    write(&data_dir.join(FILE), line.as_bytes())?;
    Ok((ended.id, key.id().to_owned()))
}

impl fmt::Display for OldKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} {}", self.id, self.key, self.ended.get())
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
    let (key, line) = new_key(chance);
    write_private(path, line.as_bytes()).map_err(|reason| KeyFileError::Io { path: path.to_owned(), reason })?;
    Ok(key)
}

/// A key, and the line of the file.
fn new_key(chance: &mut impl rand::CryptoRng) -> (SigningKey, String) {
    let version: String = (0..VERSION_LENGTH).map(|_| char::from(chance.sample(Alphanumeric))).collect();
    let seed: [u8; 32] = chance.random();
    let key = SigningKey::from_seed(&version, &seed).expect("four letters and digits are a version");
    (key, format!("ed25519 {version} {}\n", STANDARD_NO_PAD.encode(seed)))
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
    fn a_key_that_is_replaced_stays_known() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut chance = StdRng::seed_from_u64(1);
        let first = open(dir.path(), &mut chance).expect("a new key");
        assert_eq!(old(dir.path()).expect("no file"), []);
        let at = |ms: u32| MilliSecondsSinceUnixEpoch(ms.into());
        let (was, is) = rotate(dir.path(), at(7), &mut chance).expect("replaced");
        let second = open(dir.path(), &mut chance).expect("another key");
        assert_eq!((was.as_str(), is.as_str()), (first.id(), second.id()));
        assert_ne!(first.public(), second.public());
        rotate(dir.path(), at(9), &mut chance).expect("replaced again");
        let old = old(dir.path()).expect("two keys");
        let known = |key: &SigningKey, ended| OldKey { id: key.id().to_owned(), key: key.public().to_base64(), ended };
        assert_eq!(old, [known(&first, at(7)), known(&second, at(9))]);
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join(FILE), "ed25519 a_1 dG9vIHNob3J0").expect("a writable folder");
        let error = open(dir.path(), &mut StdRng::seed_from_u64(1)).expect_err("too short");
        assert!(error.to_string().contains("bytes instead of 32"), "{error}");
    }
}
