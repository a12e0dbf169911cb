//! Messages between our devices and those of other servers.
//!
//! [SS-API §send-to-device-messaging] What goes out is written with the request that sends it, in a queue for each server,
//! and deleted when the server says that it has it: in order, through outages and restarts. What comes in is known by the
//! id that its server gave it, so that the same once more does nothing.

use std::collections::BTreeMap;

use base64::Engine as _;
use koine_store::{Direction, DomainId, StoreError, Txn, bytes::Bytes};
use ruma_common::{OwnedServerName, OwnedUserId, ServerName, UserId};
use serde_json::{json, value::RawValue};

use super::{
    tables::{OUTGOING, OUTGOING_STATE, RECEIVED, RECEIVED_NO, RECEIVED_STATE},
    to_device::{Recipient, SendToDeviceError, TO_DEVICE_TYPE_BYTES_MAX, ToDevice, deliver},
};
use crate::{
    Accounts, StoreUnavailable,
    log::{self, Kind},
};

/// How many units wait for one server at most; what comes then is lost, and the log tells.
pub const OUTGOING_UNITS_MAX: u64 = 100_000;
/// How many bytes wait for one server at most.
pub const OUTGOING_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How many ids of messages are remembered of one server.
pub const RECEIVED_MAX: u64 = 10_000;
/// Bytes of messages beyond which another unit is begun: some servers take none above 64 KiB.
const UNIT_BYTES: usize = 48 * 1024;
/// How long a message id may be. [SS-API §definition-mdirect_to_device]
const MESSAGE_ID_CHARS_MAX: usize = 32;

/// A unit that waits for a server.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its place in the queue.
    pub position: u64,
    /// The content of an `m.direct_to_device`, as JSON.
    pub content: Bytes,
}

/// Messages that another server sends. [SS-API §definition-mdirect_to_device]
#[derive(Debug)]
pub struct ReceivedMessages {
    /// Who sends them; of the server that they come from.
    pub sender: OwnedUserId,
    /// Their type.
    pub kind: String,
    /// What tells them from others of the server.
    pub message_id: String,
    /// By user and device, or `*` for all devices.
    pub messages: BTreeMap<OwnedUserId, BTreeMap<String, Box<RawValue>>>,
}

/// Content by user and device.
type ByDevice = BTreeMap<OwnedUserId, BTreeMap<String, Box<RawValue>>>;

/// Puts messages for other servers into units.
pub(super) struct Packer<'a> {
    sender: &'a UserId,
    kind: &'a str,
    open: BTreeMap<OwnedServerName, (ByDevice, usize)>,
    units: BTreeMap<OwnedServerName, Vec<Bytes>>,
}

impl<'a> Packer<'a> {
    pub(super) fn new(sender: &'a UserId, kind: &'a str) -> Self {
        Self { sender, kind, open: BTreeMap::new(), units: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, user_id: OwnedUserId, recipient: Recipient, content: Box<RawValue>) {
        let server = user_id.server_name().to_owned();
        let (messages, bytes) = self.open.entry(server.clone()).or_default();
        *bytes += content.get().len() + user_id.as_str().len();
        let device_id = match recipient {
            Recipient::Device(device_id) => device_id,
            Recipient::AllDevices => "*".to_owned(),
        };
        messages.entry(user_id).or_default().insert(device_id, content);
        if *bytes > UNIT_BYTES {
            self.close(&server);
        }
    }

    fn close(&mut self, server: &ServerName) {
        let Some((messages, _)) = self.open.remove(server) else { return };
        let id = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
        let content = json!({ "sender": self.sender, "type": self.kind, "message_id": id, "messages": messages });
        self.units.entry(server.to_owned()).or_default().push(content.to_string().into());
    }

    pub(super) fn finish(mut self) -> BTreeMap<OwnedServerName, Vec<Bytes>> {
        let open: Vec<_> = self.open.keys().cloned().collect();
        for server in open {
            self.close(&server);
        }
        self.units
    }
}

/// Queues units for a server.
pub(super) fn queue(
    txn: &mut Txn,
    domain: DomainId,
    sender: &UserId,
    (server, units): (&ServerName, Vec<Bytes>),
) -> Result<(), StoreError> {
    let mut state = txn.get(&OUTGOING_STATE, domain, server.as_str())?.unwrap_or_default();
    for unit in units {
        let bytes = state.bytes + unit.len() as u64;
        if state.units >= OUTGOING_UNITS_MAX || bytes > OUTGOING_BYTES_MAX {
            tracing::warn!(user_id = %sender, peer = %server, "too much waits for a server: messages to its devices are lost");
            break;
        }
        let position = txn.append(log::entry(domain, sender, Kind::Outgoing, server.to_string()));
        (state.units, state.bytes) = (state.units + 1, bytes);
        txn.put(&OUTGOING, domain, &(server.as_str(), position.0), &unit);
    }
    txn.put(&OUTGOING_STATE, domain, server.as_str(), &state);
    Ok(())
}

impl Accounts {
    /// Servers for which messages wait.
    pub fn servers_to_write_to(&self) -> Result<Vec<OwnedServerName>, StoreUnavailable> {
        let view = self.shard.view();
        let rows = view.scan(&OUTGOING_STATE, self.domain, .., Direction::Forward);
        let names = rows.map(|row| row.map(|(server, _)| server)).collect::<Result<Vec<_>, _>>()?;
        Ok(names.into_iter().filter_map(|server| OwnedServerName::try_from(server).ok()).collect())
    }

