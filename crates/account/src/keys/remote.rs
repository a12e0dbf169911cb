//! What is remembered of the keys of users of other servers, so that not each question of a client travels.
//!
//! [SS-API §device-management] What is remembered holds as long as we share a room with the user: their server tells us
//! each change, and each change names the one before it, so that a gap shows. Whether a room was shared without a break
//! since their server was asked is for the caller to know; if not, what is remembered is not used.
//!
//! Nothing is remembered of whom nobody asked for. Everything here was written by another server: sizes and names are
//! checked, signatures are not, since only clients know whom they trust.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use koine_store::{Direction, DomainId, KeyRange, Position, StoreError, Txn};
use parking_lot::Mutex;
use ruma_common::{CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, UserId};

use super::{
    changes::note_change,
    cross_signing::{checked, public_key},
    device_keys::{DEVICE_KEYS_BYTES_MAX, UserKeys},
    signed,
    tables::{REMOTE_DEVICE, REMOTE_USER, RemoteDeviceRecord, RemoteUserRecord, SIGNATURE},
};
use crate::{Accounts, StoreUnavailable, keys::cross_signing::Usage, session::DEVICE_NAME_CHARS_MAX};

/// Devices remembered of one user; those beyond are left out.
pub const REMOTE_DEVICES_MAX: usize = 1_000;
/// Bytes of device keys remembered of one user.
const REMOTE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Questions remembered before those that nobody waits for are thrown out.
const FLIGHTS_KEPT: usize = 4_096;

/// The devices of a user of another server, as that server told them.
#[derive(Clone, Debug, Default)]
pub struct RemoteDevices {
    /// The newest change that is part of it, if the server told.
    pub stream_id: Option<u64>,
    /// Device id, keys, display name.
    pub devices: Vec<(String, CanonicalJsonObject, Option<String>)>,
    /// Cross-signing key.
    pub master: Option<CanonicalJsonObject>,
    /// Cross-signing key.
    pub self_signing: Option<CanonicalJsonObject>,
}

/// A change of one device, as its user's server told it.
#[derive(Clone, Debug)]
pub struct RemoteChange {
    /// Whose device.
    pub user_id: OwnedUserId,
    /// Which.
    pub device_id: String,
    /// The number of the change.
    pub stream_id: u64,
    /// The numbers of those before it.
    pub previous: Vec<u64>,
    /// The device is gone.
    pub is_deleted: bool,
    /// What it is called.
    pub display_name: Option<String>,
    /// Its keys.
    pub keys: Option<CanonicalJsonObject>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteOutcome {
    /// Nothing is different from before.
    Same,
    /// What is remembered was brought up to date, or nothing is.
    Noted,
    /// Changes before it are missing: what is remembered is out of date until the server is asked.
    Gap,
}

/// Questions under way, one for a user at a time.
#[derive(Default)]
pub(crate) struct Flights(Mutex<HashMap<OwnedUserId, Arc<Flight>>>);

/// A question under way.
#[derive(Default)]
pub(crate) struct Flight {
    /// Held by who asks; the others wait for the same answer.
    pub(crate) gate: tokio::sync::Mutex<()>,
    /// The greatest change that was told meanwhile: an answer without it is out of date.
    told: AtomicU64,
}

impl Flights {
    pub(crate) fn of(&self, user_id: &UserId) -> Arc<Flight> {
        let mut all = self.0.lock();
        if all.len() > FLIGHTS_KEPT {
            // Of whoever asked and did not wait for the answer.
            all.retain(|_, flight| Arc::strong_count(flight) > 1);
        }
        all.entry(user_id.to_owned()).or_default().clone()
    }

    /// Forgets the flight if nobody else is on it.
    pub(crate) fn land(&self, user_id: &UserId, flight: &Arc<Flight>) {
        let mut all = self.0.lock();
        // Ours and the one in the map.
        if Arc::strong_count(flight) <= 2 {
            all.remove(user_id);
        }
    }

