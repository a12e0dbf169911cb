//! `POST /keys/query`: the keys that users and their devices published.
//!
//! [CS-API §post_matrixclientv3keysquery]. Keys of users of other servers are remembered while a room is shared with them
//! (`koine_account`); since when that is, the rooms know.

use std::collections::BTreeMap;

use axum::extract::State;
use koine_account::{UserKeys, WantedKeys};
use koine_room::Order;
use koine_store::Position;
use ruma_client_api::keys::get_keys::v3;
use ruma_common::{CanonicalJsonObject, OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{failures, patience};
use crate::{Api, Error, Json, Loose, Result};

/// Users of other servers that one request may ask for.
const REMOTE_USERS_MAX: usize = 10_000;

#[derive(Debug, Deserialize)]
pub struct Body {
    /// Users, with the devices asked for; all of them if none is named.
    device_keys: BTreeMap<OwnedUserId, Vec<String>>,
    /// Milliseconds that other servers may take.
    timeout: Option<u64>,
}

#[derive(Debug, Default, Serialize)]
pub struct Answer {
    failures: BTreeMap<OwnedServerName, Value>,
    device_keys: BTreeMap<OwnedUserId, BTreeMap<String, CanonicalJsonObject>>,
    master_keys: BTreeMap<OwnedUserId, CanonicalJsonObject>,
    self_signing_keys: BTreeMap<OwnedUserId, CanonicalJsonObject>,
    user_signing_keys: BTreeMap<OwnedUserId, CanonicalJsonObject>,
}

pub async fn query_keys(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<Answer>> {
    let asker = &call.who.user_id;
    let (mut answer, mut elsewhere) = (Answer::default(), Vec::new());
    let contacts = api.rooms.contacts(asker)?;
    for (user_id, devices) in call.body.device_keys {
        if !api.accounts.is_local(&user_id) {
            let shared_since = contacts.shared_since(&user_id)?.map(position);
            elsewhere.push(WantedKeys { user_id, devices, shared_since });
        } else if let Some(keys) = api.accounts.user_keys(asker, &user_id, &devices)? {
            answer.add(user_id, keys);
        }
    }
    let count = elsewhere.len();
    if count > REMOTE_USERS_MAX {
        let message = format!("{count} users of other servers are asked for, at most {REMOTE_USERS_MAX} at once");
        return Err(Error::too_large(message));
    }
    let found = api.accounts.keys_elsewhere(asker, elsewhere, patience(call.body.timeout)).await?;
    for (user_id, keys) in found.users {
        answer.add(user_id, keys);
    }
    answer.failures = failures(found.failed);
    Ok(Json(answer))
}

/// Places in the past of a room before we came are before everything.
fn position(order: Order) -> Position {
    Position(u64::try_from(order).unwrap_or(0))
}

impl Answer {
    fn add(&mut self, user_id: OwnedUserId, keys: UserKeys) {
        let cross_signing = [
            (&mut self.master_keys, keys.master),
            (&mut self.self_signing_keys, keys.self_signing),
            (&mut self.user_signing_keys, keys.user_signing),
        ];
        for (known, key) in cross_signing {
            known.extend(key.map(|key| (user_id.clone(), key)));
        }
        self.device_keys.insert(user_id, keys.devices.into_iter().collect());
    }
}
