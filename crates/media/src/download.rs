//! Finding a piece of media and reading its bytes.

use std::{fs::File, io, path::Path};

use koine_store::{Direction, StoreError};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedUserId, ServerName};
use thiserror::Error;

use crate::{
    Media,
    ids::{ContentHash, MediaId},
    tables::MEDIA,
};

/// What is known about a piece of media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its id, on this server or the one it is from.
    pub id: MediaId,
    /// Who uploaded it; nobody of ours, if it is another server's.
    pub owner: Option<OwnedUserId>,
    /// What the uploader said it is. Not checked: see the headers it is served with.
    pub content_type: Option<String>,
    /// What the uploader called it.
    pub file_name: Option<String>,
    /// When it was uploaded.
    pub created: MilliSecondsSinceUnixEpoch,
    /// How many bytes.
    pub size: u64,
    pub(crate) hash: ContentHash,
}

/// An open file and its length.
#[derive(Debug)]
pub struct Content {
    /// At its beginning.
    pub file: tokio::fs::File,
    /// How many bytes there are.
    pub size: u64,
}

impl Content {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file: file.into(), size })
    }
}

/// Why media could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Metadata and folder disagree: somebody removed files by hand, or the folder was restored without the database.
    #[error("the content of {0} is missing from the media folder")]
    ContentMissing(MediaId),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Our disk.
    #[error("the media folder cannot be read: {0}")]
    Disk(#[source] io::Error),
}

impl Media {
    /// The item with this address. `None` if there is none, or if it belongs to another server.
    pub fn find(&self, server_name: &ServerName, media_id: &str) -> Result<Option<Item>, ReadError> {
        if server_name != self.server_name() {
            return Ok(None);
        }
        let Some(id) = MediaId::parse(media_id) else { return Ok(None) };
        match self.shard().get(&MEDIA, self.domain(), id.as_str())? {
            Some(record) => Ok(record.into_item(id)),
            None => Ok(self.picture_of_preview(id)?),
        }
    }

    /// The uploads that are `wanted`, for the operator: looks at all there are.
    pub fn list(&self, wanted: impl Fn(&Item) -> bool) -> Result<Vec<Item>, ReadError> {
        let view = self.shard().view();
        let mut found = Vec::new();
        for row in view.scan(&MEDIA, self.domain(), .., Direction::Forward) {
            let (id, record) = row?;
            let item = MediaId::parse(&id).and_then(|id| record.into_item(id));
            found.extend(item.filter(&wanted));
        }
        Ok(found)
    }

    /// Opens the content of an item.
    pub async fn content(&self, item: &Item) -> Result<Content, ReadError> {
        let opened = match self.at_hand(item.hash).await {
            Ok(path) => tokio::task::spawn_blocking(move || Content::open(&path)).await,
            Err(error) => Ok(Err(error)),
        };
        match opened.expect("opening a file does not panic") {
            Ok(content) => Ok(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ReadError::ContentMissing(item.id.clone())),
            Err(error) => Err(ReadError::Disk(error)),
        }
    }
}
