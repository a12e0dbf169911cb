//! The folder where bytes lie: how a blob gets there so that it survives a power cut, and how it goes away.
//!
//! ```text
//! content/ab/cdef…            a blob, named by its SHA-256
//! thumbnails/ab/cdef…/        pictures made from it; may be deleted at any time
//! incoming/                   uploads that are still being received; emptied when the folder is opened
//! unsettled/abcdef…           a mark: this blob is just being placed or removed
//! ```
//!
//! Two invariants:
//! 1. A blob that the metadata names is on disk, whole: file and folders are synced before the metadata is committed.
//! 2. A blob that the metadata does not name has a mark in `unsettled/` or a writer that is still at work; so what a
//!    crash leaves behind is found without listing all content.
//!
//! Everything here blocks; callers are on a thread that may.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::ids::ContentHash;

/// The folder of one domain's media.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Opens the folder, creating what is missing and throwing away uploads that were never finished.
    pub(crate) fn open(root: PathBuf) -> io::Result<Self> {
        let folder = Self { root };
        for name in ["content", "thumbnails", "incoming", "unsettled"] {
            fs::create_dir_all(folder.root.join(name))?;
        }
        for entry in fs::read_dir(folder.root.join("incoming"))? {
            fs::remove_file(entry?.path())?;
        }
        sync_folder(&folder.root)?;
        Ok(folder)
    }

    /// Where an upload is received. `name` is unique.
    pub(crate) fn incoming(&self, name: &str) -> PathBuf {
        self.root.join("incoming").join(name)
    }

    /// Where blobs lie.
    pub(crate) fn content_root(&self) -> PathBuf {
        self.root.join("content")
    }

    /// Where the blob lies.
    pub(crate) fn content(&self, hash: ContentHash) -> PathBuf {
        split(&self.content_root(), hash)
    }

    /// The folder of the pictures made from this blob.
    pub(crate) fn thumbnails(&self, hash: ContentHash) -> PathBuf {
        split(&self.root.join("thumbnails"), hash)
    }

    /// Moves a received file (whose data is synced) to its place, durably. The blob stays marked until [`Self::settle`].
    pub(crate) fn place(&self, received: &Path, hash: ContentHash) -> io::Result<()> {
        self.mark(hash)?;
        let target = self.content(hash);
        let shelf = target.parent().expect("a blob lies in a folder named by its first byte");
        if fs::create_dir(shelf).is_ok() {
            sync_folder(&self.content_root())?;
        }
        fs::rename(received, &target)?;
        sync_folder(shelf)
    }

    /// Says that the blob is in motion, before it moves.
    pub(crate) fn mark(&self, hash: ContentHash) -> io::Result<()> {
        let folder = self.root.join("unsettled");
        File::create(folder.join(hash.to_string()))?;
        sync_folder(&folder)
    }

    /// Takes the mark away: metadata and disk agree about this blob. A mark that stays costs a look at the next start.
    pub(crate) fn settle(&self, hash: ContentHash) {
        let mark = self.root.join("unsettled").join(hash.to_string());
        if let Err(error) = fs::remove_file(&mark)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%hash, %error, "could not remove the mark of a settled blob; it is looked at again at the next start");
        }
    }

    /// Removes the blob and everything made from it. Not being there is success.
    pub(crate) fn remove(&self, hash: ContentHash) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        gone(fs::remove_file(self.content(hash)))?;
        gone(fs::remove_dir_all(self.thumbnails(hash)))
    }

    /// The blobs that were in motion when the process ended.
    pub(crate) fn unsettled(&self) -> io::Result<Vec<ContentHash>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.root.join("unsettled"))? {
            found.extend(entry?.file_name().to_str().and_then(ContentHash::from_hex));
        }
        Ok(found)
    }
}

/// `root/ab/cdef…`: 256 folders, so that none gets too large to list.
fn split(root: &Path, hash: ContentHash) -> PathBuf {
    let hex = hash.to_string();
    let (shelf, rest) = hex.split_at(2);
    root.join(shelf).join(rest)
}

/// Makes renames and new names in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::open(place.path().join("media")).expect("the folder opens");
        (place, folder)
    }

    fn receive(folder: &Folder, bytes: &[u8]) -> (PathBuf, ContentHash) {
        let path = folder.incoming("one");
        fs::write(&path, bytes).expect("the upload is written");
        (path, ContentHash::of(bytes))
    }

    #[test]
    fn a_placed_blob_is_marked_until_it_is_settled() {
        let (_place, folder) = open();
        let (path, hash) = receive(&folder, b"hello");
        folder.place(&path, hash).expect("placed");
        assert_eq!(fs::read(folder.content(hash)).expect("there"), b"hello");
        assert!(!path.exists());
        assert_eq!(folder.unsettled().expect("listed"), vec![hash]);
        folder.settle(hash);
        assert!(folder.unsettled().expect("listed").is_empty());
    }

    #[test]
    fn opening_throws_away_unfinished_uploads_and_keeps_content() {
        let (place, folder) = open();
        let (path, hash) = receive(&folder, b"kept");
        folder.place(&path, hash).expect("placed");
        let (unfinished, _) = receive(&folder, b"half");
        Folder::open(place.path().join("media")).expect("opens again");
        assert!(!unfinished.exists());
        assert!(folder.content(hash).exists());
    }

    #[test]
    fn removing_what_is_not_there_is_no_error() {
        let (_place, folder) = open();
        folder.remove(ContentHash::of(b"never seen")).expect("nothing to do");
    }
}
