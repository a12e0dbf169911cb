//! The devices of our people, and their keys. [SS-API §device-management] [SS-API §end-to-end-encryption]
//!
//! Another server is shown what everybody may see: keys with the signatures of their owner. Whom one of ours has met, and
//! by which key they say so, stays here.

use std::collections::BTreeMap;

use axum::extract::State;
use koine_account::{CLAIMS_MAX, Claim};
use ruma_common::{OwnedDeviceId, OwnedUserId};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    Error, Federation, Signed,
    answer::{Raw, Result},
};

/// Largest question about keys.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Users that one question may name.
const USERS_MAX: usize = 2_000;

/// [SS-API §get_matrixfederationv1userdevicesuserid]
pub async fn devices(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    let user = signed.path.user(0)?;
    if user.server_name() != federation.server_name() {
        return Err(Error::invalid_param(format!("{user} is of another server")));
    }
    let list = federation.accounts().device_list(&user)?;
    let list = list.ok_or_else(|| Error::not_found(format!("There is no user {user} here")))?;
    let devices = list.devices.into_iter().map(|(device_id, device)| {
        let mut told = json!({ "device_id": device_id, "keys": device.keys });
        if let Some(name) = device.display_name {
            told["device_display_name"] = json!(name);
        }
        told
    });
    let mut answer = json!({ "user_id": user, "stream_id": list.stream_id, "devices": devices.collect::<Vec<_>>() });
    for (name, key) in [("master_key", list.master), ("self_signing_key", list.self_signing)] {
        if let Some(key) = key {
            answer[name] = json!(key);
        }
    }
    Ok(Raw::of(&answer))
}

#[derive(Deserialize)]
struct Query {
    /// User, devices; all of them if none is named.
    device_keys: BTreeMap<OwnedUserId, Vec<String>>,
}

/// [SS-API §post_matrixfederationv1userkeysquery]
pub async fn query(State(federation): State<Federation>, signed: Signed<BODY_BYTES_MAX>) -> Result<Raw> {
    let query: Query = signed.parse()?;
    let count = query.device_keys.len();
    if count > USERS_MAX {
        return Err(Error::too_large(format!("{count} users are asked for, at most {USERS_MAX} at once")));
    }
    let (mut devices, mut master, mut self_signing) = (Map::new(), Map::new(), Map::new());
    for (user, wanted) in query.device_keys {
        // Those of other servers are none of ours, and nobody: both are left out.
        let Some(keys) = federation.accounts().keys_for_servers(&user, &wanted)? else { continue };
        let of_user: Map<String, Value> = keys.devices.into_iter().map(|(id, keys)| (id, json!(keys))).collect();
        devices.insert(user.to_string(), Value::Object(of_user));
        for (all, key) in [(&mut master, keys.master), (&mut self_signing, keys.self_signing)] {
            all.extend(key.map(|key| (user.to_string(), json!(key))));
        }
    }
    Ok(Raw::of(&json!({ "device_keys": devices, "master_keys": master, "self_signing_keys": self_signing })))
}

#[derive(Deserialize)]
struct Claims {
    /// User, device, algorithm.
    one_time_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>,
}

/// [SS-API §post_matrixfederationv1userkeysclaim]
pub async fn claim(State(federation): State<Federation>, signed: Signed<BODY_BYTES_MAX>) -> Result<Raw> {
    let claims: Claims = signed.parse()?;
    let claims = claims.one_time_keys.into_iter().flat_map(|(user_id, devices)| {
        let of_user = devices.into_iter();
        of_user.map(move |(device_id, algorithm)| Claim { user_id: user_id.clone(), device_id, algorithm })
    });
    let claims: Vec<Claim> = claims.collect();
    if claims.len() > CLAIMS_MAX {
        let message = format!("{} keys are claimed at once, at most {CLAIMS_MAX} are given out", claims.len());
        return Err(Error::too_large(message));
    }
    let mut given: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, BTreeMap<String, Box<RawValue>>>> = BTreeMap::new();
    for key in federation.accounts().claim_keys(claims).await? {
        let json = RawValue::from_string(key.key).map_err(Error::internal)?;
        given.entry(key.user_id).or_default().entry(key.device_id).or_default().insert(key.key_id, json);
    }
    Ok(Raw::of(&json!({ "one_time_keys": given })))
}
