//! Keys of devices and users, for end-to-end encryption. [CS-API §end-to-end-encryption]
//!
//! Users of other servers are named in requests too. Their servers cannot be asked yet: each is told as a failure.

mod claim_keys;
mod device_lists;
mod get_changes;
mod query_keys;
mod upload_cross_signing;
mod upload_keys;
mod upload_signatures;

use std::collections::BTreeMap;

use ruma_client_api::keys as ruma;
use ruma_common::{OwnedServerName, UserId};
use serde_json::{Value, json};

use crate::{Api, Endpoints};

pub(crate) use device_lists::DeviceLists;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<ruma::upload_keys::v3::Request, _, _>("matrix.keys.upload", upload_keys::upload_keys);
    endpoints.add::<ruma::get_keys::v3::Request, _, _>("matrix.keys.query", query_keys::query_keys);
    endpoints.add::<ruma::claim_keys::v3::Request, _, _>("matrix.keys.claim", claim_keys::claim_keys);
    endpoints.add::<ruma::get_key_changes::v3::Request, _, _>("matrix.keys.changes", get_changes::get_changes);
    endpoints.add::<ruma::upload_signing_keys::v3::Request, _, _>(
        "matrix.keys.upload_cross_signing",
        upload_cross_signing::upload_cross_signing,
    );
    endpoints.add::<ruma::upload_signatures::v3::Request, _, _>(
        "matrix.keys.upload_signatures",
        upload_signatures::upload_signatures,
    );
}

/// One-time keys as clients count them: the algorithm that all of them use is named even when none is left, since
/// some take a missing count for an unchanged one.
pub(crate) fn one_time_key_counts(counts: &[(String, u64)]) -> BTreeMap<&str, u64> {
    let mut all = BTreeMap::from([("signed_curve25519", 0)]);
    all.extend(counts.iter().map(|(algorithm, count)| (algorithm.as_str(), *count)));
    all
}

/// Servers that could not be asked. [CS-API §post_matrixclientv3keysquery] `failures`
#[derive(Debug, Default)]
struct Failures(BTreeMap<OwnedServerName, Value>);

impl Failures {
    /// Whether the user is ours; the server of another's is noted.
    fn is_ours(&mut self, api: &Api, user_id: &UserId) -> bool {
        if api.accounts.is_local(user_id) {
            return true;
        }
        let failure = || json!({ "errcode": "M_UNKNOWN", "error": "This server cannot be reached" });
        self.0.entry(user_id.server_name().to_owned()).or_insert_with(failure);
        false
    }
}
