//! Messages from device to device: a postbox for each device, emptied as the device says what it has.
//!
//! [CS-API §send-to-device-messaging]. A message waits at the position of the log entry that told of it, until the
//! device syncs with a token at or behind that position: then it has the answer that held the message. So every message
//! comes at least once and in order, and mostly once.
//!
//! A postbox is bounded, and nobody may fill one alone: once much waits, it is counted who sends, and whoever sent their share is
//! not heard until the device has caught up. Keys that others send in the middle of a flood get through.

use std::collections::BTreeMap;

use koine_store::{Direction, DomainId, KeyRange, Position, StoreError, Txn, bytes::Bytes};
use ruma_common::{DeviceId, OwnedServerName, OwnedUserId, UserId};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{
    outgoing::{self, Packer},
    tables::{
        CrowdRecord, CrowdSenderRecord, DEVICE_STATE, DeviceStateRecord, TO_DEVICE, TO_DEVICE_CROWD, TO_DEVICE_TXN,
    },
};
use crate::{
    Accounts, StoreUnavailable,
    log::{self, Kind},
    tables::DEVICE,
};

/// How large one message may be.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// How many devices one request may reach.
pub const RECIPIENTS_MAX: usize = 5_000;
/// How many bytes one request may write, all copies together. Below what one command of the shard may write.
const COPIES_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How many messages wait for a device at most; what comes then is lost, as the device is. Below
/// [`koine_store::TXN_SCAN_MAX`], so that a device can be deleted in one go.
pub const QUEUE_MESSAGES_MAX: u64 = 9_000;
/// How many bytes of messages wait for a device at most.
pub const QUEUE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// From how many waiting messages or bytes on it is counted who sends them.
const CROWD_MESSAGES: u64 = 1_000;
const CROWD_BYTES: u64 = 8 * 1024 * 1024;
/// How many messages and bytes of one sender are taken for a device for which so much waits already.
pub const SENDER_MESSAGES_MAX: u64 = 4_000;
const SENDER_BYTES_MAX: u64 = 24 * 1024 * 1024;
/// How many senders are counted; those after them share what is left.
const SENDERS_COUNTED_MAX: usize = 64;
/// How long the type of a message and a transaction id may be.
pub const TO_DEVICE_TYPE_BYTES_MAX: usize = 255;
/// How many transactions are remembered for a device.
const TRANSACTIONS_MAX: usize = 256;

/// Whom a message is for.
#[derive(Debug)]
pub enum Recipient {
    /// One device.
    Device(String),
    /// Every device of the user.
    AllDevices,
}

impl Recipient {
    /// As a request names it. [CS-API §put_matrixclientv3sendtodeviceeventtypetxnid]
    pub fn of(device_id: String) -> Self {
        if device_id == "*" { Self::AllDevices } else { Self::Device(device_id) }
    }
}

/// What one request sends.
#[derive(Debug)]
pub struct ToDevice {
    /// The type of all its messages.
    pub kind: String,
    /// What tells the request from others of the same type and device.
    pub txn_id: String,
    /// The messages.
    pub messages: Vec<(OwnedUserId, Recipient, Box<RawValue>)>,
}

