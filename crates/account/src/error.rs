//! What every operation can fail with. What only one can fail with stands beside that operation.

use koine_store::{CommitError, StoreError};

/// The store could not be read or written. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreUnavailable {
    /// It could not be read.
    #[error("the store cannot be read: {0}")]
    Read(#[from] StoreError),
    /// It could not be written: a full disk, mostly.
    #[error("the store cannot be written: {0}")]
    Commit(#[from] CommitError),
    /// What is kept cannot be understood: a defect, or a damaged store.
    #[error("damaged data: {0}")]
    Damaged(&'static str),
}

impl StoreUnavailable {
    pub(crate) fn damaged(what: &'static str) -> Self {
        Self::Damaged(what)
    }
}
