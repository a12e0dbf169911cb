//! Receiving a file: to disk as it arrives, hashed on the way, named by its hash, then made known.
//!
//! The order at the end matters. The bytes are synced, moved to their place and the folders synced; only then is the
//! metadata committed, and only after that is the uploader told the address. See [`crate::folder`] for what a crash
//! leaves at each step.

use std::{io, path::PathBuf};

use koine_store::{CommitError, StoreError};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedMxcUri, OwnedUserId, UserId};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::{fs::File, io::AsyncWriteExt};

use crate::{
    Media,
    ids::{ContentHash, MediaId},
    tables::{BLOBS, BlobRecord, MEDIA, MediaRecord, USAGE},
};

/// Longest file name that is kept, in bytes; longer ones are cut.
pub const FILE_NAME_LENGTH_MAX: usize = 255;

/// Longest content type that is kept; a longer one is treated as none.
pub const CONTENT_TYPE_LENGTH_MAX: usize = 255;

/// How many files one account may be sending at the same time. What is being received counts for nobody's share of the
/// disk yet, so this bounds how far beyond it an account can get.
pub const UPLOADS_AT_ONCE_MAX: usize = 32;

/// What the uploader says about the file.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// The content type, as sent.
    pub content_type: Option<String>,
    /// The file name, as sent.
    pub file_name: Option<String>,
}

