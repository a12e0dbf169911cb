//! What is kept about media. Nobody else reads or writes these tables.
//!
//! Invariant: for each blob, `references` is the number of records with its hash, of our media and of other servers'
//! together; a blob without references has no record. An id that is promised before its content arrives is a promise
//! until then, and a media record afterwards, never both.

use koine_store::{Space, Table, TableInfo, stored};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::{
    download::Item,
    ids::{ContentHash, MediaId},
};

/// By media id.
pub(crate) const MEDIA: Table<String, MediaRecord> = Table::new("media", Space::Media, 1);

/// By SHA-256.
pub(crate) const BLOBS: Table<[u8; 32], BlobRecord> = Table::new("blobs", Space::Media, 2);

/// By user: what the account keeps here.
pub(crate) const USAGE: Table<String, Usage> = Table::new("media_usage", Space::Media, 3);

/// By server name and media id: files of other servers.
pub(crate) const REMOTE: Table<(String, String), RemoteRecord> = Table::new("remote_media", Space::Media, 4);

/// By the day somebody last asked for it, counted from 1970: (day, server name, media id).
pub(crate) const REMOTE_USED: Table<(u32, String, String), ()> = Table::new("remote_media_used", Space::Media, 5);

/// By media id: addresses that wait for their content.
pub(crate) const PROMISE: Table<String, PromiseRecord> = Table::new("media_promise", Space::Media, 6);

/// By user and media id: until when, in milliseconds since 1970.
pub(crate) const PROMISED_TO: Table<(String, String), u64> = Table::new("media_promised_to", Space::Media, 7);

/// By the SHA-256 of an address: what its page says of itself.
pub(crate) const PREVIEW: Table<[u8; 32], PreviewRecord> = Table::new("page_preview", Space::Media, 8);

/// All of them, for the test that no two tables of the server share rows.
pub const ALL: &[TableInfo] = &[
    MEDIA.info(),
    BLOBS.info(),
    USAGE.info(),
    REMOTE.info(),
    REMOTE_USED.info(),
    PROMISE.info(),
    PROMISED_TO.info(),
    PREVIEW.info(),
];

/// One piece of media.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MediaRecord {
    pub(crate) owner: String,
    pub(crate) content_type: Option<String>,
    pub(crate) file_name: Option<String>,
    pub(crate) created_ms: u64,
    pub(crate) size: u64,
    pub(crate) hash: [u8; 32],
}

/// One blob on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BlobRecord {
    pub(crate) size: u64,
    pub(crate) references: u64,
}

/// The sum of an account's uploads. Bytes that several ids share count once for each id.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

/// One file of another server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RemoteRecord {
    pub(crate) content_type: Option<String>,
    pub(crate) file_name: Option<String>,
    pub(crate) created_ms: u64,
    pub(crate) size: u64,
    pub(crate) hash: [u8; 32],
    pub(crate) used_day: u32,
}

/// An address that waits for its content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PromiseRecord {
    pub(crate) owner: String,
    pub(crate) until_ms: u64,
}

/// What a page says of itself, or that there is nothing to say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PreviewRecord {
    pub(crate) fetched_ms: u64,
    /// JSON of the answer; empty if the page could not be had.
    pub(crate) json: String,
    /// The media id of the picture, which goes with the preview.
    pub(crate) picture: Option<String>,
}

stored!(MediaRecord, BlobRecord, Usage, RemoteRecord, PromiseRecord, PreviewRecord);

impl RemoteRecord {
    pub(crate) fn hash(&self) -> ContentHash {
        ContentHash(self.hash)
    }

    pub(crate) fn into_item(self, id: MediaId) -> Item {
        Item {
            id,
            owner: None,
            content_type: self.content_type,
            file_name: self.file_name,
            created: MilliSecondsSinceUnixEpoch(self.created_ms.try_into().unwrap_or_default()),
            size: self.size,
            hash: ContentHash(self.hash),
        }
    }
}

impl MediaRecord {
    pub(crate) fn hash(&self) -> ContentHash {
        ContentHash(self.hash)
    }

    /// `None` if the owner is no user id or the time none that JSON can hold: not one of our records.
    pub(crate) fn into_item(self, id: MediaId) -> Option<Item> {
        Some(Item {
            id,
            owner: Some(OwnedUserId::try_from(self.owner).ok()?),
            content_type: self.content_type,
            file_name: self.file_name,
            created: MilliSecondsSinceUnixEpoch(self.created_ms.try_into().ok()?),
            size: self.size,
            hash: ContentHash(self.hash),
        })
    }
}
