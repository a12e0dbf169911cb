//! Filters that clients keep here, to name them in requests. [CS-API §filtering]

use koine_store::{StoreError, Txn, bytes::Bytes};
use ruma_common::UserId;
use sha2::{Digest as _, Sha256};

use crate::{
    Accounts, StoreUnavailable,
    tables::{FILTER, FILTER_NO, USER},
};

/// How many filters are kept for a user; the oldest gives way. Clients store theirs again when it is gone.
const FILTERS_MAX: u64 = 1000;

impl Accounts {
    /// Keeps a filter, a JSON object; answers its id. The same filter has the same id.
    pub async fn store_filter(&self, user_id: &UserId, filter: String) -> Result<String, StoreUnavailable> {
        let Some(localpart) = self.key(user_id).map(ToOwned::to_owned) else {
            return Err(StoreUnavailable::damaged("a filter of somebody else's user"));
        };
        let hash = hash_of(filter.as_bytes());
        if let Some(number) = self.shard.get(&FILTER_NO, self.domain, &(localpart.as_str(), hash))? {
            return Ok(number.to_string());
        }
        let domain = self.domain;
        let commit = move |txn: &mut Txn| -> Result<u64, StoreError> {
            let hash_key = (localpart.clone(), hash);
            if let Some(number) = txn.get(&FILTER_NO, domain, &hash_key)? {
                return Ok(number);
            }
            let Some(mut user) = txn.get(&USER, domain, localpart.as_str())? else { return Ok(0) };
            let number = user.filters;
            user.filters += 1;
            txn.put(&USER, domain, localpart.as_str(), &user);
            txn.put(&FILTER, domain, &(localpart.clone(), number), &Bytes::from(filter));
            txn.put(&FILTER_NO, domain, &hash_key, &number);
            if let Some(oldest) = number.checked_sub(FILTERS_MAX) {
                let key = (localpart.clone(), oldest);
                if let Some(gone) = txn.get(&FILTER, domain, &key)? {
                    txn.delete(&FILTER_NO, domain, &(localpart, hash_of(&gone)));
                }
                txn.delete(&FILTER, domain, &key);
            }
            Ok(number)
        };
        Ok(self.change(commit).await??.to_string())
    }

    /// A filter that was kept.
    pub fn filter(&self, user_id: &UserId, filter_id: &str) -> Result<Option<Bytes>, StoreUnavailable> {
        let (Some(localpart), Ok(number)) = (self.key(user_id), filter_id.parse::<u64>()) else { return Ok(None) };
        Ok(self.shard.get(&FILTER, self.domain, &(localpart, number))?)
    }
}

fn hash_of(filter: &[u8]) -> [u8; 32] {
    Sha256::digest(filter).into()
}
