//! Accounts on this machine: where they are kept, who may open them, one process at a time.
//!
//! ```text
//! <data>/last                        the account used last
//! <data>/accounts/<label>/account.json   who, where, the access token, the key of the store (mode 0600)
//! <data>/accounts/<label>/store/         what matrix-sdk keeps
//! <data>/accounts/<label>/lock           held while a process has the store open
//! ```

use std::{
    env, fs,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use matrix_sdk::ruma::{OwnedDeviceId, OwnedUserId};
use rand::RngCore;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Bytes of a label, so that it is a file name everywhere.
const LABEL_MAX: usize = 200;

/// Who gets the keys of what is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// Every device of every member that is not blocked.
    #[default]
    All,
    /// Devices that their owners have verified.
    Signed,
    /// Devices of people that were verified here.
    Verified,
}

/// One account as it is kept.
#[derive(Clone, Serialize, Deserialize)]
pub struct Account {
    /// Whose.
    pub user_id: OwnedUserId,
    /// This device.
    pub device_id: OwnedDeviceId,
    /// Base address of the homeserver.
    pub homeserver: String,
    /// What the server knows this device by.
    pub access_token: String,
    /// Key of the local store, 32 bytes in hexadecimal.
    pub store_key: String,
    /// Who gets keys.
    #[serde(default)]
    pub sharing: Sharing,
}

impl Account {
    /// The key of the store.
    pub fn key(&self) -> Result<[u8; 32], Failure> {
        let damaged = || Failure::Store("account.json holds no key of the store".to_owned());
        let mut key = [0; 32];
        if self.store_key.len() != 64 || !self.store_key.is_ascii() {
            return Err(damaged());
        }
        for (index, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&self.store_key[2 * index..2 * index + 2], 16).map_err(|_| damaged())?;
        }
        Ok(key)
    }

    /// A key nobody has.
    pub fn new_key() -> String {
        let mut key = [0; 32];
        rand::rng().fill_bytes(&mut key);
        key.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// All accounts of a data folder.
#[derive(Clone)]
pub struct Accounts {
    root: PathBuf,
}

impl Accounts {
    /// Those in `folder`, or where the desktop says that programs keep their data.
    pub fn new(folder: Option<PathBuf>) -> Result<Self, Failure> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = folder
            .or_else(|| set("XDG_DATA_HOME").map(|home| home.join("koine-chat")))
            .or_else(|| set("HOME").map(|home| home.join(".local/share/koine-chat")))
            .ok_or_else(|| Failure::Usage("neither HOME nor XDG_DATA_HOME is set; say --data-dir".to_owned()))?;
        Ok(Self { root })
    }

    /// All labels, sorted.
    pub fn labels(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join("accounts")) else { return Vec::new() };
        let mut labels: Vec<String> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().join("account.json").exists())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        labels.sort();
        labels
    }

    /// The account that is meant: the one named (by label or user id), the only one, or the one used last.
    pub fn choose(&self, wanted: Option<&str>) -> Result<String, Failure> {
        let labels = self.labels();
        if let Some(wanted) = wanted {
            if labels.iter().any(|label| label == wanted) {
                return Ok(wanted.to_owned());
            }
            let same: Vec<&String> =
                labels.iter().filter(|label| self.load(label).is_ok_and(|one| one.user_id == wanted)).collect();
            return match same.as_slice() {
                [label] => Ok((*label).clone()),
                [] => Err(Failure::NotLoggedIn(format!(
                    "there is no account {wanted} here; `koine-chat login` makes one"
                ))),
                several => Err(Failure::Usage(format!("{wanted} has {} devices here: {several:?}", several.len()))),
            };
        }
        let last = fs::read_to_string(self.root.join("last")).ok().map(|label| label.trim().to_owned());
        match labels.as_slice() {
            [] => Err(Failure::NotLoggedIn("there is no account here yet; `koine-chat login` makes one".to_owned())),
            [label] => Ok(label.clone()),
            several => last
                .filter(|label| several.contains(label))
                .ok_or_else(|| Failure::Usage(format!("several accounts are here, say --account: {several:?}"))),
        }
    }

    /// Folder of an account.
    pub fn folder(&self, label: &str) -> PathBuf {
        self.root.join("accounts").join(label)
    }

    /// A label that is safe as a file name, or why it is none.
    pub fn label(wanted: &str) -> Result<String, Failure> {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "@:._=+-".contains(letter);
        if wanted.is_empty() || wanted.len() > LABEL_MAX || wanted.starts_with('.') || !wanted.chars().all(fits) {
            return Err(Failure::Usage(format!(
                "an account is named with 1 to {LABEL_MAX} letters, digits and @:._=+-, not beginning with a dot"
            )));
        }
        Ok(wanted.to_owned())
    }

    /// The label of somebody who was given none: the user id, with what is no file name written in hexadecimal.
    pub fn label_of(user_id: &str) -> String {
        let mut label = String::new();
        for byte in user_id.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'@' | b':' | b'.' | b'_' | b'-' => {
                    label.push(char::from(byte));
                }
                other => label.push_str(&format!("={other:02x}")),
            }
        }
        label.truncate(LABEL_MAX);
        label
    }

    /// Reads an account.
    pub fn load(&self, label: &str) -> Result<Account, Failure> {
        let path = self.folder(label).join("account.json");
        let bytes = fs::read(&path).map_err(|error| Failure::Store(format!("{}: {error}", path.display())))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::Store(format!(
                "{} is damaged ({error}). Ways out: restore it from a copy, or remove the folder {} and log in again; \
                 messages come back with the recovery key",
                path.display(),
                self.folder(label).display()
            ))
        })
    }

    /// Writes an account, whole or not at all, for its owner alone.
    pub fn save(&self, label: &str, account: &Account) -> Result<(), Failure> {
        let folder = self.folder(label);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let text = serde_json::to_vec_pretty(account).map_err(|error| Failure::Local(error.to_string()))?;
        write_private(&folder.join("account.json"), &text)
    }

    /// Remembers which account was used last.
    pub fn remember(&self, label: &str) {
        // Only a convenience: without it, --account is asked for.
        let _ = write_private(&self.root.join("last"), label.as_bytes());
    }

    /// Removes an account from this machine. A store that still closes may make files beside it once more: not where it was any more.
    pub fn remove(&self, label: &str) -> Result<(), Failure> {
        let leaving = self.root.join(format!("leaving-{}", std::process::id()));
        fs::rename(self.folder(label), &leaving)?;
        Ok(fs::remove_dir_all(leaving)?)
    }

    /// Waits until no other process has the account open; `patience` at most.
    pub fn lock(&self, label: &str, patience: Duration) -> Result<Lock, Failure> {
        let folder = self.folder(label);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(folder.join("lock"))?;
        let began = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if began.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(Failure::Busy(format!(
                        "another koine-chat has {label} open; end it, wait longer with --wait, or give each its own device \
                         with `login --account NAME`"
                    )));
                }
                Err(error) => return Err(Failure::Local(format!("the account cannot be locked: {error}"))),
            }
        }
    }
}

