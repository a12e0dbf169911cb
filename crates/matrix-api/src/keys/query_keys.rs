//! `POST /keys/query`: the keys that users and their devices published.
//!
//! [CS-API §post_matrixclientv3keysquery]

use std::collections::BTreeMap;

use axum::extract::State;
use ruma_client_api::keys::get_keys::v3;
use ruma_common::{CanonicalJsonObject, OwnedUserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Failures;
use crate::{Api, Json, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Body {
    /// Users, with the devices asked for; all of them if none is named.
    device_keys: BTreeMap<OwnedUserId, Vec<String>>,
}

#[derive(Debug, Default, Serialize)]
pub struct Answer {
    failures: BTreeMap<String, Value>,
    device_keys: BTreeMap<OwnedUserId, BTreeMap<String, CanonicalJsonObject>>,
    master_keys: BTreeMap<OwnedUserId, CanonicalJsonObject>,
    self_signing_keys: BTreeMap<OwnedUserId, CanonicalJsonObject>,
    user_signing_keys: BTreeMap<OwnedUserId, CanonicalJsonObject>,
}

pub async fn query_keys(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<Answer>> {
    let mut answer = Answer::default();
    let mut failures = Failures::default();
    for (user_id, devices) in call.body.device_keys {
        if !failures.is_ours(&api, &user_id) {
            continue;
        }
        let Some(keys) = api.accounts.user_keys(&call.who.user_id, &user_id, &devices)? else { continue };
        let cross_signing = [
            (&mut answer.master_keys, keys.master),
            (&mut answer.self_signing_keys, keys.self_signing),
            (&mut answer.user_signing_keys, keys.user_signing),
        ];
        for (known, key) in cross_signing {
            known.extend(key.map(|key| (user_id.clone(), key)));
        }
        answer.device_keys.insert(user_id, keys.devices.into_iter().collect());
    }
    answer.failures = failures.0.into_iter().map(|(server, failure)| (server.to_string(), failure)).collect();
    Ok(Json(answer))
}
