//! Telling an application service what happens, in order and until it says that it knows.
//!
//! [AS-API §pushing-events] One reader of the log for each service, with a place that moves when a transaction was taken. The
//! part of the log that a transaction tells of is written down before it is sent, so that after a restart it is sent again
//! under the same id, and what was there is not told twice. [AS-API §pushing-ephemeral-data] receipts go with it.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use http::Method;
use koine_graph::ClientForm;
use koine_net::WebRequest;
use koine_room::{Kind, Membership, Placed, ReadError, Room, RoomNo, Root, room_of};
use koine_store::{LogEntry, Position, Space, Table, TableInfo};
use ruma_common::UserId;
use serde_json::{Map, Value, json, value::RawValue};

use super::services::{LIMITS, Service};
use crate::{Api, api::WeakApi};

/// By the id of a service: the log that the transaction under way tells of, from and to.
pub(crate) const UNDER_WAY: Table<String, (u64, u64)> = Table::new("appservice.under_way", Space::Ephemeral, 0x98);

/// All tables here, for the test that no two of the server share rows.
pub const TABLES: &[TableInfo] = &[UNDER_WAY.info()];

/// Most events of one transaction.
const EVENTS_MAX: usize = 100;
/// Most entries read from the log at once.
const BATCH: usize = 512;
/// How often our place is written down while there is nothing to tell.
const SAVE_EVERY: u64 = 10_000;
/// The first wait after a failure; doubled with every further one.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(5 * 60);
/// Rooms of which it is remembered whether they concern the service.
const ROOMS_REMEMBERED_MAX: usize = 10_000;

/// What a service is told at once.
#[derive(Default)]
struct Transaction {
    events: Vec<Box<RawValue>>,
    ephemeral: Vec<Value>,
    /// Up to here in the log.
    to: Position,
}

struct Reader {
    service: Service,
    cursor: String,
    place: Position,
    saved: Position,
    /// Whether a room concerns the service, as long as its state is this.
    concerned: HashMap<RoomNo, (Root, bool)>,
}

pub(super) async fn run(weak: WeakApi, service: Service) {
    if service.url.is_none() {
        return;
    }
    let Some(api) = weak.upgrade() else { return };
    let mut grown = api.rooms.shard().watch();
    let mut reader = match Reader::open(&api, service) {
        Ok(reader) => reader,
        Err(error) => {
            tracing::error!(reason = %error, "an application service cannot be told anything");
            return;
        }
    };
    drop(api);
    grown.mark_changed();
    while grown.changed().await.is_ok() {
        if reader.follow(&weak).await.is_none() {
            return;
        }
    }
}

impl Reader {
    fn open(api: &Api, service: Service) -> Result<Self, ReadError> {
        let cursor = format!("appservice/{}", service.id);
        let view = api.rooms.shard().view();
        // A service that is new is not told what happened before.
        let place = view.cursor(&cursor)?.unwrap_or(view.position());
        Ok(Self { service, cursor, place, saved: Position(0), concerned: HashMap::new() })
    }

    /// Tells everything there is; `None` when nobody is left to do it for.
    async fn follow(&mut self, weak: &WeakApi) -> Option<()> {
        loop {
            let api = weak.upgrade()?;
            let transaction = match self.next(&api) {
                Ok(Some(transaction)) => transaction,
                Ok(None) => return Some(()),
                Err(error) => {
                    tracing::error!(service = self.service.id, reason = %error, "the log cannot be read for an application service");
                    return Some(());
                }
            };
            let to = transaction.to;
            if transaction.events.is_empty() && transaction.ephemeral.is_empty() {
                self.place = to;
                if to.0 > self.saved.0 + SAVE_EVERY {
                    self.save(&api, to).await;
                }
                continue;
            }
            if !self.begin(&api, to).await {
                return Some(());
            }
            let mut body = json!({ "events": transaction.events });
            if !transaction.ephemeral.is_empty() {
                // COMPAT(bridges from before Matrix 1.13): the unstable name.
                for name in ["ephemeral", "de.sorunome.msc2409.ephemeral"] {
                    body[name] = json!(transaction.ephemeral);
                }
            }
            let body = body.to_string();
            drop(api);
            self.send(weak, to, &body).await?;
            let api = weak.upgrade()?;
            self.save(&api, to).await;
            self.place = to;
        }
    }

    /// What comes next, at most so much as one transaction holds; `None` at the end of the log.
    fn next(&mut self, api: &Api) -> Result<Option<Transaction>, ReadError> {
        let shard = api.rooms.shard();
        let under_way = shard.get(&UNDER_WAY, api.rooms.domain(), self.service.id.as_str())?;
        let until = under_way.filter(|(from, _)| *from == self.place.0).map(|(_, to)| to);
        let entries = shard.log_after(self.place, BATCH)?;
        if entries.is_empty() {
            return Ok(None);
        }
        let mut transaction = Transaction::default();
        for (position, entry) in entries {
            if until.is_some_and(|until| position.0 > until) || transaction.events.len() >= EVENTS_MAX {
                break;
            }
            transaction.to = position;
            if entry.domain == api.rooms.domain() {
                self.look_at(api, position, &entry, &mut transaction)?;
            }
        }
        Ok(Some(transaction))
    }

