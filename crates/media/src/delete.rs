//! Deleting media. The bytes go when the last id that names them goes.

use std::io;

use koine_store::{CommitError, StoreError};
use thiserror::Error;

use crate::{
    Media,
    ids::MediaId,
    tables::{BLOBS, MEDIA, USAGE},
};

/// Why media could not be deleted.
#[derive(Debug, Error)]
pub enum DeleteError {
    /// Our disk. The id is gone already or still there; ask again.
    #[error("the content cannot be removed from the media folder: {0}")]
    Disk(#[source] io::Error),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Media {
    /// Deletes one id. `false` if there was none. Goes on to the end when the caller goes away.
    pub async fn delete(&self, id: &MediaId) -> Result<bool, DeleteError> {
        let (media, id) = (self.clone(), id.clone());
        tokio::spawn(async move { media.delete_to_the_end(&id).await }).await.expect("deleting media does not panic")
    }

    async fn delete_to_the_end(&self, id: &MediaId) -> Result<bool, DeleteError> {
        let domain = self.domain();
        let Some(record) = self.shard().get(&MEDIA, domain, id.as_str())? else { return Ok(false) };
        let hash = record.hash();
        let _lock = self.blob_lock(hash).lock_owned().await;

        let folder = self.folder().clone();
        let marked = tokio::task::spawn_blocking(move || folder.mark(hash)).await;
        marked.expect("marking a blob does not panic").map_err(DeleteError::Disk)?;

        let key = id.as_str().to_owned();
        self.shard().ready().await;
        let commit = self.shard().submit(move |txn| {
            // Somebody else may have deleted the same id since it was read above.
            let Some(record) = txn.get(&MEDIA, domain, key.as_str())? else { return Ok(()) };
            txn.delete(&MEDIA, domain, key.as_str());
            if let Some(mut usage) = txn.get(&USAGE, domain, record.owner.as_str())? {
                usage.bytes = usage.bytes.saturating_sub(record.size);
                usage.files = usage.files.saturating_sub(1);
                txn.put(&USAGE, domain, record.owner.as_str(), &usage);
            }
            if let Some(mut blob) = txn.get(&BLOBS, domain, &hash.0)? {
                blob.references = blob.references.saturating_sub(1);
                if blob.references == 0 {
                    txn.delete(&BLOBS, domain, &hash.0);
                } else {
                    txn.put(&BLOBS, domain, &hash.0, &blob);
                }
            }
            Ok(())
        });
        commit.await?;

        let is_last = self.shard().get(&BLOBS, domain, &hash.0)?.is_none();
        let folder = self.folder().clone();
        let removed = tokio::task::spawn_blocking(move || {
            if is_last {
                folder.remove(hash)?;
            }
            folder.settle(hash);
            Ok(())
        });
        removed.await.expect("removing a file does not panic").map_err(DeleteError::Disk)?;
        Ok(true)
    }
}
