//! Media: files that people upload, and pictures made smaller.
//!
//! Specified in [CS-API §content-repository]; neutral about the protocol, so that an XMPP upload and a Matrix one are the
//! same. A file is a blob named by its SHA-256; ids point to blobs, and the same bytes uploaded twice are one blob.
//!
//! **Is:** receiving, keeping, finding, scaling and deleting the files of one domain; a cache of other servers' files,
//! which an [`Origin`] fetches; previews of web pages.
//! **Is not:** HTTP as it is served (headers and what is safe to show inline belong to the protocol crates), and how other
//! servers are asked.
//!
//! Limits: a file has at most [`Config::upload_bytes_max`] bytes, an account [`Config::account_bytes_max`]; memory in use
//! is a buffer for each transfer and at most [`Config::thumbnail_pixels_max`] decoded pixels for all thumbnails together.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use koine_net::Client;
use koine_store::{DomainId, Shard, StoreError};
use ruma_common::{OwnedServerName, OwnedUserId, ServerName};
use thiserror::Error;
use tokio::sync::{Mutex, watch};

mod bucket;
mod config;
mod delete;
mod download;
mod folder;
mod ids;
mod preview;
mod promise;
mod queue;
mod receive;
mod remote;
mod shelf;
mod tables;
mod thumbnail;
mod upload;

pub use config::{BucketConfig, Config};
pub use delete::DeleteError;
pub use download::{Content, Item, ReadError};
pub use ids::{ContentHash, MEDIA_ID_LENGTH_MAX, MediaId};
pub use preview::{PreviewError, Previews};
pub use promise::{Found, PROMISE_LIFETIME, PROMISES_MAX, Promise};
pub use queue::WAITING_MAX;
pub use receive::Receiving;
pub use remote::{FETCHES_AT_ONCE_MAX, FetchError, Fetching, Origin};
pub use tables::ALL as TABLES;
pub use thumbnail::{
    Method, Spec, THUMBNAIL_SOURCE_BYTES_MAX, THUMBNAILS_KEPT_MAX, THUMBNAILS_WAITING_MAX, Thumbnail, ThumbnailBody,
    ThumbnailError, thumbnail_of_file,
};
pub use upload::{
    CONTENT_TYPE_LENGTH_MAX, Description, FILE_NAME_LENGTH_MAX, UPLOADS_AT_ONCE_MAX, Upload, UploadError,
};

use bucket::Bucket;
use folder::Folder;
use queue::Queue;
use tables::BLOBS;
use thumbnail::Workshop;

/// Blobs share this many locks, told apart by the first byte of the hash.
const LOCKS: usize = 64;

/// The media of one domain. Cloning is cheap; all clones are the same.
#[derive(Clone)]
pub struct Media {
    inner: Arc<Inner>,
}

struct Inner {
    shard: Shard,
    domain: DomainId,
    server_name: OwnedServerName,
    folder: Folder,
    /// Where every blob is, if not in the folder.
    bucket: Option<Arc<Bucket>>,
    config: Config,
    workshop: Workshop,
    /// How many files each account is sending just now. Accounts that send none are not in it.
    receiving: parking_lot::Mutex<HashMap<OwnedUserId, usize>>,
    /// Moves on whenever a file has arrived.
    arrivals: watch::Sender<u64>,
    /// Who reaches other servers, and what is being fetched.
    origin: OnceLock<Arc<dyn Origin>>,
    fetches: Queue,
    /// Held from looking whether a blob is known until disk and metadata agree about it.
    blob_locks: Vec<Arc<Mutex<()>>>,
    /// Held while a thumbnail of the blob is made, so that it is made once. Taken before a blob lock, never after.
    thumbnail_locks: Vec<Arc<Mutex<()>>>,
}

/// Whose media, and where.
#[derive(Debug, Clone)]
pub struct Place {
    /// The tenant.
    pub domain: DomainId,
    /// Its name in addresses: `mxc://<server_name>/<media_id>`.
    pub server_name: OwnedServerName,
    /// The folder for the media of all domains of this process; each has one of its own inside.
    pub folder: PathBuf,
}

