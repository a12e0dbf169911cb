//! What `koine-media` refuses, in Matrix's words.

use std::{io, time::Duration};

use http::StatusCode;
use koine_media::{FetchError, PreviewError, ReadError, ThumbnailError, UploadError};

use crate::{Error, media::download::not_yet_uploaded};

/// When to ask again for a thumbnail that could not be made for lack of a place.
const THUMBNAIL_RETRY: Duration = Duration::from_secs(1);

/// When to ask for another address if too many wait for their content.
const PROMISE_RETRY: Duration = Duration::from_secs(60);

/// When to try again if too many other uploads are under way.
const UPLOAD_RETRY: Duration = Duration::from_secs(5);

impl From<UploadError> for Error {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::TooLarge { .. } => Self::too_large(error.to_string()),
            // [CS-API §post_matrixmediav3upload] A quota for uploaded content.
            UploadError::AccountFull { .. } => Self::forbidden(error.to_string()),
            UploadError::TooManyAtOnce => Self::limit_exceeded(UPLOAD_RETRY),
            // [CS-API §post_matrixmediav1create]
            UploadError::TooManyPromises => Self::limit_exceeded(PROMISE_RETRY),
            // [CS-API §put_matrixmediav3uploadservernamemediaid]
            UploadError::NotPromised => Self::not_found(error.to_string()),
            UploadError::PromisedToOthers => Self::forbidden(error.to_string()),
            UploadError::AlreadyThere => Self::new(StatusCode::CONFLICT, "M_CANNOT_OVERWRITE_MEDIA", error.to_string()),
            UploadError::Disk(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::error!(reason = %error, "the disk with the media folder is full");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "M_UNKNOWN", "The server has no space left for files")
            }
            UploadError::Commit(error) => error.into(),
            UploadError::Disk(_) | UploadError::Store(_) => Self::internal(error),
        }
    }
}

impl From<FetchError> for Error {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::NotFound => Self::not_found("There is no such media on that server"),
            FetchError::NotYetUploaded => not_yet_uploaded(),
            // [CS-API §get_matrixclientv1mediadownloadservernamemediaid] too large to be served from there
            FetchError::Keep(UploadError::TooLarge { .. }) => {
                Self::new(StatusCode::BAD_GATEWAY, "M_TOO_LARGE", error.to_string())
            }
            FetchError::Keep(error) => error.into(),
            FetchError::Busy => Self::limit_exceeded(UPLOAD_RETRY),
            FetchError::Unreachable(reason) => {
                tracing::debug!(reason, "media of another server could not be fetched");
                Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", "The other server did not hand out its media")
            }
        }
    }
}

impl From<PreviewError> for Error {
    fn from(error: PreviewError) -> Self {
        match error {
            PreviewError::NotAnAddress => Self::invalid_param(error.to_string()),
            PreviewError::Off => Self::not_found(error.to_string()),
            PreviewError::Unreachable => Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", error.to_string()),
            PreviewError::Busy => Self::limit_exceeded(UPLOAD_RETRY),
            PreviewError::Commit(error) => error.into(),
            PreviewError::Store(_) => Self::internal(error),
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