    fn told(&self, user_id: &UserId, stream_id: u64) {
        if let Some(flight) = self.0.lock().get(user_id) {
            flight.told.fetch_max(stream_id, Ordering::AcqRel);
        }
    }
}

impl Accounts {
    /// What is remembered of a user's keys, as `asker` may see it, if it is up to date and as old as the room that they
    /// have shared since `shared_since`.
    pub(crate) fn remembered(
        &self,
        asker: &UserId,
        user_id: &UserId,
        devices: &[String],
        shared_since: Position,
    ) -> Result<Option<UserKeys>, StoreUnavailable> {
        let list = self.remembered_list(user_id, shared_since)?;
        list.map(|list| self.shown(asker, user_id, devices, list)).transpose()
    }

    /// The same before it is shown to somebody.
    pub(crate) fn remembered_list(
        &self,
        user_id: &UserId,
        shared_since: Position,
    ) -> Result<Option<RemoteDevices>, StoreUnavailable> {
        let Some(known) = self.shard.get(&REMOTE_USER, self.domain, user_id.as_str())? else { return Ok(None) };
        if known.is_stale || known.asked < shared_since.0 {
            return Ok(None);
        }
        let mut list = RemoteDevices { stream_id: known.stream, ..RemoteDevices::default() };
        let view = self.shard.view();
        for row in view.prefix(&REMOTE_DEVICE, self.domain, &(user_id.as_str(),), Direction::Forward) {
            let ((_, device_id), record) = row?;
            list.devices.push((device_id, signed::parse(&record.keys)?, record.name));
        }
        list.master = known.master.map(|json| signed::parse(&json)).transpose()?;
        list.self_signing = known.self_signing.map(|json| signed::parse(&json)).transpose()?;
        Ok(Some(list))
    }

    /// A list as `asker` may see it: with their own signatures, and of the devices named, or all if none is.
    pub(crate) fn shown(
        &self,
        asker: &UserId,
        user_id: &UserId,
        devices: &[String],
        list: RemoteDevices,
    ) -> Result<UserKeys, StoreUnavailable> {
        let is_wanted = |device_id: &String| devices.is_empty() || devices.contains(device_id);
        let mut keys = UserKeys { self_signing: list.self_signing, ..UserKeys::default() };
        for (device_id, mut device, name) in list.devices.into_iter().filter(|(device_id, ..)| is_wanted(device_id)) {
            let mut unsigned = CanonicalJsonObject::new();
            if let Some(name) = name {
                unsigned.insert("device_display_name".to_owned(), name.into());
            }
            device.insert("unsigned".to_owned(), CanonicalJsonValue::Object(unsigned));
            keys.devices.push((device_id, device));
        }
        if let Some(mut master) = list.master {
            // Whom the asker has met is known to the asker's server alone.
            let public = public_key(&master).unwrap_or_default().to_owned();
            let row = (user_id.as_str(), public.as_str(), asker.as_str());
            for row in self.shard.view().prefix(&SIGNATURE, self.domain, &row, Direction::Forward) {
                let ((_, _, signer, key_id), signature) = row?;
                signed::add_signature(&mut master, signer, key_id, signature);
            }
            keys.master = Some(master);
        }
        Ok(keys)
    }

    /// Remembers what a user's server answered when it was asked at `asked`.
    pub(crate) async fn remember(
        &self,
        user_id: &UserId,
        asked: Position,
        flight: &Arc<Flight>,
        list: &RemoteDevices,
    ) -> Result<(), StoreUnavailable> {
        let (domain, user, flight) = (self.domain, user_id.to_owned(), flight.clone());
        let rows: Vec<(String, RemoteDeviceRecord)> = list
            .devices
            .iter()
            .map(|(id, keys, name)| {
                (id.clone(), RemoteDeviceRecord { keys: signed::canonical(keys), name: name.clone() })
            })
            .collect();
        let (stream, master) = (list.stream_id, list.master.as_ref().map(signed::canonical));
        let self_signing = list.self_signing.as_ref().map(signed::canonical);
        let commit = move |txn: &mut Txn| -> Result<(), StoreUnavailable> {
            let old = txn.get(&REMOTE_USER, domain, user.as_str())?;
            if let Some(old) = &old {
                forget_signatures(txn, domain, &user, old.master.as_deref(), master.as_deref())?;
            }
            txn.delete_range(&REMOTE_DEVICE, domain, KeyRange::prefix(&(user.as_str(),)))?;
            // A change that was told while the question was under way may not be part of the answer.
            let is_stale = flight.told.swap(0, Ordering::AcqRel) > stream.unwrap_or(0);
            let record = RemoteUserRecord { stream, asked: asked.0, is_stale, master, self_signing };
            txn.put(&REMOTE_USER, domain, user.as_str(), &record);
            for (device_id, record) in rows {
                txn.put(&REMOTE_DEVICE, domain, &(user.as_str(), device_id.as_str()), &record);
            }
            Ok(())
        };
        self.change(commit).await?
    }

