//! `koine backup FILE`: everything of the running server in one file, as of one moment.
//!
//! The file is a tar archive: `server-name`, `signing.key` and `signing.key.old`, `store.archive` (the store as [`koine_store::export`] writes it,
//! of any engine, for any engine) and `media/`. It holds the signing key, so only its owner can read it.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use koine_store::{ArchiveError, Engine};
use serde::{Deserialize, Serialize};

use super::{Command, Refusal};
use crate::{
    program::{MEDIA_FOLDER, NAME_FILE, Server},
    signing_key,
};

/// The store within a backup.
pub const STORE_ARCHIVE: &str = "store.archive";

/// Writes everything that the running server keeps into one file
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct Backup {
    /// The file; it must not exist yet
    file: PathBuf,
}

/// The backup is made.
#[derive(Serialize, Deserialize)]
pub struct Made {
    file: PathBuf,
    bytes: u64,
    rows: u64,
}

/// Why no backup was made.
#[derive(Debug, thiserror::Error)]
enum BackupError {
    #[error("{} is there already; a backup never replaces a file", .0.display())]
    Exists(PathBuf),
    #[error("cannot write the backup: {0}")]
    Io(#[from] io::Error),
    #[error("cannot read the store: {0}")]
    Store(#[from] ArchiveError),
}

impl Command for Backup {
    type Answer = Made;

    fn complete(&mut self) -> Result<(), Refusal> {
        // The server has a working folder of its own.
        self.file = std::path::absolute(&self.file).map_err(Refusal::because)?;
        Ok(())
    }

    async fn run(self, server: &Server) -> Result<Made, Refusal> {
        let (engine, data_dir) = (server.shard.engine().clone(), server.config.data_dir.clone());
        let made = tokio::task::spawn_blocking(move || {
            if self.file.exists() {
                return Err(BackupError::Exists(self.file));
            }
            let part = with_suffix(&self.file, ".part");
            let made = write(&*engine, &data_dir, &part).and_then(|made| {
                // A file with the name that was asked for is always a whole backup, and never replaces another.
                fs::hard_link(&part, &self.file)?;
                Ok(Made { file: self.file, ..made })
            });
            let _ = fs::remove_file(&part);
            made
        });
        made.await.map_err(Refusal::because)?.map_err(Refusal::because)
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn write(engine: &dyn Engine, data_dir: &Path, part: &Path) -> Result<Made, BackupError> {
    let store = with_suffix(part, ".store");
    let written = (|| {
        let mut archive = BufWriter::new(private(&store)?);
        let summary = koine_store::export(&*engine.snapshot(), &mut archive)?;
        archive.flush()?;
        drop(archive);
        let mut tar = tar::Builder::new(BufWriter::new(private(part)?));
        for name in [NAME_FILE, signing_key::FILE] {
            tar.append_path_with_name(data_dir.join(name), name)?;
        }
        let old_keys = data_dir.join(signing_key::OLD_FILE);
        if old_keys.exists() {
            tar.append_path_with_name(old_keys, signing_key::OLD_FILE)?;
        }
        tar.append_path_with_name(&store, STORE_ARCHIVE)?;
        // After the store: a file that came since is one too many, which is harmless; none is missing.
        append_folder(&mut tar, &data_dir.join(MEDIA_FOLDER), Path::new(MEDIA_FOLDER))?;
        let file = tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(Made { file: part.to_owned(), bytes: file.metadata()?.len(), rows: summary.rows })
    })();
    let _ = fs::remove_file(&store);
    written
}

fn append_folder(tar: &mut tar::Builder<impl io::Write>, folder: &Path, name: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        // Uploads on their way grow while they are read, and nothing refers to them yet.
        if entry.file_name() == "incoming" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            append_folder(tar, &path, &name)?;
            continue;
        }
        match File::open(&path) {
            Ok(mut file) => tar.append_file(&name, &mut file)?,
            // Deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes, {} rows of the store and all media", self.file.display(), self.bytes, self.rows)
    }
}
