//! What every operation can fail with. What only one can fail with stands beside that operation.

use koine_store::{CommitError, StoreError};

/// The store could not be read or written. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("the store is not available: {0}")]
pub struct StoreUnavailable(String);

impl From<StoreError> for StoreUnavailable {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

impl From<CommitError> for StoreUnavailable {
    fn from(error: CommitError) -> Self {
        Self(error.to_string())
    }
}

impl StoreUnavailable {
    pub(crate) fn damaged(what: &str) -> Self {
        Self(format!("damaged: {what}"))
    }
}
