//! Keys of people of other servers, asked of those. [SS-API §end-to-end-encryption]

use std::collections::BTreeMap;

use http::Method;
use koine_account::{AnswerOf, Claim, ClaimedKey, NoAnswer, OtherServers, RemoteDevices};
use ruma_common::{CanonicalJsonObject, OwnedDeviceId, OwnedUserId, ServerName, UserId};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    Federation, PeerError,
    peers::{Bounds, parse, segment},
};

/// Bounds of an answer with keys. A server that failed lately is left in peace: clients ask often, and are told.
const KEY_BOUNDS: Bounds = Bounds { bytes: 32 * 1024 * 1024, time: std::time::Duration::from_secs(60), urgent: false };

/// [SS-API §get_matrixfederationv1userdevicesuserid]
#[derive(Deserialize)]
struct Devices {
    user_id: OwnedUserId,
    stream_id: u64,
    devices: Vec<Device>,
    master_key: Option<Value>,
    self_signing_key: Option<Value>,
}

#[derive(Deserialize)]
struct Device {
    device_id: String,
    keys: Option<Value>,
    device_display_name: Option<String>,
}

/// [SS-API §post_matrixfederationv1userkeysquery]
#[derive(Deserialize)]
struct Keys {
    device_keys: BTreeMap<OwnedUserId, BTreeMap<String, Value>>,
    #[serde(default)]
    master_keys: BTreeMap<OwnedUserId, Value>,
    #[serde(default)]
    self_signing_keys: BTreeMap<OwnedUserId, Value>,
}

/// [SS-API §post_matrixfederationv1userkeysclaim]
#[derive(Deserialize)]
struct Claimed {
    one_time_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, BTreeMap<String, Box<RawValue>>>>,
}

impl OtherServers for Federation {
    fn devices<'a>(&'a self, user_id: &'a UserId) -> AnswerOf<'a, RemoteDevices> {
        Box::pin(async move {
            let path = format!("/_matrix/federation/v1/user/devices/{}", segment(user_id.as_str()));
            let answer: Devices = self.ask_about_devices(user_id.server_name(), (Method::GET, &path), None).await?;
            if answer.user_id != user_id {
                return Err(NoAnswer(format!("it told of {} instead", answer.user_id)));
            }
            let devices = answer.devices.into_iter();
            let devices = devices
                .filter_map(|device| Some((device.device_id, object(device.keys?)?, device.device_display_name)));
            Ok(RemoteDevices {
                stream_id: Some(answer.stream_id),
                devices: devices.collect(),
                master: answer.master_key.and_then(object),
                self_signing: answer.self_signing_key.and_then(object),
            })
        })
    }

    fn keys<'a>(
        &'a self,
        server: &'a ServerName,
        users: &'a BTreeMap<OwnedUserId, Vec<String>>,
    ) -> AnswerOf<'a, BTreeMap<OwnedUserId, RemoteDevices>> {
        Box::pin(async move {
            let question = json!({ "device_keys": users });
            let call = (Method::POST, "/_matrix/federation/v1/user/keys/query");
            let mut answer: Keys = self.ask_about_devices(server, call, Some(&question)).await?;
            let users = answer.device_keys.into_iter().map(|(user, devices)| {
                let devices = devices.into_iter().filter_map(|(device_id, mut keys)| {
                    let name = keys["unsigned"]["device_display_name"].as_str().map(ToOwned::to_owned);
                    keys.as_object_mut()?.remove("unsigned");
                    Some((device_id, object(keys)?, name))
                });
                let list = RemoteDevices {
                    stream_id: None,
                    devices: devices.collect(),
                    master: answer.master_keys.remove(&user).and_then(object),
                    self_signing: answer.self_signing_keys.remove(&user).and_then(object),
                };
                (user, list)
            });
            Ok(users.collect())
        })
    }

    fn claim<'a>(&'a self, server: &'a ServerName, claims: &'a [Claim]) -> AnswerOf<'a, Vec<ClaimedKey>> {
        Box::pin(async move {
            let mut wanted: BTreeMap<&UserId, BTreeMap<&str, &str>> = BTreeMap::new();
            for claim in claims {
                wanted.entry(&claim.user_id).or_default().insert(claim.device_id.as_str(), &claim.algorithm);
            }
            let question = json!({ "one_time_keys": wanted });
            let call = (Method::POST, "/_matrix/federation/v1/user/keys/claim");
            let answer: Claimed = self.ask_about_devices(server, call, Some(&question)).await?;
            let mut given = Vec::new();
            for (user_id, devices) in answer.one_time_keys {
                for (device_id, keys) in devices {
                    given.extend(keys.into_iter().map(|(key_id, key)| ClaimedKey {
                        user_id: user_id.clone(),
                        device_id: device_id.clone(),
                        key_id,
                        key: key.get().to_owned(),
                    }));
                }
            }
            Ok(given)
        })
    }
}

impl Federation {
    async fn ask_about_devices<T: serde::de::DeserializeOwned>(
        &self,
        server: &ServerName,
        call: (Method, &str),
        question: Option<&Value>,
    ) -> Result<T, NoAnswer> {
        let question = question.map(Value::to_string);
        let answer = self.ask_bytes(server, call, question.as_deref().map(str::as_bytes), KEY_BOUNDS).await;
        answer.and_then(|bytes| parse(&bytes)).map_err(|error: PeerError| NoAnswer(error.to_string()))
    }
}

/// Canonical JSON, or nothing: what is none cannot have been signed.
fn object(value: Value) -> Option<CanonicalJsonObject> {
    serde_json::from_value(value).ok()
}
