//! What of all that happens concerns an application service: its namespaces, against the log.
//!
//! [AS-API §registration] A service is told of its users, of the rooms that are its own, that have an alias of its own, and
//! of those that one of its users is in. Messages to devices and news of device lists go to services whose registration asks
//! for them. [MSC3202] [MSC4203]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use koine_account::{Kind as AccountKind, user_of};
use koine_graph::ClientForm;
use koine_room::{Kind, Membership, Placed, ReadError, ReceiptType, Room, RoomNo, Root, room_of};
use koine_store::{LogEntry, Position};
use ruma_common::{OwnedDeviceId, OwnedUserId, UserId};
use serde_json::{Map, Value, json, value::RawValue};

use super::services::Service;
use crate::{Api, Result, keys::one_time_key_counts};

/// Rooms of which it is remembered whether they concern the service.
const ROOMS_REMEMBERED_MAX: usize = 10_000;
/// Rooms of somebody that are looked at to learn whether one of them concerns the service.
const ROOMS_LOOK_MAX: usize = 1_000;
/// Most people of a room whose devices are told of as changed when a user of the service comes in or goes.
const PEOPLE_TOLD_MAX: usize = 10_000;
/// Most messages to a device that one entry of the log can stand for.
const MESSAGES_MAX: usize = 100;

/// What a service is told at once.
#[derive(Default)]
pub(super) struct Transaction {
    pub(super) events: Vec<Box<RawValue>>,
    pub(super) ephemeral: Vec<Value>,
    to_device: Vec<Value>,
    /// Whose devices are to be asked for anew.
    changed: BTreeSet<OwnedUserId>,
    /// Whose are to be forgotten.
    left: BTreeSet<OwnedUserId>,
    /// Users of the service whose keys are counted for it.
    counted: BTreeSet<OwnedUserId>,
    /// Devices whose messages are in here, up to these places.
    delivered: BTreeMap<(OwnedUserId, OwnedDeviceId), Position>,
    /// Up to here in the log.
    pub(super) to: Position,
}

/// A service, and what is known of the rooms that concern it.
pub(super) struct Interest {
    pub(super) service: Service,
    /// Whether a room concerns the service, as long as its state is this.
    concerned: HashMap<RoomNo, (Root, bool)>,
}

impl Transaction {
    /// There is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.ephemeral.is_empty()
            && self.to_device.is_empty()
            && self.changed.is_empty()
            && self.left.is_empty()
    }

    /// [AS-API §put_matrixappv1transactionstxnid]
    pub(super) fn body(&self, api: &Api, service: &Service) -> Result<Value> {
        let mut body = json!({ "events": self.events });
        if !self.ephemeral.is_empty() {
            // COMPAT(bridges from before Matrix 1.13): the unstable name.
            for name in ["ephemeral", "de.sorunome.msc2409.ephemeral"] {
                body[name] = json!(self.ephemeral);
            }
        }
        if !self.to_device.is_empty() {
            body["de.sorunome.msc2409.to_device"] = json!(self.to_device);
        }
        if service.wants_devices {
            if !(self.changed.is_empty() && self.left.is_empty()) {
                body["org.matrix.msc3202.device_lists"] = json!({ "changed": self.changed, "left": self.left });
            }
            let (keys, fallbacks) = self.key_counts(api, service)?;
            body["org.matrix.msc3202.device_one_time_keys_count"] = keys;
            body["org.matrix.msc3202.device_unused_fallback_key_types"] = fallbacks;
        }
        Ok(body)
    }

    /// One-time keys and fallback keys of the users that this tells of, and of the one that the service acts as.
    fn key_counts(&self, api: &Api, service: &Service) -> Result<(Value, Value)> {
        let (mut keys, mut fallbacks) = (Map::new(), Map::new());
        for user in self.counted.iter().chain([&service.sender]) {
            let (mut of_user, mut unused) = (Map::new(), Map::new());
            for device in api.accounts.devices(user)? {
                let state = api.accounts.device_state(user, &device.device_id)?;
                of_user.insert(device.device_id.to_string(), json!(one_time_key_counts(&state.one_time_keys)));
                unused.insert(device.device_id.to_string(), json!(state.unused_fallback_keys));
            }
            if !of_user.is_empty() {
                keys.insert(user.to_string(), of_user.into());
                fallbacks.insert(user.to_string(), unused.into());
            }
        }
        Ok((keys.into(), fallbacks.into()))
    }

    /// The service has it all: what waited for its devices need not wait any more.
    pub(super) fn taken(&self, api: &Api) -> Result<()> {
        for ((user, device), up_to) in &self.delivered {
            let postbox = api.accounts.postbox((user, device), *up_to, *up_to, MESSAGES_MAX)?;
            api.accounts.throw_away_acknowledged(user, device, &postbox);
        }
        Ok(())
    }
}

