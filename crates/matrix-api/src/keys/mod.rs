//! Keys of devices and users, for end-to-end encryption. [CS-API §end-to-end-encryption]
//!
//! Users of other servers are named in requests too: their servers are asked, unless the answer is known.

mod claim_keys;
mod device_lists;
mod get_changes;
mod query_keys;
mod upload_cross_signing;
mod upload_keys;
mod upload_signatures;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ruma_client_api::keys as ruma;
use ruma_common::OwnedServerName;
use serde_json::{Value, json};

use crate::Endpoints;

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

/// How long other servers may take if the client does not say. [CS-API §post_matrixclientv3keysquery] `timeout`
const PATIENCE: Duration = Duration::from_secs(10);
/// The most that a client may say.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// How long other servers may take.
fn patience(timeout_ms: Option<u64>) -> Duration {
    timeout_ms.map_or(PATIENCE, Duration::from_millis).min(PATIENCE_MAX)
}

/// Servers that did not answer, or not in time. [CS-API §post_matrixclientv3keysquery] `failures`
fn failures(servers: BTreeSet<OwnedServerName>) -> BTreeMap<OwnedServerName, Value> {
    let failure = || json!({ "errcode": "M_UNKNOWN", "error": "This server did not answer, or not in time" });
    servers.into_iter().map(|server| (server, failure())).collect()
}
