//! Addresses that nothing is sent to any more, because their server said that there is nobody, or because the operator
//! said so. What is written to them is answered at once.

use koine_store::{CommitError, Direction, StoreError};

use super::{
    Out,
    tables::{SUPPRESSED, SuppressedRecord},
};

/// Most of them that are listed at once.
pub const LISTED_MAX: usize = 1_000;

/// An address that nothing is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    /// The address.
    pub address: String,
    /// Since when, in milliseconds since the epoch.
    pub since_ms: u64,
    /// Why.
    pub reason: String,
}

impl Out {
    /// Whether nothing is sent to an address, in its one form.
    pub fn is_suppressed(&self, address: &str) -> Result<bool, StoreError> {
        Ok(self.shard().get(&SUPPRESSED, self.domain(), address)?.is_some())
    }

    /// From now on nothing is sent there.
    pub async fn suppress(&self, address: String, reason: String) -> Result<(), CommitError> {
        let (domain, since_ms) = (self.domain(), self.now_ms());
        let commit = self.shard().submit(move |txn| {
            txn.put(&SUPPRESSED, domain, address.as_str(), &SuppressedRecord { since_ms, reason });
        });
        commit.await.map(drop)
    }

    /// From now on mails are sent there again. Whether it was on the list.
    pub async fn unsuppress(&self, address: &str) -> Result<bool, CommitError> {
        let was = self.is_suppressed(address)?;
        let (domain, address) = (self.domain(), address.to_owned());
        self.shard().submit(move |txn| txn.delete(&SUPPRESSED, domain, address.as_str())).await?;
        Ok(was)
    }

    /// The list: the first [`LISTED_MAX`].
    pub fn suppressed(&self) -> Result<Vec<Suppressed>, StoreError> {
        let view = self.shard().view();
        let rows = view.scan(&SUPPRESSED, self.domain(), .., Direction::Forward).take(LISTED_MAX);
        rows.map(|row| {
            let (address, SuppressedRecord { since_ms, reason }) = row?;
            Ok(Suppressed { address, since_ms, reason })
        })
        .collect()
    }
}