    /// Takes a change of a device of a user of another server, and tells those who share a room with the user.
    /// [SS-API §definition-mdevice_list_update]
    pub async fn remote_device_changed(&self, change: RemoteChange) -> Result<RemoteOutcome, StoreUnavailable> {
        self.flights.told(&change.user_id, change.stream_id);
        let keys = change.keys.filter(|_| !change.is_deleted);
        let keys = keys.and_then(|keys| checked_device(keys, &change.user_id, &change.device_id));
        let record = keys.map(|keys| RemoteDeviceRecord {
            keys: signed::canonical(&keys),
            name: change.display_name.map(|name| name.chars().take(DEVICE_NAME_CHARS_MAX).collect()),
        });
        let RemoteChange { user_id, device_id, stream_id, previous, is_deleted, .. } = change;
        let domain = self.domain;
        let commit = move |txn: &mut Txn| -> Result<RemoteOutcome, StoreError> {
            let Some(mut known) = txn.get(&REMOTE_USER, domain, user_id.as_str())? else {
                // Nobody asked yet, or what was remembered is gone. A device without keys is none to anybody.
                if record.is_none() && !is_deleted {
                    return Ok(RemoteOutcome::Same);
                }
                note_change(txn, domain, &user_id, None)?;
                return Ok(RemoteOutcome::Noted);
            };
            if known.is_stale {
                note_change(txn, domain, &user_id, None)?;
                return Ok(RemoteOutcome::Gap);
            }
            if known.stream.is_some_and(|stream| stream_id <= stream) {
                return Ok(RemoteOutcome::Same);
            }
            let follows = known.stream.is_some_and(|stream| previous.contains(&stream));
            let row = (user_id.to_string(), device_id);
            let old = txn.get(&REMOTE_DEVICE, domain, &row)?;
            let is_full = old.is_none()
                && record.is_some()
                && txn.scan(&REMOTE_DEVICE, domain, KeyRange::prefix(&(user_id.as_str(),)))?.len()
                    >= REMOTE_DEVICES_MAX;
            if !follows || is_full {
                known.is_stale = true;
                txn.put(&REMOTE_USER, domain, user_id.as_str(), &known);
                note_change(txn, domain, &user_id, None)?;
                return Ok(RemoteOutcome::Gap);
            }
            known.stream = Some(stream_id);
            txn.put(&REMOTE_USER, domain, user_id.as_str(), &known);
            if old == record {
                return Ok(RemoteOutcome::Same);
            }
            match &record {
                Some(record) => txn.put(&REMOTE_DEVICE, domain, &row, record),
                None => txn.delete(&REMOTE_DEVICE, domain, &row),
            }
            note_change(txn, domain, &user_id, None)?;
            Ok(RemoteOutcome::Noted)
        };
        Ok(self.change(commit).await??)
    }