/// Why messages were not sent. None was.
#[derive(Debug, thiserror::Error)]
pub enum SendToDeviceError {
    /// Longer than [`TO_DEVICE_TYPE_BYTES_MAX`].
    #[error("the type or transaction id has {0} bytes, at most {TO_DEVICE_TYPE_BYTES_MAX} are allowed")]
    NameTooLong(usize),
    /// Not an object.
    #[error("the content of a message is an object")]
    NotAnObject,
    /// Larger than [`MESSAGE_BYTES_MAX`].
    #[error("a message has {0} bytes, at most {MESSAGE_BYTES_MAX} are allowed")]
    MessageTooLarge(usize),
    /// More than [`RECIPIENTS_MAX`], or too many bytes in all.
    #[error("that is too much for one request: {devices} devices, {bytes} bytes")]
    TooMuch {
        /// How many devices would get one.
        devices: usize,
        /// How many bytes that would be in all.
        bytes: usize,
    },
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

/// What is in a device's postbox.
#[derive(Debug, Default)]
pub struct Postbox {
    /// Messages as JSON, in order of arrival.
    pub messages: Vec<Bytes>,
    /// Set when there are more: the device has everything up to here once it has these.
    pub more_after: Option<Position>,
    /// Positions of messages that the device is known to have.
    acknowledged: Vec<u64>,
}

/// A copy of a message, for one device.
pub(super) struct Copy {
    device_id: String,
    json: Bytes,
}

/// Copies by user.
pub(super) type Copies = BTreeMap<OwnedUserId, Vec<Copy>>;
/// Units for other servers.
pub(super) type Units = BTreeMap<OwnedServerName, Vec<Bytes>>;

impl Accounts {
    /// Puts messages into postboxes, and those for other servers into their queues. Devices that are not there get none;
    /// the same transaction once more does nothing.
    pub async fn send_to_device(
        &self,
        (sender, device_id): (&UserId, &DeviceId),
        sent: ToDevice,
    ) -> Result<(), SendToDeviceError> {
        for name in [&sent.kind, &sent.txn_id] {
            if name.len() > TO_DEVICE_TYPE_BYTES_MAX {
                return Err(SendToDeviceError::NameTooLong(name.len()));
            }
        }
        let transaction = transaction_of(&sent.kind, &sent.txn_id);
        let (copies, outgoing) = self.copies(sender, sent)?;
        let (domain, user_id) = (self.domain, sender.to_owned());
        let sender = (sender.localpart().to_owned(), device_id.to_string());
        let commit = move |txn: &mut Txn| -> Result<(), StoreError> {
            let mut known = txn.get(&TO_DEVICE_TXN, domain, &sender)?.unwrap_or_default();
            if known.hashes.contains(&transaction) {
                return Ok(());
            }
            if known.hashes.len() >= TRANSACTIONS_MAX {
                known.hashes.pop_front();
            }
            known.hashes.push_back(transaction);
            txn.put(&TO_DEVICE_TXN, domain, &sender, &known);
            for (recipient, copies) in copies {
                deliver(txn, domain, (&user_id, &recipient), copies)?;
            }
            for (server, units) in outgoing {
                outgoing::queue(txn, domain, &user_id, (&server, units))?;
            }
            Ok(())
        };
        self.change(commit).await?.map_err(|error| SendToDeviceError::Store(error.into()))
    }

