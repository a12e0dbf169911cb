//! Where a blob lies and how it gets to hand: in the folder alone, or in a bucket with the folder as its cache.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{Media, folder::Folder, ids::ContentHash, ids::MediaId, tables::BLOBS};

/// How much later a file must be used again for that to be noted.
const USE_NOTED_AFTER: Duration = Duration::from_secs(60 * 60);

impl Media {
    /// The file of a blob, fetched from the bucket if it is not in the folder.
    pub(crate) async fn at_hand(&self, hash: ContentHash) -> io::Result<PathBuf> {
        let path = self.folder().content(hash);
        let Some(bucket) = self.bucket() else { return Ok(path) };
        if is_there(&path).await {
            return Ok(path);
        }
        let _lock = self.blob_lock(hash).lock_owned().await;
        if is_there(&path).await {
            return Ok(path);
        }
        let arriving = Arriving(self.folder().incoming(MediaId::random(&mut rand::rng()).as_str()));
        bucket.get(hash, &arriving.0).await?;
        let (folder, target) = (self.folder().clone(), path.clone());
        blocking(move || folder.shelve(&arriving.0, &target)).await?;
        Ok(path)
    }

    /// Puts a received file (whose data is synced) in its place, durably. To be called under the blob's lock; the blob
    /// stays marked.
    pub(crate) async fn place(&self, received: PathBuf, hash: ContentHash) -> io::Result<()> {
        let folder = self.folder().clone();
        if let Some(bucket) = self.bucket() {
            let marking = folder.clone();
            blocking(move || marking.mark(hash)).await?;
            bucket.put(&received, hash).await?;
        }
        blocking(move || folder.place(&received, hash)).await
    }

    /// Removes a blob that nothing refers to, wherever it lies. To be called under its lock.
    pub(crate) async fn remove_blob(&self, hash: ContentHash) -> io::Result<()> {
        if let Some(bucket) = self.bucket() {
            bucket.remove(hash).await?;
        }
        let folder = self.folder().clone();
        blocking(move || folder.remove(hash)).await
    }

    /// Finishes in the bucket what a crash interrupted: at the start the bucket cannot be asked.
    pub(crate) async fn settle_bucket(&self) -> io::Result<()> {
        if self.bucket().is_none() {
            return Ok(());
        }
        let folder = self.folder().clone();
        for hash in blocking(move || folder.unsettled()).await? {
            // Whoever is at work on it holds the lock until the mark is gone.
            let _lock = self.blob_lock(hash).lock_owned().await;
            let known = self.shard().get(&BLOBS, self.domain(), &hash.0).map_err(io::Error::other)?;
            if known.is_none() {
                self.remove_blob(hash).await?;
            }
            self.folder().settle(hash);
        }
        Ok(())
    }

    /// Takes files out of the folder that the bucket holds, those first that nobody used for longest, until the rest is
    /// as small as the settings say. Says how many went.
    pub(crate) async fn shrink_cache(&self) -> io::Result<usize> {
        let Some(bucket) = self.bucket() else { return Ok(0) };
        let folder = self.folder().clone();
        let mut files = blocking(move || folder.blobs()).await?;
        let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
        files.sort_unstable_by_key(|file| file.used);
        let mut removed = 0;
        for file in files {
            if bytes <= bucket.cache_bytes_max {
                break;
            }
            let _lock = self.blob_lock(file.hash).lock_owned().await;
            let folder = self.folder().clone();
            blocking(move || folder.drop_cached(file.hash)).await?;
            bytes -= file.bytes;
            removed += 1;
        }
        Ok(removed)
    }
}

/// A file on its way out of the bucket; removed if it does not arrive.
struct Arriving(PathBuf);

impl Drop for Arriving {
    fn drop(&mut self) {
        // In its place already, or thrown away at the next start at the latest.
        let _ = fs::remove_file(&self.0);
    }
}

/// A file in the folder.
pub(crate) struct Kept {
    pub(crate) hash: ContentHash,
    pub(crate) bytes: u64,
    pub(crate) used: SystemTime,
}

impl Folder {
    /// Moves what was fetched to where it is looked for.
    fn shelve(&self, fetched: &Path, target: &Path) -> io::Result<()> {
        fs::create_dir_all(target.parent().expect("a blob lies in a folder named by its first byte"))?;
        fs::rename(fetched, target)
    }

    /// Every blob here.
    fn blobs(&self) -> io::Result<Vec<Kept>> {
        let mut found = Vec::new();
        for shelf in fs::read_dir(self.content_root())? {
            let shelf = shelf?;
            let Some(first) = shelf.file_name().to_str().map(ToOwned::to_owned) else { continue };
            for file in fs::read_dir(shelf.path())? {
                let file = file?;
                let hash = file.file_name().to_str().and_then(|rest| ContentHash::from_hex(&format!("{first}{rest}")));
                let Some(hash) = hash else { continue };
                let about = file.metadata()?;
                found.push(Kept { hash, bytes: about.len(), used: about.modified()? });
            }
        }
        Ok(found)
    }

    /// Takes the file of a blob away, but not what was made from it.
    fn drop_cached(&self, hash: ContentHash) -> io::Result<()> {
        match fs::remove_file(self.content(hash)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Whether the file is there. If it is, that it is used is noted in its time of change.
async fn is_there(path: &Path) -> bool {
    let path = path.to_owned();
    let look = move || -> io::Result<()> {
        let changed = fs::metadata(&path)?.modified()?;
        let now = SystemTime::now();
        if now.duration_since(changed).is_ok_and(|ago| ago > USE_NOTED_AFTER) {
            File::options().append(true).open(&path)?.set_modified(now)?;
        }
        Ok(())
    };
    blocking(look).await.is_ok()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.expect("work on files does not panic")
}