    /// What waits for a server, oldest first, at most `limit` units of at most `bytes` in all, but one in any case.
    pub fn outgoing(&self, server: &ServerName, limit: usize, bytes: usize) -> Result<Vec<Outgoing>, StoreUnavailable> {
        let (mut found, mut size): (Vec<Outgoing>, usize) = (Vec::new(), 0);
        let view = self.shard.view();
        for row in view.prefix(&OUTGOING, self.domain, &(server.as_str(),), Direction::Forward).take(limit) {
            let ((_, position), content) = row?;
            size += content.len();
            if size > bytes && !found.is_empty() {
                break;
            }
            found.push(Outgoing { position, content });
        }
        Ok(found)
    }

    /// The server has these: they wait no longer.
    pub async fn outgoing_done(&self, server: &ServerName, positions: Vec<u64>) -> Result<(), StoreUnavailable> {
        let (domain, server) = (self.domain, server.to_owned());
        let commit = move |txn: &mut Txn| -> Result<(), StoreError> {
            let mut state = txn.get(&OUTGOING_STATE, domain, server.as_str())?.unwrap_or_default();
            for position in positions {
                let key = (server.as_str(), position);
                let Some(unit) = txn.get(&OUTGOING, domain, &key)? else { continue };
                txn.delete(&OUTGOING, domain, &key);
                state.units = state.units.saturating_sub(1);
                state.bytes = state.bytes.saturating_sub(unit.len() as u64);
            }
            match state.units {
                0 => txn.delete(&OUTGOING_STATE, domain, server.as_str()),
                _ => txn.put(&OUTGOING_STATE, domain, server.as_str(), &state),
            }
            Ok(())
        };
        Ok(self.change(commit).await??)
    }

    /// Puts what another server sends into the postboxes of our devices. `false`: it had come before.
    ///
    /// # Errors
    /// What is no message, too large or too much; nothing was delivered then.
    pub async fn receive_to_device(
        &self,
        origin: &ServerName,
        received: ReceivedMessages,
    ) -> Result<bool, SendToDeviceError> {
        let ReceivedMessages { sender, kind, message_id, messages } = received;
        if kind.len() > TO_DEVICE_TYPE_BYTES_MAX || message_id.chars().count() > MESSAGE_ID_CHARS_MAX {
            return Err(SendToDeviceError::NameTooLong(kind.len().max(message_id.len())));
        }
        let messages = messages.into_iter().filter(|(user_id, _)| self.is_local(user_id));
        let messages = messages.flat_map(|(user_id, devices)| {
            devices.into_iter().map(move |(device_id, content)| (user_id.clone(), Recipient::of(device_id), content))
        });
        let sent = ToDevice { kind, txn_id: message_id.clone(), messages: messages.collect() };
        let (copies, _) = self.copies(&sender, sent)?;
        if copies.values().all(Vec::is_empty) {
            return Ok(true);
        }
        let (domain, origin) = (self.domain, origin.to_string());
        let commit = move |txn: &mut Txn| -> Result<bool, StoreError> {
            let key = (origin.clone(), message_id);
            if txn.get(&RECEIVED, domain, &key)?.is_some() {
                return Ok(false);
            }
            let number = txn.get(&RECEIVED_STATE, domain, origin.as_str())?.unwrap_or(0);
            if let Some(old) = number.checked_sub(RECEIVED_MAX) {
                let old = (origin.clone(), old);
                if let Some(message_id) = txn.get(&RECEIVED_NO, domain, &old)? {
                    txn.delete(&RECEIVED, domain, &(origin.clone(), message_id));
                }
                txn.delete(&RECEIVED_NO, domain, &old);
            }
            txn.put(&RECEIVED, domain, &key, &number);
            txn.put(&RECEIVED_NO, domain, &(origin.clone(), number), &key.1);
            txn.put(&RECEIVED_STATE, domain, origin.as_str(), &(number + 1));
            for (user_id, copies) in copies {
                deliver(txn, domain, (&sender, &user_id), copies)?;
            }
            Ok(true)
        };
        self.change(commit).await?.map_err(|error| SendToDeviceError::Store(error.into()))
    }
}