    fn look_at(
        &mut self,
        api: &Api,
        position: Position,
        entry: &LogEntry,
        transaction: &mut Transaction,
    ) -> Result<(), ReadError> {
        let (Some(kind), Some(no)) = (Kind::of(entry.kind), room_of(&entry.subject)) else { return Ok(()) };
        if !matches!(kind, Kind::Event | Kind::Receipt) {
            return Ok(());
        }
        let room = match api.rooms.room_by_no(no) {
            Err(ReadError::NoSuchRoom) => return Ok(()),
            other => other?,
        };
        let order = i64::try_from(position.0).unwrap_or(i64::MAX);
        if kind == Kind::Receipt {
            if self.service.wants_ephemeral && self.concerns(api, &room)? {
                transaction.ephemeral.extend(receipt(&room, order, entry)?);
            }
            return Ok(());
        }
        let Some(placed) = room.event_at(order)?.filter(|placed| placed.order == order) else { return Ok(()) };
        if self.wants(api, &room, &placed)? {
            transaction.events.extend(shown(&room, &placed)?);
        }
        Ok(())
    }

    /// [AS-API §registration] Namespaces say what a service is interested in.
    fn wants(&mut self, api: &Api, room: &Room, placed: &Placed) -> Result<bool, ReadError> {
        let event = &placed.event;
        let target = event.state_key().filter(|_| event.kind() == "m.room.member");
        let target = target.and_then(|target| <&UserId>::try_from(target).ok());
        if self.service.has_user(event.sender()) || target.is_some_and(|target| self.service.has_user(target)) {
            return Ok(true);
        }
        self.concerns(api, room)
    }

    /// Whether a room is the service's, has an alias of its, or one of its users in it. Looked at when the state changes.
    fn concerns(&mut self, api: &Api, room: &Room) -> Result<bool, ReadError> {
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
        let has_alias = || -> Result<bool, ReadError> {
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

    /// Writes down what the next transaction tells of.
    async fn begin(&self, api: &Api, to: Position) -> bool {
        let (domain, id, from) = (api.rooms.domain(), self.service.id.clone(), self.place);
        let cursor = self.cursor.clone();
        let commit = api.rooms.shard().submit(move |txn| {
            txn.put(&UNDER_WAY, domain, id.as_str(), &(from.0, to.0));
            txn.move_cursor(&cursor, from);
        });
        if let Err(error) = commit.await {
            tracing::warn!(service = self.service.id, reason = %error, "a transaction for an application service cannot be begun");
            return false;
        }
        true
    }

    /// Sends until it is taken.
    async fn send(&self, weak: &WeakApi, to: Position, body: &str) -> Option<()> {
        let mut wait = BACKOFF_MIN;
        loop {
            let api = weak.upgrade()?;
            let url = self.service.address(&["transactions", &to.0.to_string()], "")?;
            let request = WebRequest::json(Method::PUT, url, body.to_owned(), LIMITS);
            match api.services.call(&self.service, request).await {
                Ok(_) => return Some(()),
                Err(error) => {
                    tracing::debug!(service = self.service.id, reason = %error, wait_s = wait.as_secs(), "an application service did not take a transaction");
                }
            }
            drop(api);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    async fn save(&mut self, api: &Api, place: Position) {
        let (cursor, domain, id) = (self.cursor.clone(), api.rooms.domain(), self.service.id.clone());
        let commit = api.rooms.shard().submit(move |txn| {
            txn.move_cursor(&cursor, place);
            txn.delete(&UNDER_WAY, domain, id.as_str());
        });
        match commit.await {
            Ok(_) => self.saved = place,
            Err(error) => {
                tracing::warn!(service = self.service.id, reason = %error, "the place of an application service was not written down");
            }
        }
    }
}

/// [AS-API §put_matrixappv1transactionstxnid] In the client's form; an invitation with the state that its target sees.
fn shown(room: &Room, placed: &Placed) -> Result<Option<Box<RawValue>>, ReadError> {
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
fn receipt(room: &Room, order: i64, entry: &LogEntry) -> Result<Option<Value>, ReadError> {
    let reader = std::str::from_utf8(&entry.body).ok().and_then(|reader| <&UserId>::try_from(reader).ok());
    let Some(reader) = reader else { return Ok(None) };
    let mut content: BTreeMap<String, Value> = BTreeMap::new();
    for receipt in room.receipts_after(reader, Some(order - 1), order)? {
        if receipt.user != reader || receipt.kind != koine_room::ReceiptType::Read {
            continue;
        }
        let mut data = json!({ "ts": receipt.ts });
        if let Some(thread) = &receipt.thread {
            data["thread_id"] = json!(thread);
        }
        content.insert(receipt.event_id.to_string(), json!({ "m.read": { reader.as_str(): data } }));
    }
    let edu = || json!({ "type": "m.receipt", "room_id": room.id(), "content": content });
    Ok((!content.is_empty()).then(edu))
}