/// Why the media of a domain cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder cannot be created or written.
    #[error(
        "the media folder {folder} cannot be used: {source}; check that it is there and that the server may write to it"
    )]
    Folder {
        /// Which one.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The settings of the bucket make no sense.
    #[error("the bucket for media cannot be used: {0}; look at [media.bucket] in the settings")]
    Bucket(#[source] io::Error),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Media {
    /// Opens the media of a domain and clears away what a crash left. Blocks.
    pub fn open(shard: Shard, place: Place, config: Config) -> Result<Self, OpenError> {
        Self::open_with(shard, place, config, None)
    }

    /// The same with a client to reach the bucket with, if the settings name one.
    pub fn open_with(shard: Shard, place: Place, config: Config, client: Option<Client>) -> Result<Self, OpenError> {
        let Place { domain, server_name, folder: root } = place;
        let root = root.join(domain.0.to_string());
        let refuse = |source| OpenError::Folder { folder: root.clone(), source };
        let folder = Folder::open(root.clone()).map_err(refuse)?;
        let bucket = bucket::named(&config.bucket, domain.0, client).map_err(OpenError::Bucket)?;
        // What the bucket has to be asked for waits until it can be, see [`Media::clean`].
        let unsettled = if bucket.is_none() { folder.unsettled().map_err(refuse)? } else { Vec::new() };
        for hash in unsettled {
            if shard.get(&BLOBS, domain, &hash.0)?.is_none() {
                folder.remove(hash).map_err(refuse)?;
            }
            folder.settle(hash);
        }
        let locks = || (0..LOCKS).map(|_| Arc::default()).collect();
        let workshop = Workshop::new(config.thumbnail_pixels_max);
        let (blob_locks, thumbnail_locks) = (locks(), locks());
        let receiving = parking_lot::Mutex::default();
        let inner = Inner {
            shard,
            domain,
            server_name,
            folder,
            bucket,
            config,
            workshop,
            receiving,
            arrivals: watch::Sender::new(0),
            origin: OnceLock::new(),
            fetches: Queue::new(FETCHES_AT_ONCE_MAX),
            blob_locks,
            thumbnail_locks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The name in our addresses.
    pub fn server_name(&self) -> &ServerName {
        &self.inner.server_name
    }

    fn shard(&self) -> &Shard {
        &self.inner.shard
    }

    fn domain(&self) -> DomainId {
        self.inner.domain
    }

    fn folder(&self) -> &Folder {
        &self.inner.folder
    }

    fn bucket(&self) -> Option<&Bucket> {
        self.inner.bucket.as_deref()
    }

    fn workshop(&self) -> &Workshop {
        &self.inner.workshop
    }

    fn receiving(&self) -> &parking_lot::Mutex<HashMap<OwnedUserId, usize>> {
        &self.inner.receiving
    }

    fn arrived(&self) {
        self.inner.arrivals.send_modify(|arrivals| *arrivals += 1);
    }

    fn arrivals(&self) -> watch::Receiver<u64> {
        self.inner.arrivals.subscribe()
    }

    fn origin(&self) -> &OnceLock<Arc<dyn Origin>> {
        &self.inner.origin
    }

    fn fetches(&self) -> &Queue {
        &self.inner.fetches
    }

    fn blob_lock(&self, hash: ContentHash) -> Arc<Mutex<()>> {
        Arc::clone(&self.inner.blob_locks[usize::from(hash.0[0]) % LOCKS])
    }

    fn thumbnail_lock(&self, hash: ContentHash) -> Arc<Mutex<()>> {
        Arc::clone(&self.inner.thumbnail_locks[usize::from(hash.0[0]) % LOCKS])
    }
}

impl std::fmt::Debug for Media {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Media").field("server_name", &self.inner.server_name).finish_non_exhaustive()
    }
}
