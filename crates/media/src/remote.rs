//! Files of other servers: fetched when somebody of ours asks, and kept for a while.
//!
//! Who reaches other servers implements [`Origin`]; media know no protocol. A file is fetched once however many ask at the
//! same time, is received like an upload (bounded, hashed, durable before it is known), and goes when nobody asked for it
//! for [`crate::Config::remote_days`], or when all of them together are more than
//! [`crate::Config::remote_cache_bytes_max`]: then those that were not asked for longest go first.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use koine_store::{Direction, StoreError, Txn};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use thiserror::Error;

use crate::{
    DeleteError, Description, Media, Receiving, UploadError,
    download::Item,
    ids::MediaId,
    queue::{WAITING_MAX, Waiting},
    receive,
    tables::{REMOTE, REMOTE_USED, RemoteRecord, USAGE},
};

/// Files that are fetched at the same time.
pub const FETCHES_AT_ONCE_MAX: usize = 32;

/// The row of [`USAGE`] for what belongs to other servers: no account has this name.
const EVERYBODY_ELSE: &str = "";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Files that one round of cleaning deletes.
const CLEANED_AT_ONCE: usize = 1_000;

/// A fetch under way.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Description, FetchError>> + Send + 'a>>;

/// Other servers' media.
pub trait Origin: Send + Sync + 'static {
    /// Writes the content at an address of `server` into `into`, and says what the server says of it. `patience` is how
    /// long the server may wait for an upload that is not there yet.
    fn fetch<'a>(
        &'a self,
        server: &'a ServerName,
        media_id: &'a MediaId,
        patience: Duration,
        into: &'a mut Receiving,
    ) -> Fetching<'a>;
}

/// Why a file of another server cannot be had.
#[derive(Debug, Error)]
pub enum FetchError {
    /// There is no such file, says its server; or nobody reaches other servers.
    #[error("its server has no such file")]
    NotFound,
    /// Its server still waits for the content.
    #[error("its server still waits for the content")]
    NotYetUploaded,
    /// Its server cannot be asked, or its answer makes no sense.
    #[error("its server did not hand it out: {0}")]
    Unreachable(String),
    /// [`WAITING_MAX`] requests wait already, or too many of them for that server.
    #[error("too many requests wait for files of that server already, or {WAITING_MAX} for those of all")]
    Busy,
    /// It cannot be kept here: too large, or a disk that is full.
    #[error(transparent)]
    Keep(#[from] UploadError),
}

type Address = (OwnedServerName, MediaId);

impl Media {
    /// Says who reaches other servers. Once; before that, there are none.
    pub fn set_origin(&self, origin: Arc<dyn Origin>) {
        // A second one would be a mistake in wiring the program: the first stays.
        let _ = self.origin().set(origin);
    }

