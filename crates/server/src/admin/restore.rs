//! `koine restore FILE`: a new data folder from what `koine backup` wrote. No server runs on it yet, so this is the one admin
//! command that asks none.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use koine_store::ArchiveError;
use koine_store_embedded::{EmbeddedConfig, EmbeddedEngine};
use serde_json::json;

use super::backup::STORE_ARCHIVE;
use crate::{
    program::{MEDIA_FOLDER, NAME_FILE, STORE_FOLDER},
    signing_key,
};

/// Makes a data folder from a backup
#[derive(Debug, Args)]
pub struct Restore {
    /// What `koine backup` wrote
    file: PathBuf,
    /// The new data folder; it must not exist yet, or be empty
    #[arg(long, value_name = "DIR", default_value = "koine-data")]
    data_dir: PathBuf,
    /// Answer with JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Why there is no new data folder.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Something is in it.
    #[error("{} is not empty; restore into a new folder", .0.display())]
    NotEmpty(PathBuf),
    /// A file could not be read or written.
    #[error("cannot restore {}: {reason}", path.display())]
    Io {
        /// The backup.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// Something is in the file that no backup has, or the store is missing.
    #[error("{} is no backup of Koine: {what}", path.display())]
    NotABackup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The store.
    #[error("{0}")]
    Archive(#[from] ArchiveError),
    /// The new store.
    #[error("{0}")]
    Engine(#[from] koine_store_embedded::OpenError),
}

impl Restore {
    /// Makes the folder; what it returns is for standard output.
    pub fn run(self) -> Result<String, RestoreError> {
        let refuse = |reason| RestoreError::Io { path: self.file.clone(), reason };
        if fs::read_dir(&self.data_dir).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(RestoreError::NotEmpty(self.data_dir));
        }
        let backup = File::open(&self.file).map_err(refuse)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.data_dir).map_err(refuse)?;
        self.unpack(backup)?;
        let archive = self.data_dir.join(STORE_ARCHIVE);
        let mut store = File::open(&archive).map_err(|_| self.not_a_backup("it holds no store"))?;
        let engine = EmbeddedEngine::open(&EmbeddedConfig::new(self.data_dir.join(STORE_FOLDER)))?;
        let summary = koine_store::import(&engine, &mut store)?;
        fs::remove_file(&archive).map_err(refuse)?;
        let name = fs::read_to_string(self.data_dir.join(NAME_FILE)).map_err(refuse)?;
        let (name, folder) = (name.trim(), self.data_dir.display());
        Ok(match self.json {
            true => json!({ "server_name": name, "data_dir": self.data_dir, "rows": summary.rows }).to_string(),
            false => format!("{folder}: the data of {name}, {} rows of the store and all media", summary.rows),
        })
    }

    fn unpack(&self, backup: File) -> Result<(), RestoreError> {
        let refuse = |reason| RestoreError::Io { path: self.file.clone(), reason };
        let mut tar = tar::Archive::new(io::BufReader::new(backup));
        for entry in tar.entries().map_err(refuse)? {
            let mut entry = entry.map_err(|error| self.not_a_backup(&error.to_string()))?;
            let name = entry.path().map_err(refuse)?.into_owned();
            if !is_expected(&name) || !entry.header().entry_type().is_file() {
                return Err(self.not_a_backup(&format!("it holds {}", name.display())));
            }
            // Refuses names that lead out of the folder.
            let unpacked = entry.unpack_in(&self.data_dir).map_err(refuse)?;
            if !unpacked {
                return Err(self.not_a_backup(&format!("{} leads out of it", name.display())));
            }
        }
        Ok(())
    }

    fn not_a_backup(&self, what: &str) -> RestoreError {
        RestoreError::NotABackup { path: self.file.clone(), what: what.to_owned() }
    }
}

fn is_expected(name: &Path) -> bool {
    [NAME_FILE, signing_key::FILE, signing_key::OLD_FILE, STORE_ARCHIVE].iter().any(|known| name == Path::new(known))
        || name.starts_with(MEDIA_FOLDER)
}
