//! Deleting media. The bytes go when the last id that names them goes.

use std::io;

use koine_store::{CommitError, StoreError, Txn};
use thiserror::Error;

use crate::{
    Media,
    ids::{ContentHash, MediaId},
    receive,
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
        let (hash, key) = (record.hash(), id.as_str().to_owned());
        let forget = move |txn: &mut Txn| {
            // Somebody else may have deleted the same id since it was read above.
            let Some(record) = txn.get(&MEDIA, domain, key.as_str())? else { return Ok(()) };
            txn.delete(&MEDIA, domain, key.as_str());
            if let Some(mut usage) = txn.get(&USAGE, domain, record.owner.as_str())? {
                usage.bytes = usage.bytes.saturating_sub(record.size);
                usage.files = usage.files.saturating_sub(1);
                txn.put(&USAGE, domain, record.owner.as_str(), &usage);
            }
            receive::release(txn, domain, hash)
        };
        self.let_go(hash, forget).await?;
        Ok(true)
    }

    /// Has `forget` take references from a blob, and removes the bytes if nothing refers to them any more. To be run to
    /// its end.
    pub(crate) async fn let_go(
        &self,
        hash: ContentHash,
        forget: impl FnOnce(&mut Txn) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), DeleteError> {
        let _lock = self.blob_lock(hash).lock_owned().await;
        let folder = self.folder().clone();
        let marked = tokio::task::spawn_blocking(move || folder.mark(hash)).await;
        marked.expect("marking a blob does not panic").map_err(DeleteError::Disk)?;

        self.shard().ready().await;
        self.shard().submit(forget).await?;

        let is_last = self.shard().get(&BLOBS, self.domain(), &hash.0)?.is_none();
        if is_last {
            self.remove_blob(hash).await.map_err(DeleteError::Disk)?;
        }
        self.folder().settle(hash);
        Ok(())
    }
}