    /// One copy for each device here, and units for other servers.
    pub(super) fn copies(&self, sender: &UserId, sent: ToDevice) -> Result<(Copies, Units), SendToDeviceError> {
        let mut copies = Copies::new();
        let (mut devices, mut bytes) = (0, 0);
        let mut packer = Packer::new(sender, &sent.kind);
        let kind = serde_json::Value::from(&*sent.kind);
        let from = serde_json::Value::from(sender.as_str());
        for (user_id, recipient, content) in sent.messages {
            if !content.get().starts_with('{') {
                return Err(SendToDeviceError::NotAnObject);
            }
            let json = format!(r#"{{"type":{kind},"sender":{from},"content":{}}}"#, content.get());
            if json.len() > MESSAGE_BYTES_MAX {
                return Err(SendToDeviceError::MessageTooLarge(json.len()));
            }
            let too_much = |devices, bytes| devices > RECIPIENTS_MAX || bytes > COPIES_BYTES_MAX;
            let Some(localpart) = self.key(&user_id) else {
                (devices, bytes) = (devices + 1, bytes + json.len());
                if too_much(devices, bytes) {
                    return Err(SendToDeviceError::TooMuch { devices, bytes });
                }
                packer.add(user_id, recipient, content);
                continue;
            };
            let json = Bytes::from(json);
            let of_user = copies.entry(user_id.clone()).or_default();
            let before = of_user.len();
            match recipient {
                Recipient::Device(device_id) => of_user.push(Copy { device_id, json: json.clone() }),
                Recipient::AllDevices => {
                    let all = self.device_records(localpart)?.into_iter();
                    of_user.extend(all.map(|(device_id, _)| Copy { device_id, json: json.clone() }));
                }
            }
            devices += of_user.len() - before;
            bytes += (of_user.len() - before) * json.len();
            if too_much(devices, bytes) {
                return Err(SendToDeviceError::TooMuch { devices, bytes });
            }
        }
        Ok((copies, packer.finish()))
    }

    /// What waits for a device in `(known, up_to]`, at most `limit`: `known` is what its token says it has.
    pub fn postbox(
        &self,
        (user_id, device_id): (&UserId, &DeviceId),
        known: Position,
        up_to: Position,
        limit: usize,
    ) -> Result<Postbox, StoreUnavailable> {
        let mut found = Postbox::default();
        let Some(localpart) = self.key(user_id) else { return Ok(found) };
        let key = (localpart, device_id.as_str());
        let range = KeyRange::prefix(&key).through(&(localpart, device_id.as_str(), up_to.0));
        let view = self.shard.view();
        let mut last = known;
        for row in view.scan(&TO_DEVICE, self.domain, range, Direction::Forward) {
            let ((_, _, position), json) = row?;
            if position <= known.0 {
                found.acknowledged.push(position);
                continue;
            }
            if found.messages.len() >= limit {
                found.more_after = Some(last);
                break;
            }
            last = Position(position);
            found.messages.push(json);
        }
        Ok(found)
    }

    /// Throws away what the device is known to have. Nobody waits for it: until it is done, tokens tell.
    pub fn throw_away_acknowledged(&self, user_id: &UserId, device_id: &DeviceId, postbox: &Postbox) {
        if postbox.acknowledged.is_empty() {
            return;
        }
        let (domain, key) = (self.domain, (user_id.localpart().to_owned(), device_id.to_string()));
        let acknowledged = postbox.acknowledged.clone();
        drop(self.shard.submit(move |txn: &mut Txn| -> Result<(), StoreError> {
            let Some(mut state) = txn.get(&DEVICE_STATE, domain, &key)? else { return Ok(()) };
            let was_crowded = is_crowded(&state);
            for position in acknowledged {
                let row = (key.0.as_str(), key.1.as_str(), position);
                let Some(json) = txn.get(&TO_DEVICE, domain, &row)? else { continue };
                txn.delete(&TO_DEVICE, domain, &row);
                state.messages = state.messages.saturating_sub(1);
                state.bytes = state.bytes.saturating_sub(json.len() as u64);
            }
            if was_crowded && !is_crowded(&state) {
                txn.delete(&TO_DEVICE_CROWD, domain, &key);
            }
            txn.put(&DEVICE_STATE, domain, &key, &state);
            Ok(())
        }));
    }
}

/// Puts a user's copies into the postboxes of the devices that there are.
pub(super) fn deliver(
    txn: &mut Txn,
    domain: DomainId,
    (sender, user_id): (&UserId, &UserId),
    copies: Vec<Copy>,
) -> Result<(), StoreError> {
    // A row is at a position, and each device gets one message of a request: its last, if it was named twice.
    let by_device: BTreeMap<String, Bytes> = copies.into_iter().map(|copy| (copy.device_id, copy.json)).collect();
    let mut position = None;
    for (device_id, json) in by_device {
        let key = (user_id.localpart(), device_id.as_str());
        if txn.get(&DEVICE, domain, &key)?.is_none() {
            continue;
        }
        let mut state = txn.get(&DEVICE_STATE, domain, &key)?.unwrap_or_default();
        let bytes = state.bytes + json.len() as u64;
        if state.messages >= QUEUE_MESSAGES_MAX || bytes > QUEUE_BYTES_MAX {
            tracing::warn!(%user_id, device_id, "a postbox is full: a message to the device is lost");
            continue;
        }
        if is_crowded(&state) {
            let mut crowd = txn.get(&TO_DEVICE_CROWD, domain, &key)?.unwrap_or_default();
            // Another server has as many users as it likes, and counts as one.
            let who = match sender.server_name() == user_id.server_name() {
                true => sender.as_str(),
                false => sender.server_name().as_str(),
            };
            if !crowd.takes(who, json.len() as u64) {
                tracing::debug!(%user_id, device_id, peer = %sender, "somebody floods a postbox: a message to the device is lost");
                continue;
            }
            txn.put(&TO_DEVICE_CROWD, domain, &key, &crowd);
        }
        let position = *position.get_or_insert_with(|| txn.append(log::entry(domain, user_id, Kind::ToDevice, "")));
        state.messages += 1;
        state.bytes = bytes;
        txn.put(&DEVICE_STATE, domain, &key, &state);
        txn.put(&TO_DEVICE, domain, &(user_id.localpart(), device_id.as_str(), position.0), &json);
    }
    Ok(())
}

fn is_crowded(state: &DeviceStateRecord) -> bool {
    state.messages >= CROWD_MESSAGES || state.bytes >= CROWD_BYTES
}

impl CrowdRecord {
    /// Counts one more message, or says that its sender had their share.
    fn takes(&mut self, sender: &str, bytes: u64) -> bool {
        let is_full = self.senders.len() >= SENDERS_COUNTED_MAX;
        match self.senders.iter_mut().find(|one| one.sender == sender) {
            Some(one) if one.messages >= SENDER_MESSAGES_MAX || one.bytes + bytes > SENDER_BYTES_MAX => return false,
            Some(one) => (one.messages, one.bytes) = (one.messages + 1, one.bytes + bytes),
            None if is_full => {}
            None => self.senders.push(CrowdSenderRecord { sender: sender.to_owned(), messages: 1, bytes }),
        }
        true
    }
}

fn transaction_of(kind: &str, txn_id: &str) -> [u8; 16] {
    let digest = Sha256::new().chain_update(kind).chain_update([0]).chain_update(txn_id).finalize();
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest[..16]);
    hash
}
