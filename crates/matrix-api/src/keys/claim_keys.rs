//! `POST /keys/claim`: one-time keys of devices, each given out once.
//!
//! [CS-API §post_matrixclientv3keysclaim]

use std::collections::BTreeMap;

use axum::extract::State;
use koine_account::{CLAIMS_MAX, Claim};
use ruma_client_api::keys::claim_keys::v3;
use ruma_common::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::Failures;
use crate::{Api, Error, Json, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Body {
    /// User, device, algorithm.
    one_time_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>,
}

#[derive(Debug, Serialize)]
pub struct Answer {
    failures: BTreeMap<String, Value>,
    one_time_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, BTreeMap<String, Box<RawValue>>>>,
}

pub async fn claim_keys(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<Answer>> {
    let mut failures = Failures::default();
    let mut claims = Vec::new();
    for (user_id, devices) in call.body.one_time_keys {
        if failures.is_ours(&api, &user_id) {
            let of_user = devices.into_iter();
            claims.extend(of_user.map(|(device_id, algorithm)| Claim {
                user_id: user_id.clone(),
                device_id,
                algorithm,
            }));
        }
    }
    if claims.len() > CLAIMS_MAX {
        let message = format!("{} keys are claimed at once, at most {CLAIMS_MAX} are given out", claims.len());
        return Err(Error::too_large(message));
    }
    let mut one_time_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, BTreeMap<_, _>>> = BTreeMap::new();
    for given in api.accounts.claim_keys(claims).await? {
        let key = RawValue::from_string(given.key).map_err(Error::internal)?;
        let of_user = one_time_keys.entry(given.user_id).or_default();
        of_user.entry(given.device_id).or_default().insert(given.key_id, key);
    }
    let failures = failures.0.into_iter().map(|(server, failure)| (server.to_string(), failure)).collect();
    Ok(Json(Answer { failures, one_time_keys }))
}
