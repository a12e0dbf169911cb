//! Receiving a file of an account: who may send how much, and the address that it gets.

use std::io;

use koine_store::{CommitError, StoreError};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedMxcUri, OwnedUserId, UserId};
use thiserror::Error;

use crate::{
    Media,
    ids::MediaId,
    promise,
    receive::Receiving,
    tables::{MEDIA, MediaRecord, USAGE},
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
    /// The address was promised to nobody, or not in time.
    #[error("no file is awaited at this address, or no longer")]
    NotPromised,
    /// The address was promised to somebody else.
    #[error("this address was promised to somebody else")]
    PromisedToOthers,
    /// There is content at the address already.
    #[error("there is a file at this address already")]
    AlreadyThere,
    /// The account has [`crate::PROMISES_MAX`] addresses that wait for their content.
    #[error("{} of your addresses wait for their content already", crate::PROMISES_MAX)]
    TooManyPromises,
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

/// A file that an account is sending. Dropped before [`Upload::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    turn: Turn,
    receiving: Receiving,
    /// The address that was promised to it.
    promised: Option<MediaId>,
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
        self.begin(owner, announced, None).await
    }

    pub(crate) async fn begin(
        &self,
        owner: &UserId,
        announced: Option<u64>,
        promised: Option<MediaId>,
    ) -> Result<Upload, UploadError> {
        let max = self.config().upload_bytes_max;
        if announced.is_some_and(|length| length > max) {
            return Err(UploadError::TooLarge { max });
        }
        self.check_space(owner, announced.unwrap_or(0))?;
        let turn = Turn::take(self, owner)?;
        Ok(Upload { turn, receiving: self.receive(max).await?, promised })
    }
}

impl Upload {
    /// Takes the next piece. Memory in use is the piece and a small buffer. After an error the upload is over.
    pub async fn write(&mut self, piece: &[u8]) -> Result<(), UploadError> {
        self.receiving.write(piece).await
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
        self,
        description: Description,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<OwnedMxcUri, UploadError> {
        let Self { turn, receiving, promised } = self;
        let media = turn.media.clone();
        media.check_space(&turn.owner, receiving.size())?;
        let id = promised.clone().unwrap_or_else(|| MediaId::random(&mut rand::rng()));
        let uri = media.address(&id);
        let Description { content_type, file_name } = description.bounded();
        let (domain, owner, created_ms) = (media.domain(), turn.owner.to_string(), now.get().into());
        let is_promised = promised.is_some();
        let kept = receiving.keep(move |txn, hash, size| {
            if is_promised && let Err(refusal) = promise::redeem(txn, domain, &id, &owner, created_ms)? {
                return Ok(Err(refusal));
            }
            let mut usage = txn.get(&USAGE, domain, owner.as_str())?.unwrap_or_default();
            usage.bytes = usage.bytes.saturating_add(size);
            usage.files += 1;
            txn.put(&USAGE, domain, owner.as_str(), &usage);
            let record = MediaRecord { owner, content_type, file_name, created_ms, size, hash: hash.0 };
            txn.put(&MEDIA, domain, id.as_str(), &record);
            Ok(Ok(()))
        });
        kept.await?;
        media.arrived();
        Ok(uri)
    }
}

impl Media {
    /// `mxc://` and so on.
    pub(crate) fn address(&self, id: &MediaId) -> OwnedMxcUri {
        OwnedMxcUri::from(format!("mxc://{}/{id}", self.server_name()))
    }

    fn check_space(&self, owner: &UserId, size: u64) -> Result<(), UploadError> {
        let max = self.config().account_bytes_max;
        let used = self.shard().get(&USAGE, self.domain(), owner.as_str())?.unwrap_or_default();
        let would_be = used.bytes.saturating_add(size);
        if would_be > max {
            return Err(UploadError::AccountFull { would_be, max });
        }
        Ok(())
    }
}
