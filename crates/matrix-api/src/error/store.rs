//! What the store refuses, in Matrix's words: the same for every core.

use http::StatusCode;
use koine_store::CommitError;

use crate::Error;

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            // Not a defect: the operator has been told by the store, and the client may try again later.
            CommitError::Refused(_) => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "M_UNKNOWN",
                "The server cannot store anything at the moment: its disk is full",
            ),
            CommitError::Overloaded { .. } => Self::limit_exceeded(std::time::Duration::from_secs(1)),
            CommitError::TooLarge { .. } | CommitError::KeyTooLong { .. } => Self::too_large(error.to_string()),
            other => Self::internal(other),
        }
    }
}
