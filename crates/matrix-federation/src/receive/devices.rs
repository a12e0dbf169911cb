//! Units about devices: their keys, and messages to them. [SS-API §device-management] [SS-API §send-to-device-messaging]
//!
//! A change that does not follow on what we know makes us ask for the whole list, of each user once at a time.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use koine_account::{ReceivedMessages, RemoteChange, RemoteOutcome};
use parking_lot::Mutex;
use ruma_common::{CanonicalJsonObject, OwnedUserId, ServerName, UserId};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tokio::sync::Semaphore;

use crate::Federation;

/// Most numbers of earlier changes that are looked at.
const PREVIOUS_MAX: usize = 100;
/// Longest id of a device.
const DEVICE_ID_BYTES_MAX: usize = 255;
/// Users whose lists are being asked for; of others the lists stay out of date until somebody here wants them.
const RESYNCS_MAX: usize = 1_000;
/// Lists asked for at the same time.
const RESYNCS_AT_ONCE: usize = 8;
/// How long is waited before each attempt.
const RESYNC_WAITS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
];

/// Lists of devices that are being asked for.
pub(crate) struct Resyncs {
    of: Mutex<HashSet<OwnedUserId>>,
    turns: Arc<Semaphore>,
}

impl Default for Resyncs {
    fn default() -> Self {
        Self { of: Mutex::default(), turns: Arc::new(Semaphore::new(RESYNCS_AT_ONCE)) }
    }
}

/// [SS-API §definition-mdevice_list_update]
#[derive(Deserialize)]
struct DeviceListUpdate {
    user_id: OwnedUserId,
    device_id: String,
    device_display_name: Option<String>,
    stream_id: u64,
    #[serde(default)]
    prev_id: Vec<u64>,
    #[serde(default)]
    deleted: bool,
    keys: Option<Value>,
}

/// [SS-API §definition-msigning_key_update]
#[derive(Deserialize)]
struct SigningKeyUpdate {
    user_id: OwnedUserId,
    master_key: Option<Value>,
    self_signing_key: Option<Value>,
}

/// [SS-API §definition-mdirect_to_device]
#[derive(Deserialize)]
struct DirectToDevice {
    sender: OwnedUserId,
    #[serde(rename = "type")]
    kind: String,
    message_id: String,
    messages: BTreeMap<OwnedUserId, BTreeMap<String, Box<RawValue>>>,
}

impl Federation {
    /// [SS-API §definition-mdevice_list_update]
    pub(super) async fn take_device_list_update(&self, origin: &ServerName, content: &RawValue) {
        let Ok(update) = serde_json::from_str::<DeviceListUpdate>(content.get()) else { return };
        if !self.is_theirs_and_known(origin, &update.user_id) || update.device_id.len() > DEVICE_ID_BYTES_MAX {
            return;
        }
        let change = RemoteChange {
            user_id: update.user_id.clone(),
            device_id: update.device_id,
            stream_id: update.stream_id,
            previous: update.prev_id.into_iter().take(PREVIOUS_MAX).collect(),
            is_deleted: update.deleted,
            display_name: update.device_display_name,
            keys: update.keys.and_then(object),
        };
        match self.accounts().remote_device_changed(change).await {
            Ok(RemoteOutcome::Gap) => self.resync(update.user_id),
            Ok(RemoteOutcome::Same | RemoteOutcome::Noted) => {}
            Err(error) => tracing::error!(reason = %error, "a change of a device could not be noted"),
        }
    }

    /// [SS-API §definition-msigning_key_update]
    pub(super) async fn take_signing_key_update(&self, origin: &ServerName, content: &RawValue) {
        let Ok(update) = serde_json::from_str::<SigningKeyUpdate>(content.get()) else { return };
        if !self.is_theirs_and_known(origin, &update.user_id) {
            return;
        }
        let (master, self_signing) = (update.master_key.and_then(object), update.self_signing_key.and_then(object));
        let noted = self.accounts().remote_signing_keys(&update.user_id, master, self_signing).await;
        if let Err(error) = noted {
            tracing::error!(reason = %error, "a change of cross-signing keys could not be noted");
        }
    }

    /// [SS-API §definition-mdirect_to_device]
    pub(super) async fn take_messages(&self, origin: &ServerName, content: &RawValue) {
        let Ok(direct) = serde_json::from_str::<DirectToDevice>(content.get()) else { return };
        if direct.sender.server_name() != origin {
            return;
        }
        let DirectToDevice { sender, kind, message_id, messages } = direct;
        let received = ReceivedMessages { sender, kind, message_id, messages };
        if let Err(error) = self.accounts().receive_to_device(origin, received).await {
            tracing::debug!(peer = %origin, reason = %error, "messages to devices were not taken");
        }
    }

    /// Whether somebody is of the server, and in a room with somebody of ours: of nobody else we want to know.
    pub(super) fn is_theirs_and_known(&self, origin: &ServerName, user: &UserId) -> bool {
        user.server_name() == origin
            && self.rooms().is_known_here(user).unwrap_or_else(|error| {
                tracing::error!(reason = %error, "the rooms of somebody cannot be read");
                false
            })
    }

    /// Asks for the whole list of a user's devices until there is an answer, or none after some hours.
    fn resync(&self, user: OwnedUserId) {
        if !self.resyncs().begin(&user) {
            return;
        }
        let weak = self.downgrade();
        tokio::spawn(async move {
            for wait in RESYNC_WAITS {
                tokio::time::sleep(wait).await;
                let Some(federation) = weak.upgrade() else { return };
                let _turn = federation.resyncs().turns.clone().acquire_owned().await;
                // Not after the answer: a gap that shows while it is under way is to be filled anew.
                federation.resyncs().of.lock().remove(&user);
                match federation.accounts().refresh_remote(&user).await {
                    Ok(true) => return,
                    Ok(false) if federation.resyncs().begin(&user) => {}
                    Ok(false) => return,
                    Err(error) => {
                        tracing::error!(reason = %error, "a list of devices cannot be noted");
                        return;
                    }
                }
            }
            if let Some(federation) = weak.upgrade() {
                federation.resyncs().of.lock().remove(&user);
            }
        });
    }
}

impl Resyncs {
    /// Whether the user's list is to be asked for: there are not too many, and nobody is about to do it.
    fn begin(&self, user: &UserId) -> bool {
        let mut of = self.of.lock();
        of.len() < RESYNCS_MAX && of.insert(user.to_owned())
    }
}

fn object(value: Value) -> Option<CanonicalJsonObject> {
    serde_json::from_value(value).ok()
}
