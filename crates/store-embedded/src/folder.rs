//! The folder around fjall's files: whose it is, in which format, and who uses it.
//!
//! A folder that is not ours, newer than this program, in use or damaged is left exactly as it was found.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::journal;

/// The format that this version writes.
const FORMAT_KNOWN: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_WORDS: &str = "koine store, format ";
/// Stands behind the number until everything is in place for the first time.
const BEING_MADE: &str = ", being made";
const LOCK_FILE: &str = "LOCK";
const DB_FOLDER: &str = "db";
/// First bytes of the file `db/version`.
const FJALL_MAGIC: [u8; 4] = *b"FJL\x03";

/// Why the store's folder cannot be used. Each message says what to do; none of these changed anything.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No permission.
    #[error(
        "cannot use the data folder {path}: permission denied. Give the user that runs Koine the right to write \
         there, or choose another folder"
    )]
    NotPermitted {
        /// The folder.
        path: PathBuf,
    },
    /// Mounted read-only.
    #[error("cannot use the data folder {path}: its file system is read-only. Remount it, or choose another folder")]
    ReadOnly {
        /// The folder.
        path: PathBuf,
    },
    /// No room for the first files.
    #[error("cannot use the data folder {path}: the disk is full. Free some space, or choose another folder")]
    DiskFull {
        /// The folder.
        path: PathBuf,
    },
    /// Another process is at it.
    #[error("the data folder {path} is in use by another Koine. Stop that one first, or give this one its own folder")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Something else lives there.
    #[error(
        "the folder {path} holds something that is not a Koine store ({found}). Choose an empty folder, or the right \
         one. Nothing was changed"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// The name of something found in it.
        found: String,
    },
    /// Written by a later version.
    #[error(
        "the data folder {path} was written by a newer version of Koine (format {found}, this one knows {known}). Run \
         that version or a newer one. Nothing was changed"
    )]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Not what was written there.
    #[error(
        "the data folder {path} is damaged: {what}. Keep a copy of it, check the disk, and restore a backup with \
         `koine restore` into an empty folder. Nothing was changed"
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// The engine itself could not open what looked whole.
    #[error(
        "the data folder {path} cannot be opened: {reason}. If the disk is well, keep a copy of the folder and restore \
         a backup with `koine restore` into an empty one"
    )]
    Engine {
        /// The folder.
        path: PathBuf,
        /// The engine's words.
        reason: String,
    },
    /// Anything else that the operating system said.
    #[error("cannot use the data folder {path}: {error}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            ErrorKind::PermissionDenied => Self::NotPermitted { path },
            ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { path, error },
        }
    }
}

/// A folder that is ours alone until this is dropped.
pub(crate) struct Folder {
    path: PathBuf,
    is_new: bool,
    _lock: File,
}

impl Folder {
    /// Takes the folder, if everything about it is right; makes it, if there is none.
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::io(path, error);
        if let Some(found) = stranger(path).map_err(failed)? {
            return Err(OpenError::Foreign { path: path.to_owned(), found });
        }
        if let Format::Newer(found) = Format::read(path)? {
            return Err(OpenError::Newer { path: path.to_owned(), found, known: FORMAT_KNOWN });
        }
        fs::create_dir_all(path).map_err(failed)?;
        let lock = lock(path)?;
        // Whoever held the lock until now may have changed what was read above.
        let is_new = match Format::read(path)? {
            Format::Newer(found) => {
                return Err(OpenError::Newer { path: path.to_owned(), found, known: FORMAT_KNOWN });
            }
            Format::Missing | Format::BeingMade => true,
            Format::Known => false,
        };
        let folder = Self { path: path.to_owned(), is_new, _lock: lock };
        if is_new {
            folder.begin().map_err(failed)?;
        } else {
            inspect(&folder.db())
                .map_err(failed)?
                .map_err(|what| OpenError::Damaged { path: path.to_owned(), what })?;
        }
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where fjall's files are.
    pub(crate) fn db(&self) -> PathBuf {
        self.path.join(DB_FOLDER)
    }

