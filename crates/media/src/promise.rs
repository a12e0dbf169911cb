//! Addresses that are given out before their content arrives, so that a message can be sent while the file still is.
//!
//! [CS-API §post_matrixmediav1create] A promise is kept for a day; an account has at most [`PROMISES_MAX`] of them open.
//! Whoever asks for the content meanwhile may wait for it.

use std::time::Duration;

use koine_store::{Direction, DomainId, StoreError, Txn};
use parking_lot::Mutex;
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedMxcUri, UserId};
use std::sync::Arc;

use crate::{
    Media,
    download::{Item, ReadError},
    ids::MediaId,
    tables::{MEDIA, PROMISE, PROMISED_TO, PromiseRecord},
    upload::{Upload, UploadError},
};

/// Addresses of one account that may wait for their content at the same time.
pub const PROMISES_MAX: usize = 50;

/// How long an address waits. [CS-API §post_matrixmediav1create] recommends a day.
pub const PROMISE_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// An address without content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// The address.
    pub uri: OwnedMxcUri,
    /// Until when the upload has to be complete.
    pub until: MilliSecondsSinceUnixEpoch,
}

/// What stands at an address of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A file.
    Item(Item),
    /// Nothing yet.
    Promised,
    /// Nothing.
    Nothing,
}

impl Media {
    /// Promises an address to an account.
    pub async fn promise(&self, owner: &UserId, now: MilliSecondsSinceUnixEpoch) -> Result<Promise, UploadError> {
        let now_ms = u64::from(now.get());
        let until_ms = now_ms.saturating_add(PROMISE_LIFETIME.as_millis() as u64);
        let id = MediaId::random(&mut rand::rng());
        let uri = self.address(&id);
        let (domain, owner) = (self.domain(), owner.to_string());
        let full = Arc::new(Mutex::new(false));
        let is_full = full.clone();
        let commit = self.shard().submit(move |txn| {
            let mut open = 0;
            for ((_, other), until) in txn.scan(&PROMISED_TO, domain, koine_store::KeyRange::prefix(&(&*owner,)))? {
                if until <= now_ms {
                    txn.delete(&PROMISED_TO, domain, &(&*owner, &*other));
                    txn.delete(&PROMISE, domain, other.as_str());
                } else {
                    open += 1;
                }
            }
            if open >= PROMISES_MAX {
                *is_full.lock() = true;
                return Ok(());
            }
            txn.put(&PROMISED_TO, domain, &(&*owner, id.as_str()), &until_ms);
            txn.put(&PROMISE, domain, id.as_str(), &PromiseRecord { owner, until_ms });
            Ok(())
        });
        commit.await?;
        let full = *full.lock();
        if full {
            return Err(UploadError::TooManyPromises);
        }
        Ok(Promise { uri, until: MilliSecondsSinceUnixEpoch(until_ms.try_into().unwrap_or_default()) })
    }

    /// Begins to receive the content of an address that was promised.
    pub async fn begin_promised_upload(
        &self,
        owner: &UserId,
        media_id: &str,
        announced: Option<u64>,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<Upload, UploadError> {
        let id = MediaId::parse(media_id).ok_or(UploadError::NotPromised)?;
        let view = self.shard().view();
        let promise = view.get(&PROMISE, self.domain(), id.as_str())?;
        let is_there = view.contains(&MEDIA, self.domain(), id.as_str())?;
        judge(promise.as_ref(), is_there, owner.as_str(), now.get().into())?;
        self.begin(owner, announced, Some(id)).await
    }

    /// What stands at an address of this server, without waiting.
    pub fn look(&self, media_id: &str, now: MilliSecondsSinceUnixEpoch) -> Result<Found, ReadError> {
        if let Some(item) = self.find(self.server_name(), media_id)? {
            return Ok(Found::Item(item));
        }
        let Some(id) = MediaId::parse(media_id) else { return Ok(Found::Nothing) };
        let promise = self.shard().get(&PROMISE, self.domain(), id.as_str())?;
        Ok(match promise.is_some_and(|promise| promise.until_ms > u64::from(now.get())) {
            true => Found::Promised,
            false => Found::Nothing,
        })
    }

    /// The same; of what is promised, waits for the content for so long.
    pub async fn await_content(
        &self,
        media_id: &str,
        now: MilliSecondsSinceUnixEpoch,
        patience: Duration,
    ) -> Result<Found, ReadError> {
        let mut arrivals = self.arrivals();
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let found = self.look(media_id, now)?;
            if found != Found::Promised {
                return Ok(found);
            }
            match tokio::time::timeout_at(deadline, arrivals.changed()).await {
                Ok(Ok(())) => {}
                // Time is up, or nothing will arrive any more.
                _ => return Ok(found),
            }
        }
    }
}

/// Takes a promise back because its content is there.
pub(crate) fn redeem(
    txn: &mut Txn,
    domain: DomainId,
    id: &MediaId,
    owner: &str,
    now_ms: u64,
) -> Result<Result<(), UploadError>, StoreError> {
    let promise = txn.get(&PROMISE, domain, id.as_str())?;
    let is_there = txn.get(&MEDIA, domain, id.as_str())?.is_some();
    if let Err(refusal) = judge(promise.as_ref(), is_there, owner, now_ms) {
        return Ok(Err(refusal));
    }
    txn.delete(&PROMISE, domain, id.as_str());
    txn.delete(&PROMISED_TO, domain, &(owner, id.as_str()));
    Ok(Ok(()))
}

/// [CS-API §put_matrixmediav3uploadservernamemediaid]
fn judge(promise: Option<&PromiseRecord>, is_there: bool, owner: &str, now_ms: u64) -> Result<(), UploadError> {
    match promise {
        _ if is_there => Err(UploadError::AlreadyThere),
        Some(promise) if promise.until_ms <= now_ms => Err(UploadError::NotPromised),
        Some(promise) if promise.owner != owner => Err(UploadError::PromisedToOthers),
        Some(_) => Ok(()),
        None => Err(UploadError::NotPromised),
    }
}

impl Media {
    /// Deletes promises whose time is over, some at a time. Says how many went.
    pub async fn forget_promises(&self, now: MilliSecondsSinceUnixEpoch) -> Result<usize, UploadError> {
        /// Rows that one command deletes.
        const AT_ONCE: usize = 1_000;
        let (domain, now_ms) = (self.domain(), u64::from(now.get()));
        let mut over = Vec::new();
        for row in self.shard().view().scan(&PROMISE, domain, .., Direction::Forward) {
            let (id, promise) = row?;
            if promise.until_ms <= now_ms && over.len() < AT_ONCE {
                over.push((promise.owner, id));
            }
        }
        let count = over.len();
        let commit = self.shard().submit(move |txn| {
            for (owner, id) in over {
                txn.delete(&PROMISE, domain, id.as_str());
                txn.delete(&PROMISED_TO, domain, &(owner, id));
            }
        });
        commit.await?;
        Ok(count)
    }
}
