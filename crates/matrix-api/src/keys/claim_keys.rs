//! `POST /keys/claim`: one-time keys of devices, each given out once.
//!
//! [CS-API §post_matrixclientv3keysclaim]

use std::collections::BTreeMap;

use axum::extract::State;
use koine_account::{CLAIMS_MAX, Claim};
use ruma_client_api::keys::claim_keys::v3;
use ruma_common::{OwnedDeviceId, OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{failures, patience};
use crate::{Api, Error, Json, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Body {
    /// User, device, algorithm.
    one_time_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>,
    /// Milliseconds that other servers may take.
    timeout: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct Answer {
    failures: BTreeMap<OwnedServerName, Value>,
    one_time_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, BTreeMap<String, Box<RawValue>>>>,
}

pub async fn claim_keys(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<Answer>> {
    let users = call.body.one_time_keys.into_iter();
    let claims: Vec<Claim> = users
        .flat_map(|(user_id, devices)| {
            let of_user = devices.into_iter();
            of_user.map(move |(device_id, algorithm)| Claim { user_id: user_id.clone(), device_id, algorithm })
        })
        .collect();
    if claims.len() > CLAIMS_MAX {
        let message = format!("{} keys are claimed at once, at most {CLAIMS_MAX} are given out", claims.len());
        return Err(Error::too_large(message));
    }
    let mut one_time_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, BTreeMap<_, _>>> = BTreeMap::new();
    let (ours, theirs): (Vec<_>, Vec<_>) = claims.into_iter().partition(|claim| api.accounts.is_local(&claim.user_id));
    let (elsewhere, failed) = api.accounts.claim_keys_elsewhere(theirs, patience(call.body.timeout)).await;
    for given in api.accounts.claim_keys(ours).await?.into_iter().chain(elsewhere) {
        let key = RawValue::from_string(given.key).map_err(Error::internal)?;
        let of_user = one_time_keys.entry(given.user_id).or_default();
        of_user.entry(given.device_id).or_default().insert(given.key_id, key);
    }
    Ok(Json(Answer { failures: failures(failed), one_time_keys }))
}