impl Interest {
    pub(super) fn of(service: Service) -> Self {
        Self { service, concerned: HashMap::new() }
    }

    /// Puts what an entry of the log tells into a transaction, if it concerns the service.
    pub(super) fn look_at(
        &mut self,
        api: &Api,
        position: Position,
        entry: &LogEntry,
        transaction: &mut Transaction,
    ) -> Result<()> {
        if let Some(kind) = AccountKind::of(entry.kind) {
            let Some(user) = user_of(&entry.subject) else { return Ok(()) };
            return match kind {
                AccountKind::ToDevice => self.messages(api, position, user, transaction),
                AccountKind::Keys if self.service.wants_devices && self.concerns_person(api, &user)? => {
                    transaction.changed.insert(user);
                    Ok(())
                }
                _ => Ok(()),
            };
        }
        let (Some(kind), Some(no)) = (Kind::of(entry.kind), room_of(&entry.subject)) else { return Ok(()) };
        if !matches!(kind, Kind::Event | Kind::Receipt | Kind::PrivateReceipt) {
            return Ok(());
        }
        let room = match api.rooms.room_by_no(no) {
            Err(ReadError::NoSuchRoom) => return Ok(()),
            other => other?,
        };
        let order = i64::try_from(position.0).unwrap_or(i64::MAX);
        if kind != Kind::Event {
            let reader = std::str::from_utf8(&entry.body).ok().and_then(|reader| <&UserId>::try_from(reader).ok());
            let Some(reader) = reader.filter(|_| self.service.wants_ephemeral) else { return Ok(()) };
            // [AS-API §pushing-ephemeral-data] What is private to its reader is told to the reader's own service alone.
            let wanted = match kind {
                Kind::PrivateReceipt => self.owns(api, reader),
                _ => self.concerns(api, &room)?,
            };
            if wanted {
                transaction.ephemeral.extend(receipt(&room, order, reader, kind == Kind::PrivateReceipt)?);
            }
            return Ok(());
        }
        let Some(placed) = room.event_at(order)?.filter(|placed| placed.order == order) else { return Ok(()) };
        if self.wants(api, &room, &placed)? {
            transaction.events.extend(shown(&room, &placed)?);
        }
        if self.service.wants_devices && placed.event.kind() == "m.room.member" {
            self.moved(api, &room, &placed, transaction)?;
        }
        Ok(())
    }

    /// Whether somebody is a user of the service: only people of this server can be.
    fn owns(&self, api: &Api, user: &UserId) -> bool {
        api.accounts.is_local(user) && self.service.has_user(user)
    }

    fn wants(&mut self, api: &Api, room: &Room, placed: &Placed) -> Result<bool> {
        let event = &placed.event;
        let target = event.state_key().filter(|_| event.kind() == "m.room.member");
        let target = target.and_then(|target| <&UserId>::try_from(target).ok());
        if self.owns(api, event.sender()) || target.is_some_and(|target| self.owns(api, target)) {
            return Ok(true);
        }
        self.concerns(api, room)
    }

    /// Whether a room is the service's, has an alias of its, or one of its users in it. Looked at when the state changes.
    pub(super) fn concerns(&mut self, api: &Api, room: &Room) -> Result<bool> {
        if self.service.has_room(room.id().as_str()) {
            return Ok(true);
        }
        let state = room.published().state;
        if let Some((known, concerns)) = self.concerned.get(&room.no())
            && *known == state
        {
            return Ok(*concerns);
        }
        let has_user = room.local_joined().iter().any(|user| self.service.has_user(user));
        let has_alias = || -> Result<bool> {
            let aliases = api.rooms.aliases(room.id())?;
            Ok(aliases.iter().any(|alias| self.service.has_alias(alias.as_str())))
        };
        let concerns = has_user || has_alias()?;
        if self.concerned.len() >= ROOMS_REMEMBERED_MAX {
            self.concerned.clear();
        }
        self.concerned.insert(room.no(), (state, concerns));
        Ok(concerns)
    }