    /// A file of another server that was fetched before.
    pub fn cached(
        &self,
        server: &ServerName,
        media_id: &str,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<Option<Item>, StoreError> {
        let Some(id) = MediaId::parse(media_id) else { return Ok(None) };
        let record = self.shard().get(&REMOTE, self.domain(), &(server.as_str(), id.as_str()))?;
        Ok(record.map(|record| {
            self.note_use(server, &id, &record, day(now));
            record.into_item(id)
        }))
    }

    /// Pictures of previews are files of other servers under an address of ours, so that they go when nobody wants them.
    pub(crate) fn picture_of_preview(&self, id: MediaId) -> Result<Option<Item>, StoreError> {
        let record = self.shard().get(&REMOTE, self.domain(), &(self.server_name().as_str(), id.as_str()))?;
        Ok(record.map(|record| record.into_item(id)))
    }

    /// A file of another server, fetched if need be. It is fetched to its end even if the caller goes away.
    pub async fn fetch(
        &self,
        server: &ServerName,
        media_id: &str,
        now: MilliSecondsSinceUnixEpoch,
        patience: Duration,
    ) -> Result<Item, FetchError> {
        if let Some(item) = self.cached(server, media_id, now).map_err(UploadError::from)? {
            return Ok(item);
        }
        let id = MediaId::parse(media_id).ok_or(FetchError::NotFound)?;
        let waiting = self.fetches().enter(server.as_str()).ok_or(FetchError::Busy)?;
        let (media, address) = (self.clone(), (server.to_owned(), id));
        let fetched = tokio::spawn(async move { media.fetch_to_the_end(address, now, patience, &waiting).await });
        fetched.await.unwrap_or_else(|panic| Err(FetchError::Unreachable(panic.to_string())))
    }

    async fn fetch_to_the_end(
        self,
        (server, id): Address,
        now: MilliSecondsSinceUnixEpoch,
        patience: Duration,
        waiting: &Waiting,
    ) -> Result<Item, FetchError> {
        let _alone = self.fetches().alone(format!("{server}/{id}")).await;
        if let Some(item) = self.cached(&server, id.as_str(), now).map_err(UploadError::from)? {
            return Ok(item);
        }
        let _place = waiting.place().await;
        let origin = self.origin().get().cloned().ok_or(FetchError::NotFound)?;
        let mut receiving = self.receive(self.config().remote_bytes_max).await?;
        let said = origin.fetch(&server, &id, patience, &mut receiving).await?;
        let item = self.keep_remote(receiving, said, (server, id), now).await?;
        if let Err(error) = self.clean(now).await {
            tracing::warn!(reason = %error, "files of other servers could not be removed, though they take too much space");
        }
        Ok(item)
    }

    pub(crate) async fn keep_remote(
        &self,
        receiving: Receiving,
        said: Description,
        (server, id): Address,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<Item, UploadError> {
        let Description { content_type, file_name } = said.bounded();
        let (domain, created_ms, used_day) = (self.domain(), u64::from(now.get()), day(now));
        let kept = receiving.keep(move |txn, hash, size| {
            let record = RemoteRecord { content_type, file_name, created_ms, size, hash: hash.0, used_day };
            let key = (server.as_str(), id.as_str());
            txn.put(&REMOTE, domain, &key, &record);
            txn.put(&REMOTE_USED, domain, &(used_day, key.0, key.1), &());
            let mut usage = txn.get(&USAGE, domain, EVERYBODY_ELSE)?.unwrap_or_default();
            usage.bytes = usage.bytes.saturating_add(size);
            usage.files += 1;
            txn.put(&USAGE, domain, EVERYBODY_ELSE, &usage);
            Ok(Ok(record.into_item(id)))
        });
        kept.await
    }

    /// Once a day for each file. Nobody waits for it.
    fn note_use(&self, server: &ServerName, id: &MediaId, record: &RemoteRecord, today: u32) {
        if record.used_day >= today {
            return;
        }
        let (domain, server, id) = (self.domain(), server.to_owned(), id.clone());
        drop(self.shard().submit(move |txn| {
            let key = (server.as_str(), id.as_str());
            let Some(mut record) = txn.get(&REMOTE, domain, &key)? else { return Ok(()) };
            txn.delete(&REMOTE_USED, domain, &(record.used_day, key.0, key.1));
            record.used_day = today;
            txn.put(&REMOTE, domain, &key, &record);
            txn.put(&REMOTE_USED, domain, &(today, key.0, key.1), &());
            Ok(())
        }));
    }

    /// Removes files of other servers that nobody asked for lately, and more if they take too much space. Says how many
    /// went; a round removes at most a thousand.
    pub async fn clean(&self, now: MilliSecondsSinceUnixEpoch) -> Result<usize, DeleteError> {
        self.settle_bucket().await.map_err(DeleteError::Disk)?;
        let oldest_kept = day(now).saturating_sub(self.config().remote_days);
        let mut removed = 0;
        while removed < CLEANED_AT_ONCE {
            let used = self.shard().get(&USAGE, self.domain(), EVERYBODY_ELSE)?.unwrap_or_default();
            let view = self.shard().view();
            let Some(oldest) = view.scan(&REMOTE_USED, self.domain(), .., Direction::Forward).next() else { break };
            let ((used_day, server, id), ()) = oldest?;
            if used_day >= oldest_kept && used.bytes <= self.config().remote_cache_bytes_max {
                break;
            }
            self.remove_remote(used_day, server, id).await?;
            removed += 1;
        }
        self.shrink_cache().await.map_err(DeleteError::Disk)?;
        Ok(removed)
    }

    async fn remove_remote(&self, used_day: u32, server: String, id: String) -> Result<(), DeleteError> {
        let domain = self.domain();
        let key = (server, id);
        let Some(record) = self.shard().get(&REMOTE, domain, &key)? else {
            let commit =
                self.shard().submit(move |txn| txn.delete(&REMOTE_USED, domain, &(used_day, &*key.0, &*key.1)));
            commit.await?;
            return Ok(());
        };
        let hash = record.hash();
        let forget = move |txn: &mut Txn| {
            txn.delete(&REMOTE_USED, domain, &(used_day, &*key.0, &*key.1));
            // Used again meanwhile, or gone already.
            let record = txn.get(&REMOTE, domain, &key)?.filter(|record| record.used_day == used_day);
            let Some(record) = record else { return Ok(()) };
            txn.delete(&REMOTE, domain, &key);
            let mut usage = txn.get(&USAGE, domain, EVERYBODY_ELSE)?.unwrap_or_default();
            usage.bytes = usage.bytes.saturating_sub(record.size);
            usage.files = usage.files.saturating_sub(1);
            txn.put(&USAGE, domain, EVERYBODY_ELSE, &usage);
            receive::release(txn, domain, hash)
        };
        self.let_go(hash, forget).await
    }
}

fn day(now: MilliSecondsSinceUnixEpoch) -> u32 {
    u32::try_from(u64::from(now.get()) / DAY_MS).unwrap_or(u32::MAX)
}