    /// Nothing was ever committed here.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Removes what an interrupted first start left behind: no commit was possible before [`Folder::finish`].
    fn begin(&self) -> io::Result<()> {
        self.write_format(BEING_MADE)?;
        match fs::remove_dir_all(self.db()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Everything is in place: from now on this is a store.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.write_format("")
    }

    fn write_format(&self, state: &str) -> io::Result<()> {
        let (target, draft) = (self.path.join(FORMAT_FILE), self.path.join("FORMAT.new"));
        let mut file = File::create(&draft)?;
        writeln!(file, "{FORMAT_WORDS}{FORMAT_KNOWN}{state}")?;
        file.sync_all()?;
        fs::rename(&draft, &target)?;
        File::open(&self.path)?.sync_all()
    }
}

/// What the file `FORMAT` says.
enum Format {
    Missing,
    BeingMade,
    Known,
    Newer(u32),
}

impl Format {
    fn read(path: &Path) -> Result<Self, OpenError> {
        let text = match fs::read(path.join(FORMAT_FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::Missing),
            Err(error) => return Err(OpenError::io(path, error)),
        };
        let damaged = || OpenError::Damaged {
            path: path.to_owned(),
            what: format!("its file {FORMAT_FILE} is not what Koine writes"),
        };
        let line =
            std::str::from_utf8(&text).ok().and_then(|text| text.strip_prefix(FORMAT_WORDS)).ok_or_else(damaged)?;
        let (number, state) =
            line.trim_end().split_once(',').map_or((line.trim_end(), false), |(number, _)| (number, true));
        match (number.parse::<u32>().map_err(|_| damaged())?, state) {
            (FORMAT_KNOWN, true) => Ok(Self::BeingMade),
            (FORMAT_KNOWN, false) => Ok(Self::Known),
            (number, _) if number > FORMAT_KNOWN => Ok(Self::Newer(number)),
            _ => Err(damaged()),
        }
    }
}

/// Something in a folder that is not a store: its name.
fn stranger(path: &Path) -> io::Result<Option<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(Some("a file".to_owned())),
        Err(error) => return Err(error),
    };
    let mut stranger = None;
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        match name.as_str() {
            FORMAT_FILE => return Ok(None),
            // What a first start that was interrupted at once may leave; and what mkfs puts into a fresh disk.
            LOCK_FILE | "FORMAT.new" | "lost+found" => {}
            _ => stranger = Some(name),
        }
    }
    Ok(stranger)
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join(LOCK_FILE));
    let file = file.map_err(|error| OpenError::io(path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(fs::TryLockError::Error(error)) => Err(OpenError::io(path, error)),
    }
}

/// Looks at fjall's files without touching them: `Ok(Err(what is wrong))`.
fn inspect(db: &Path) -> io::Result<Result<(), String>> {
    match fs::read(db.join("version")) {
        Ok(version) if version.starts_with(&FJALL_MAGIC) => {}
        Ok(_) => return Ok(Err("the file db/version does not belong to this engine".to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Err("the file db/version is missing".to_owned()));
        }
        Err(error) => return Err(error),
    }
    if let Err(what) = inspect_keyspaces(&db.join("keyspaces"))? {
        return Ok(Err(what));
    }
    journal::inspect(db)
}

fn inspect_keyspaces(keyspaces: &Path) -> io::Result<Result<(), String>> {
    let entries = match fs::read_dir(keyspaces) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Err("the folder db/keyspaces is missing".to_owned()));
        }
        Err(error) => return Err(error),
    };
    let mut count = 0;
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.parse::<u64>().is_err() {
            return Ok(Err(format!("there is something strange in db/keyspaces: {name}")));
        }
        if !keyspaces.join(&name).join("current").try_exists()? {
            return Ok(Err(format!("the file db/keyspaces/{name}/current is missing")));
        }
        count += 1;
    }
    // The engine's own, and ours.
    let expected = koine_store::Space::ALL.len() + 1;
    if count < expected {
        return Ok(Err(format!("db/keyspaces holds {count} folders instead of {expected}")));
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operating_system_refuses_becomes_a_sentence_that_says_what_to_do() {
        let path = Path::new("/var/lib/koine");
        for (kind, words) in [
            (ErrorKind::PermissionDenied, "Give the user that runs Koine the right to write"),
            (ErrorKind::ReadOnlyFilesystem, "Remount it"),
            (ErrorKind::StorageFull, "Free some space"),
        ] {
            let sentence = OpenError::io(path, kind.into()).to_string();
            assert!(sentence.contains(words) && sentence.contains("/var/lib/koine"), "{sentence}");
        }
    }

    #[test]
    fn a_folder_is_taken_once_at_a_time() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let path = home.path().join("a/b");
        let folder = Folder::take(&path).expect("an empty place");
        assert!(folder.is_new());
        assert!(matches!(Folder::take(&path), Err(OpenError::InUse { .. })));
        drop(folder);
        assert!(Folder::take(&path).expect("nobody is there").is_new(), "it was never finished");
    }
}
