//! `GET /versions`: what of Matrix we speak.
//!
//! [CS-API §get_matrixclientversions]

use ruma_client_api::discovery::get_supported_versions::Request;
use serde_json::{Value, json};

use crate::{Call, Json, Result};

/// Up to v1.14 and no further although the endpoints are those of v1.19: from v1.15 on clients expect OAuth, and
/// some of them ask for nothing else then. What came later is told by its feature.
const VERSIONS: [&str; 17] = [
    "r0.5.0", "r0.6.0", "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10",
    "v1.11", "v1.12", "v1.13", "v1.14",
];

/// Features of later versions and of proposals that clients ask for by name.
const FEATURES: [&str; 12] = [
    // Cross-signing.
    "org.matrix.e2e_cross_signing",
    // Authenticated media.
    "org.matrix.msc3916.stable",
    // Extended profiles.
    "uk.tcpip.msc4133",
    "uk.tcpip.msc4133.stable",
    // `state_after` in /sync.
    "org.matrix.msc4222",
    // Deleting account data. [MSC3391]
    "org.matrix.msc3391",
    // Dehydrated devices. [MSC3814]
    "org.matrix.msc3814",
    // Delayed events. [MSC4140]
    "org.matrix.msc4140",
    // Whose invitations somebody wants. [MSC4155]
    "org.matrix.msc4155",
    // Followed threads. [MSC4306] [MSC4308]
    "org.matrix.msc4306",
    "org.matrix.msc4308",
    // Simplified sliding sync. [MSC4186]
    "org.matrix.simplified_msc3575",
];

pub async fn get_versions(_call: Call<Request>) -> Result<Json<Value>> {
    let features: serde_json::Map<String, Value> =
        FEATURES.iter().map(|feature| ((*feature).to_owned(), true.into())).collect();
    Ok(Json(json!({ "versions": VERSIONS, "unstable_features": features })))
}
