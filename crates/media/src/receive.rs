//! Bytes on their way to the disk, from whomever: hashed as they arrive, named by their hash, then made known.
//!
//! The order at the end matters. The bytes are synced, moved to their place and the folders synced; only then is the
//! metadata committed, and only after that is anybody told. See [`crate::folder`] for what a crash leaves at each step.

use std::{path::PathBuf, sync::Arc};

use koine_store::{CommitError, StoreError, Txn};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::{fs::File, io::AsyncWriteExt};

use crate::{
    Media,
    ids::{ContentHash, MediaId},
    tables::{BLOBS, BlobRecord},
    upload::{CONTENT_TYPE_LENGTH_MAX, Description, FILE_NAME_LENGTH_MAX, UploadError},
};

/// A file that is being received. Dropped before it is kept, it leaves nothing behind.
#[derive(Debug)]
pub struct Receiving {
    media: Media,
    file: File,
    received: Received,
    hasher: Sha256,
    size: u64,
    size_max: u64,
}

/// The file in `incoming/`; removed when nobody needs it any more.
#[derive(Debug)]
struct Received(PathBuf);

impl Drop for Received {
    fn drop(&mut self) {
        // Once the file is in its place there is nothing here; a file that stays is removed at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Media {
    pub(crate) async fn receive(&self, size_max: u64) -> Result<Receiving, UploadError> {
        let name = MediaId::random(&mut rand::rng());
        let received = Received(self.folder().incoming(name.as_str()));
        let file = File::create_new(&received.0).await.map_err(UploadError::Disk)?;
        Ok(Receiving { media: self.clone(), file, received, hasher: Sha256::new(), size: 0, size_max })
    }
}

impl Receiving {
    /// Takes the next piece. Memory in use is the piece and a small buffer. After an error it is over.
    pub async fn write(&mut self, piece: &[u8]) -> Result<(), UploadError> {
        let size = self.size.saturating_add(piece.len() as u64);
        if size > self.size_max {
            return Err(UploadError::TooLarge { max: self.size_max });
        }
        self.size = size;
        self.hasher.update(piece);
        self.file.write_all(piece).await.map_err(UploadError::Disk)
    }

    /// How many bytes there are so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Width and height, if it is a picture.
    pub(crate) async fn dimensions(&mut self) -> Option<(u32, u32)> {
        self.file.flush().await.ok()?;
        let path = self.received.0.clone();
        let look = move || crate::preview::dimensions(std::fs::File::open(path).ok()?);
        tokio::task::spawn_blocking(look).await.ok()?
    }

    /// Makes the file durable, and known by what `write` writes in the same command that counts one more reference to
    /// the blob. If `write` says no, nothing of it is kept.
    ///
    /// Not to be given up half-way: call it on a task of its own.
    pub(crate) async fn keep<T: Send + 'static>(
        self,
        write: impl FnOnce(&mut Txn, ContentHash, u64) -> Result<Result<T, UploadError>, StoreError> + Send + 'static,
    ) -> Result<T, UploadError> {
        let Self { media, mut file, received, hasher, size, .. } = self;
        let hash = ContentHash(hasher.finalize().into());
        file.flush().await.map_err(UploadError::Disk)?;

        let _lock = media.blob_lock(hash).lock_owned().await;
        if media.shard().get(&BLOBS, media.domain(), &hash.0)?.is_none() {
            file.sync_all().await.map_err(UploadError::Disk)?;
            if let Err(error) = media.place(received.0.clone(), hash).await {
                // Half of it may be in its place; the mark stays if that cannot be undone now.
                if media.remove_blob(hash).await.is_ok() {
                    media.folder().settle(hash);
                }
                return Err(UploadError::Disk(error));
            }
        }
        let recorded = media.refer(hash, size, write).await;
        if recorded.is_err() && media.shard().get(&BLOBS, media.domain(), &hash.0)?.is_none() {
            // Refused, by the store most likely for want of space: the bytes go again.
            media.remove_blob(hash).await.map_err(UploadError::Disk)?;
        }
        media.folder().settle(hash);
        recorded
    }
}

impl Media {
    async fn refer<T: Send + 'static>(
        &self,
        hash: ContentHash,
        size: u64,
        write: impl FnOnce(&mut Txn, ContentHash, u64) -> Result<Result<T, UploadError>, StoreError> + Send + 'static,
    ) -> Result<T, UploadError> {
        let domain = self.domain();
        let said = Arc::new(Mutex::new(None));
        let told = said.clone();
        self.shard().ready().await;
        let commit = self.shard().submit(move |txn| {
            let mut blob = txn.get(&BLOBS, domain, &hash.0)?.unwrap_or(BlobRecord { size, references: 0 });
            blob.references += 1;
            txn.put(&BLOBS, domain, &hash.0, &blob);
            let answer = write(txn, hash, size)?;
            if answer.is_err() {
                txn.refuse("the file is not wanted any more");
            }
            *told.lock() = Some(answer);
            Ok(())
        });
        match (commit.await, said.lock().take()) {
            (Ok(_), Some(answer)) | (Err(CommitError::Withdrawn(_)), Some(answer @ Err(_))) => answer,
            (Err(error), _) => Err(error.into()),
            (Ok(_), None) => unreachable!("a command that was committed has run"),
        }
    }
}

/// Takes one reference from a blob. Without any, the blob has no row.
pub(crate) fn release(txn: &mut Txn, domain: koine_store::DomainId, hash: ContentHash) -> Result<(), StoreError> {
    let Some(mut blob) = txn.get(&BLOBS, domain, &hash.0)? else { return Ok(()) };
    blob.references = blob.references.saturating_sub(1);
    if blob.references == 0 {
        txn.delete(&BLOBS, domain, &hash.0);
    } else {
        txn.put(&BLOBS, domain, &hash.0, &blob);
    }
    Ok(())
}

impl Description {
    /// The same, no longer than what is kept.
    pub(crate) fn bounded(self) -> Self {
        Self {
            content_type: self.content_type.filter(|text| text.len() <= CONTENT_TYPE_LENGTH_MAX),
            file_name: self.file_name.map(cut_name).filter(|name| !name.is_empty()),
        }
    }
}

/// Cuts a name to its longest allowed length, between characters.
fn cut_name(mut name: String) -> String {
    let end = (0..=FILE_NAME_LENGTH_MAX.min(name.len())).rev().find(|&end| name.is_char_boundary(end));
    name.truncate(end.unwrap_or(0));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(cut_name("short".to_owned()), "short");
        assert_eq!(cut_name("x".repeat(300)).len(), FILE_NAME_LENGTH_MAX);
        let cut = cut_name("ä".repeat(200));
        assert_eq!(cut.len(), FILE_NAME_LENGTH_MAX - 1);
        assert!(cut.chars().all(|character| character == 'ä'));
    }
}