/// Why an upload failed. Nothing of it is kept.
#[derive(Debug, Error)]
pub enum UploadError {
    /// More bytes than one file may have.
    #[error("the file is larger than {max} bytes, the most that may be uploaded here")]
    TooLarge {
        /// The limit.
        max: u64,
    },
    /// The account has used up its space.
    #[error("your files would take {would_be} bytes, at most {max} are allowed; delete some first")]
    AccountFull {
        /// All bytes of the account with this file.
        would_be: u64,
        /// The limit.
        max: u64,
    },
    /// The account is sending [`UPLOADS_AT_ONCE_MAX`] other files.
    #[error("you are sending {UPLOADS_AT_ONCE_MAX} files already; wait until one of them is through")]
    TooManyAtOnce,
    /// Our disk; also when it is full.
    #[error("the file cannot be written to the media folder: {0}")]
    Disk(#[source] io::Error),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// A file that is being received. Dropped before [`Upload::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    media: Media,
    turn: Turn,
    file: File,
    received: Received,
    hasher: Sha256,
    size: u64,
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

/// One of the files that an account is sending.
#[derive(Debug)]
struct Turn {
    media: Media,
    owner: OwnedUserId,
}

impl Turn {
    fn take(media: &Media, owner: &UserId) -> Result<Self, UploadError> {
        let mut receiving = media.receiving().lock();
        let count = receiving.entry(owner.to_owned()).or_default();
        if *count >= UPLOADS_AT_ONCE_MAX {
            return Err(UploadError::TooManyAtOnce);
        }
        *count += 1;
        Ok(Self { media: media.clone(), owner: owner.to_owned() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut receiving = self.media.receiving().lock();
        if let Some(count) = receiving.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                receiving.remove(&self.owner);
            }
        }
    }
}

impl Media {
    /// Begins to receive a file of this account. `announced` is the length the uploader named, so that a file that is too
    /// large is refused before it is sent.
    pub async fn begin_upload(&self, owner: &UserId, announced: Option<u64>) -> Result<Upload, UploadError> {
        let max = self.config().upload_bytes_max;
        if announced.is_some_and(|length| length > max) {
            return Err(UploadError::TooLarge { max });
        }
        self.check_space(owner, announced.unwrap_or(0))?;
        let turn = Turn::take(self, owner)?;
        let name = MediaId::random(&mut rand::rng());
        let received = Received(self.folder().incoming(name.as_str()));
        let file = File::create_new(&received.0).await.map_err(UploadError::Disk)?;
        Ok(Upload { media: self.clone(), turn, file, received, hasher: Sha256::new(), size: 0 })
    }
}

impl Upload {
    /// Takes the next piece. Memory in use is the piece and a small buffer. After an error the upload is over.
    pub async fn write(&mut self, piece: &[u8]) -> Result<(), UploadError> {
        let max = self.media.config().upload_bytes_max;
        self.size = self.size.saturating_add(piece.len() as u64);
        if self.size > max {
            return Err(UploadError::TooLarge { max });
        }
        self.hasher.update(piece);
        self.file.write_all(piece).await.map_err(UploadError::Disk)
    }

    /// Makes the file durable and known. The address is valid, and stays so after a crash, once this returns.
    ///
    /// Goes on to the end when the caller goes away: half of it would leave a blob without an owner.
    pub async fn finish(
        self,
        description: Description,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<OwnedMxcUri, UploadError> {
        tokio::spawn(self.settle(description, now)).await.expect("finishing an upload does not panic")
    }

    async fn settle(
        mut self,
        description: Description,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<OwnedMxcUri, UploadError> {
        let hash = ContentHash(std::mem::take(&mut self.hasher).finalize().into());
        let Self { media, turn, mut file, received, size, .. } = self;
        file.flush().await.map_err(UploadError::Disk)?;
        media.check_space(&turn.owner, size)?;

        let _lock = media.blob_lock(hash).lock_owned().await;
        if media.shard().get(&BLOBS, media.domain(), &hash.0)?.is_none() {
            file.sync_all().await.map_err(UploadError::Disk)?;
            let folder = media.folder().clone();
            let placed = tokio::task::spawn_blocking(move || folder.place(&received.0, hash)).await;
            placed.expect("placing a file does not panic").map_err(UploadError::Disk)?;
        }
        let recorded = media.record(turn.owner.clone(), description, hash, size, now).await;
        if recorded.is_err() && media.shard().get(&BLOBS, media.domain(), &hash.0)?.is_none() {
            // The store refused, most likely for want of space: the bytes go again.
            media.folder().remove(hash).map_err(UploadError::Disk)?;
        }
        media.folder().settle(hash);
        let id = recorded?;
        let uri = format!("mxc://{}/{id}", media.server_name());
        Ok(OwnedMxcUri::from(uri))
    }
}

impl Media {
    fn check_space(&self, owner: &UserId, size: u64) -> Result<(), UploadError> {
        let max = self.config().account_bytes_max;
        let used = self.shard().get(&USAGE, self.domain(), owner.as_str())?.unwrap_or_default();
        let would_be = used.bytes.saturating_add(size);
        if would_be > max {
            return Err(UploadError::AccountFull { would_be, max });
        }
        Ok(())
    }

    /// Commits the metadata of a blob that is on disk: the id, one more reference, the owner's account.
    async fn record(
        &self,
        owner: OwnedUserId,
        description: Description,
        hash: ContentHash,
        size: u64,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<MediaId, UploadError> {
        let id = MediaId::random(&mut rand::rng());
        let Description { content_type, file_name } = description;
        let record = MediaRecord {
            owner: owner.to_string(),
            content_type: content_type.filter(|text| text.len() <= CONTENT_TYPE_LENGTH_MAX),
            file_name: file_name.map(cut_name).filter(|name| !name.is_empty()),
            created_ms: now.get().into(),
            size,
            hash: hash.0,
        };
        let (domain, key) = (self.domain(), id.as_str().to_owned());
        self.shard().ready().await;
        let commit = self.shard().submit(move |txn| {
            let mut blob = txn.get(&BLOBS, domain, &hash.0)?.unwrap_or(BlobRecord { size, references: 0 });
            blob.references += 1;
            let mut usage = txn.get(&USAGE, domain, owner.as_str())?.unwrap_or_default();
            usage.bytes = usage.bytes.saturating_add(size);
            usage.files += 1;
            txn.put(&MEDIA, domain, key.as_str(), &record);
            txn.put(&BLOBS, domain, &hash.0, &blob);
            txn.put(&USAGE, domain, owner.as_str(), &usage);
            Ok(())
        });
        commit.await?;
        Ok(id)
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
