//! `PUT /_matrix/federation/v1/send/{txnId}`. [SS-API §put_matrixfederationv1sendtxnid]

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use axum::extract::State;
use bytes::Bytes;
use koine_graph::Event;
use koine_room::{Decided, ReadError, Room};
use quick_cache::sync::Cache;
use ruma_common::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::sync::OnceCell;

use super::event::{Taken, Taking, settled};
use crate::{
    Error, Federation, Signed, acl,
    answer::{Raw, Result},
};

/// Most events of a transaction. [SS-API §transactions]
pub const PDUS_MAX: usize = 50;
/// Most ephemeral units of a transaction. [SS-API §transactions]
pub const EDUS_MAX: usize = 100;
/// Largest transaction: the most events of the greatest size, written loosely, and as much again for the rest.
pub const TRANSACTION_BYTES_MAX: usize = 12 * 1024 * 1024;
/// Transactions whose answers are remembered. What is older is answered anew, to the same effect.
const REMEMBERED_MAX: usize = 10_000;

/// Transactions of late, and those under way.
pub(crate) struct Transactions(Cache<(OwnedServerName, String), Arc<OnceCell<Bytes>>>);

impl Transactions {
    pub(crate) fn new() -> Self {
        Self(Cache::new(REMEMBERED_MAX))
    }

    fn place(&self, origin: OwnedServerName, txn_id: &str) -> Arc<OnceCell<Bytes>> {
        let made = self
            .0
            .get_or_insert_with(&(origin, txn_id.to_owned()), || Ok::<_, std::convert::Infallible>(Arc::default()));
        match made {
            Ok(cell) => cell,
            Err(never) => match never {},
        }
    }
}

#[derive(Deserialize)]
struct Transaction {
    #[serde(default)]
    pdus: Vec<Box<RawValue>>,
    #[serde(default)]
    edus: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Head {
    room_id: Option<OwnedRoomId>,
}

pub async fn put_transaction(
    State(federation): State<Federation>,
    signed: Signed<TRANSACTION_BYTES_MAX>,
) -> Result<Raw> {
    let transaction: Transaction = signed.parse()?;
    for (what, count, max) in
        [("events", transaction.pdus.len(), PDUS_MAX), ("ephemeral units", transaction.edus.len(), EDUS_MAX)]
    {
        if count > max {
            return Err(Error::bad_json(format!("The transaction has {count} {what}, at most {max} are allowed")));
        }
    }
    let place = federation.transactions().place(signed.origin.clone(), signed.path.text(0));
    // A task of its own: what is begun is finished, also when the sender hangs up.
    let working = tokio::spawn(async move {
        place.get_or_init(|| federation.take_transaction(signed.origin, transaction)).await.clone()
    });
    match working.await {
        Ok(answer) => Ok(Raw(answer)),
        Err(_panicked) => Err(Error::internal("a transaction could not be worked through")),
    }
}

impl Federation {
    async fn take_transaction(&self, origin: OwnedServerName, transaction: Transaction) -> Bytes {
        let mut results: BTreeMap<OwnedEventId, Value> = BTreeMap::new();
        let mut by_room: Vec<(Arc<Room>, Vec<Event>)> = Vec::new();
        for raw in &transaction.pdus {
            let Some((room, event)) = self.place_of(raw) else { continue };
            let refused = match acl::allows(&room, &origin) {
                Ok(true) => None,
                Ok(false) => Some(format!("{origin} is shut out of this room")),
                Err(error) => Some(error.to_string()),
            };
            if let Some(reason) = refused {
                results.insert(event.event_id().to_owned(), json!({ "error": reason }));
                continue;
            }
            match by_room.iter_mut().find(|(known, _)| known.no() == room.no()) {
                Some((_, events)) => events.push(event),
                None => by_room.push((room, vec![event])),
            }
        }
        let mut rooms = tokio::task::JoinSet::new();
        for (room, events) in by_room {
            let (federation, origin) = (self.clone(), origin.clone());
            rooms.spawn(async move { federation.take_in_order(&origin, &room, events).await });
        }
        while let Some(done) = rooms.join_next().await {
            results.extend(done.into_iter().flatten());
        }
        for edu in transaction.edus {
            self.take_passing(&origin, &edu).await;
        }
        json!({ "pdus": results }).to_string().into()
    }

    /// Takes events of one room, one after the other: each is judged while the disk is busy with those before it, and
    /// all are durable when this returns.
    async fn take_in_order(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        events: Vec<Event>,
    ) -> Vec<(OwnedEventId, Value)> {
        let mut results = Vec::with_capacity(events.len());
        let mut deciding: VecDeque<(Event, Decided)> = VecDeque::new();
        let gate = self.gates().pass(room.id()).await;
        for event in events {
            let taken = match self.begin_taking(origin, room, event.clone()).await {
                Ok(Taking::Decided(decided)) => {
                    deciding.push_back((event, decided));
                    continue;
                }
                Ok(Taking::Lacks(checked)) => {
                    // What was just decided is among what is had, once it is durable.
                    while let Some((event, decided)) = deciding.pop_front() {
                        let taken = settled(origin, room, decided.durable().await);
                        results.push(self.result(origin, room, event, taken));
                    }
                    self.take_lacking(origin, room, checked).await
                }
                Ok(Taking::Done(taken)) => Ok(taken),
                Err(reason) => Err(reason),
            };
            results.push(self.result(origin, room, event, taken));
        }
        drop(gate);
        for (event, decided) in deciding {
            let taken = settled(origin, room, decided.durable().await);
            results.push(self.result(origin, room, event, taken));
        }
        results
    }

    /// What the sender is told of an event.
    fn result(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        event: Event,
        taken: std::result::Result<Taken, String>,
    ) -> (OwnedEventId, Value) {
        let id = event.event_id().to_owned();
        match taken {
            Ok(Taken::In) => (id, json!({})),
            Ok(Taken::Waits) => {
                self.take_later(origin, room, event);
                (id, json!({}))
            }
            Err(reason) => {
                tracing::debug!(peer = %origin, room_id = %room.id(), event_id = %id, %reason, "an event was not taken");
                (id, json!({ "error": reason }))
            }
        }
    }

    /// The room that an event is of, and the event, if both are what they should be.
    fn place_of(&self, raw: &RawValue) -> Option<(Arc<Room>, Event)> {
        let head: Head = serde_json::from_str(raw.get()).ok()?;
        // Without a room it is the create event of one, which nobody needs who is in the room.
        let room = match self.known_room(&head.room_id?) {
            Ok(room) => room?,
            Err(error) => {
                tracing::error!(reason = %error, "a room cannot be read");
                return None;
            }
        };
        match Event::parse(room.rules(), raw.get().as_bytes()) {
            Ok(event) => Some((room, event)),
            Err(error) => {
                tracing::debug!(room_id = %room.id(), reason = %error, "what came is no event");
                None
            }
        }
    }

    /// A room that is known here, whether or not somebody of ours is in it.
    pub(crate) fn known_room(&self, id: &RoomId) -> std::result::Result<Option<Arc<Room>>, ReadError> {
        match self.rooms().room(id) {
            Ok(room) => Ok(Some(room)),
            Err(ReadError::NoSuchRoom) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
