//! What `koine-media` refuses, in Matrix's words.

use std::{io, time::Duration};

use http::StatusCode;
use koine_media::{ReadError, ThumbnailError, UploadError};

use crate::Error;

/// When to ask again for a thumbnail that could not be made for lack of a place.
const THUMBNAIL_RETRY: Duration = Duration::from_secs(1);

/// When to try again if too many other uploads are under way.
const UPLOAD_RETRY: Duration = Duration::from_secs(5);

impl From<UploadError> for Error {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::TooLarge { .. } => Self::too_large(error.to_string()),
            // [CS-API §post_matrixmediav3upload] A quota for uploaded content.
            UploadError::AccountFull { .. } => Self::forbidden(error.to_string()),
            UploadError::TooManyAtOnce => Self::limit_exceeded(UPLOAD_RETRY),
            UploadError::Disk(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::error!(reason = %error, "the disk with the media folder is full");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "M_UNKNOWN", "The server has no space left for files")
            }
            UploadError::Commit(error) => error.into(),
            UploadError::Disk(_) | UploadError::Store(_) => Self::internal(error),
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ContentMissing(_) => {
                tracing::error!(reason = %error, "media that should be there are not");
                Self::not_found("The content is missing")
            }
            ReadError::Store(_) | ReadError::Disk(_) => Self::internal(error),
        }
    }
}

impl From<ThumbnailError> for Error {
    fn from(error: ThumbnailError) -> Self {
        match error {
            // [CS-API §get_matrixclientv1mediathumbnailservernamemediaid]
            ThumbnailError::NotAPicture | ThumbnailError::Undecodable(_) => {
                Self::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", format!("Cannot make a thumbnail: {error}"))
            }
            ThumbnailError::TooManyPixels { .. }
            | ThumbnailError::SourceTooLarge { .. }
            | ThumbnailError::NeedsTooMuchMemory => Self::too_large(format!("Cannot make a thumbnail: {error}")),
            ThumbnailError::Busy => Self::limit_exceeded(THUMBNAIL_RETRY),
            ThumbnailError::Disk(_) => Self::internal(error),
        }
    }
}