    /// Whether somebody is a user of the service, or in a room that concerns it.
    pub(super) fn concerns_person(&mut self, api: &Api, user: &UserId) -> Result<bool> {
        if self.owns(api, user) {
            return Ok(true);
        }
        for no in api.rooms.rooms_of(user)?.into_iter().take(ROOMS_LOOK_MAX) {
            let room = match api.rooms.room_by_no(no) {
                Err(ReadError::NoSuchRoom) => continue,
                other => other?,
            };
            if self.concerns(api, &room)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Messages to the devices of a user of the service. [MSC4203]
    fn messages(&self, api: &Api, position: Position, user: OwnedUserId, transaction: &mut Transaction) -> Result<()> {
        if !self.service.wants_ephemeral || !self.owns(api, &user) {
            return Ok(());
        }
        let before = Position(position.0.saturating_sub(1));
        for device in api.accounts.devices(&user)? {
            let postbox = api.accounts.postbox((&user, &device.device_id), before, position, MESSAGES_MAX)?;
            for message in &postbox.messages {
                let Ok(mut message) = serde_json::from_slice::<Value>(message) else { continue };
                message["to_user_id"] = json!(user);
                message["to_device_id"] = json!(device.device_id);
                transaction.to_device.push(message);
                transaction.delivered.insert((user.clone(), device.device_id.clone()), position);
            }
        }
        transaction.counted.insert(user);
        Ok(())
    }

    /// Somebody came to share a room with users of the service, or shares none any more. [MSC3202]
    fn moved(&mut self, api: &Api, room: &Arc<Room>, placed: &Placed, transaction: &mut Transaction) -> Result<()> {
        let target = placed.event.state_key().and_then(|target| <&UserId>::try_from(target).ok());
        let Some(target) = target else { return Ok(()) };
        let was = room.is_joined_in(placed.state_before, target)?;
        let is = room.is_joined_in(placed.state_after, target)?;
        if was == is {
            return Ok(());
        }
        let is_own = self.owns(api, target);
        let people = match is_own {
            true => {
                transaction.counted.insert(target.to_owned());
                let state = if is { placed.state_after } else { placed.state_before };
                let mut people = room.moves(Root::EMPTY, state)?.came;
                people.truncate(PEOPLE_TOLD_MAX);
                people
            }
            false => vec![target.to_owned()],
        };
        if is && (is_own || self.concerns(api, room)?) {
            transaction.changed.extend(people);
            return Ok(());
        }
        for person in people {
            if !is && !self.concerns_person(api, &person)? {
                transaction.left.insert(person);
            }
        }
        Ok(())
    }
}

/// [AS-API §put_matrixappv1transactionstxnid] In the client's form; an invitation with the state that its target sees.
fn shown(room: &Room, placed: &Placed) -> Result<Option<Box<RawValue>>> {
    let event = &placed.event;
    let mut unsigned = Map::new();
    if event.kind() == "m.room.member"
        && let Some(target) = event.state_key().and_then(|target| <&UserId>::try_from(target).ok())
        && let Some(record) = room.local_record(target).filter(|record| record.membership == Membership::Invite)
        && record.order == placed.order
    {
        unsigned.insert("invite_room_state".to_owned(), json!(room.shown_to(target, &record)?));
    }
    let unsigned = RawValue::from_string(Value::Object(unsigned).to_string()).ok();
    let mut json = Vec::with_capacity(event.json().len() + 64);
    event.write_client_json(room.rules(), ClientForm::Full, unsigned.as_deref(), &mut json);
    Ok(String::from_utf8(json).ok().and_then(|json| RawValue::from_string(json).ok()))
}

/// [CS-API §mreceipt]
fn receipt(room: &Room, order: i64, reader: &UserId, is_private: bool) -> Result<Option<Value>> {
    let wanted = if is_private { ReceiptType::ReadPrivate } else { ReceiptType::Read };
    let mut content: BTreeMap<String, Value> = BTreeMap::new();
    for receipt in room.receipts_after(reader, Some(order - 1), order)? {
        if receipt.user != reader || receipt.kind != wanted {
            continue;
        }
        let mut data = json!({ "ts": receipt.ts });
        if let Some(thread) = &receipt.thread {
            data["thread_id"] = json!(thread);
        }
        content.insert(receipt.event_id.to_string(), json!({ wanted.as_str(): { reader.as_str(): data } }));
    }
    let edu = || json!({ "type": "m.receipt", "room_id": room.id(), "content": content });
    Ok((!content.is_empty()).then(edu))
}
