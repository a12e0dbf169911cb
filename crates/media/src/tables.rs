//! What is kept about media. Nobody else reads or writes these tables.
//!
//! Invariant: for each blob, `references` is the number of media records with its hash; a blob without references has no
//! record. An id that is promised before its content arrives will be a media record without a blob.

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

/// All of them, for the test that no two tables of the server share rows.
pub const ALL: &[TableInfo] = &[MEDIA.info(), BLOBS.info(), USAGE.info()];

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

stored!(MediaRecord, BlobRecord, Usage);

impl MediaRecord {
    pub(crate) fn hash(&self) -> ContentHash {
        ContentHash(self.hash)
    }

    /// `None` if the owner is no user id or the time none that JSON can hold: not one of our records.
    pub(crate) fn into_item(self, id: MediaId) -> Option<Item> {
        Some(Item {
            id,
            owner: OwnedUserId::try_from(self.owner).ok()?,
            content_type: self.content_type,
            file_name: self.file_name,
            created: MilliSecondsSinceUnixEpoch(self.created_ms.try_into().ok()?),
            size: self.size,
            hash: ContentHash(self.hash),
        })
    }
}