/// Held while the store is open.
pub struct Lock {
    _file: File,
}

/// Writes a file that only its owner may read: beside it first, then in its place.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(fs::rename(&beside, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(user: &str) -> Account {
        Account {
            user_id: user.try_into().unwrap(),
            device_id: "DEVICE".into(),
            homeserver: "http://localhost:8008".to_owned(),
            access_token: "secret".to_owned(),
            store_key: Account::new_key(),
            sharing: Sharing::All,
        }
    }

    #[test]
    fn labels_are_file_names() {
        assert!(Accounts::label("../../etc").is_err());
        assert!(Accounts::label("").is_err());
        assert!(Accounts::label(".hidden").is_err());
        assert!(Accounts::label("alice-phone").is_ok());
        assert_eq!(Accounts::label_of("@a/b:c"), "@a=2fb:c");
    }

    #[test]
    fn the_only_account_is_meant_and_among_several_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::new(Some(folder.path().into())).unwrap();
        assert_eq!(accounts.choose(None).unwrap_err().code(), 3);
        accounts.save("one", &account("@a:b")).unwrap();
        assert_eq!(accounts.choose(None).unwrap(), "one");
        accounts.save("two", &account("@c:d")).unwrap();
        assert_eq!(accounts.choose(None).unwrap_err().code(), 2);
        accounts.remember("two");
        assert_eq!(accounts.choose(None).unwrap(), "two");
        assert_eq!(accounts.choose(Some("@a:b")).unwrap(), "one");
        assert_eq!(accounts.choose(Some("@x:y")).unwrap_err().code(), 3);
    }

    #[test]
    fn who_is_removed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::new(Some(folder.path().into())).unwrap();
        accounts.save("one", &account("@a:b")).unwrap();
        accounts.remove("one").unwrap();
        assert_eq!(accounts.choose(None).unwrap_err().code(), 3);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["accounts"]);
        assert!(accounts.remove("one").is_err());
    }

    #[test]
    fn secrets_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::new(Some(folder.path().into())).unwrap();
        accounts.save("one", &account("@a:b")).unwrap();
        let mode = fs::metadata(accounts.folder("one").join("account.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(accounts.load("one").unwrap().key().unwrap().len(), 32);
    }

    #[test]
    fn a_damaged_account_says_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::new(Some(folder.path().into())).unwrap();
        accounts.save("one", &account("@a:b")).unwrap();
        fs::write(accounts.folder("one").join("account.json"), "{").unwrap();
        let failure = accounts.load("one").err().unwrap();
        assert_eq!(failure.code(), 8);
        assert!(failure.to_string().contains("log in again"));
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::new(Some(folder.path().into())).unwrap();
        let held = accounts.lock("one", Duration::ZERO).unwrap();
        assert_eq!(accounts.lock("one", Duration::ZERO).err().unwrap().code(), 7);
        drop(held);
        accounts.lock("one", Duration::ZERO).unwrap();
    }
}