    /// Takes new cross-signing keys of a user of another server; those that are not told stay.
    /// [SS-API §definition-msigning_key_update]
    pub async fn remote_signing_keys(
        &self,
        user_id: &UserId,
        master: Option<CanonicalJsonObject>,
        self_signing: Option<CanonicalJsonObject>,
    ) -> Result<(), StoreUnavailable> {
        // It has no number: whatever is under way may be without it.
        self.flights.told(user_id, u64::MAX);
        let check = |key: Option<CanonicalJsonObject>, usage| checked(key?, user_id, usage).ok();
        let master = check(master, Usage::Master).map(|key| signed::canonical(&key));
        let self_signing = check(self_signing, Usage::SelfSigning).map(|key| signed::canonical(&key));
        if master.is_none() && self_signing.is_none() {
            return Ok(());
        }
        let (domain, user) = (self.domain, user_id.to_owned());
        let commit = move |txn: &mut Txn| -> Result<(), StoreUnavailable> {
            if let Some(mut known) = txn.get(&REMOTE_USER, domain, user.as_str())? {
                let is_other = |old: &Option<String>, new: &Option<String>| new.is_some() && old != new;
                if !is_other(&known.master, &master) && !is_other(&known.self_signing, &self_signing) {
                    return Ok(());
                }
                if master.is_some() {
                    forget_signatures(txn, domain, &user, known.master.as_deref(), master.as_deref())?;
                    known.master = master;
                }
                known.self_signing = self_signing.or(known.self_signing);
                txn.put(&REMOTE_USER, domain, user.as_str(), &known);
            }
            Ok(note_change(txn, domain, &user, None)?)
        };
        self.change(commit).await?
    }

    /// Forgets what is remembered of a user: they share a room less with us, maybe the last.
    pub async fn forget_remote(&self, user_id: &UserId) -> Result<(), StoreUnavailable> {
        if self.is_local(user_id) || self.shard.get(&REMOTE_USER, self.domain, user_id.as_str())?.is_none() {
            return Ok(());
        }
        let (domain, user) = (self.domain, user_id.to_owned());
        let commit = move |txn: &mut Txn| -> Result<(), StoreError> {
            txn.delete(&REMOTE_USER, domain, user.as_str());
            txn.delete_range(&REMOTE_DEVICE, domain, KeyRange::prefix(&(user.as_str(),)))?;
            Ok(())
        };
        Ok(self.change(commit).await??)
    }

    /// Whether something is remembered of the user that is known to be out of date.
    pub(crate) fn is_out_of_date(&self, user_id: &UserId) -> Result<bool, StoreUnavailable> {
        let known = self.shard.get(&REMOTE_USER, self.domain, user_id.as_str())?;
        Ok(known.is_some_and(|known| known.is_stale))
    }
}

/// Another master key: what people here signed of the old one is of no use.
fn forget_signatures(
    txn: &mut Txn,
    domain: DomainId,
    user_id: &UserId,
    old: Option<&str>,
    new: Option<&str>,
) -> Result<(), StoreUnavailable> {
    let Some(old) = old.map(signed::parse).transpose()? else { return Ok(()) };
    let new = new.map(signed::parse).transpose()?;
    let public = public_key(&old);
    if let Some(public) = public.filter(|public| new.as_ref().and_then(public_key) != Some(public)) {
        txn.delete_range(&SIGNATURE, domain, KeyRange::prefix(&(user_id.as_str(), public)))?;
    }
    Ok(())
}

/// What another server told of a user, without what is not this user's, too large or too much.
pub(crate) fn checked_list(user_id: &UserId, list: RemoteDevices) -> RemoteDevices {
    let mut bytes = 0;
    let devices = list.devices.into_iter().filter_map(|(device_id, keys, name)| {
        let keys = checked_device(keys, user_id, &device_id)?;
        bytes += signed::canonical(&keys).len();
        let name = name.map(|name| name.chars().take(DEVICE_NAME_CHARS_MAX).collect());
        (bytes <= REMOTE_BYTES_MAX).then_some((device_id, keys, name))
    });
    let devices = devices.take(REMOTE_DEVICES_MAX).collect();
    let check = |key: Option<CanonicalJsonObject>, usage| checked(key?, user_id, usage).ok();
    RemoteDevices {
        stream_id: list.stream_id,
        devices,
        master: check(list.master, Usage::Master),
        self_signing: check(list.self_signing, Usage::SelfSigning),
    }
}

fn checked_device(mut keys: CanonicalJsonObject, user_id: &UserId, device_id: &str) -> Option<CanonicalJsonObject> {
    keys.remove("unsigned");
    let is_theirs = signed::text(&keys, "user_id") == Some(user_id.as_str())
        && signed::text(&keys, "device_id") == Some(device_id)
        && keys.get("keys").is_some_and(CanonicalJsonValue::is_object);
    (is_theirs && signed::canonical(&keys).len() <= DEVICE_KEYS_BYTES_MAX).then_some(keys)
}
