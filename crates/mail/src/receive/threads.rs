//! What a mail answers: names of mails, ours and others', as events.
//!
//! Our own names say which event they are of. Those of others are in a table, by room and hash; a name of somebody else may be
//! anything.

use std::sync::Arc;

use koine_projection::mail::{
    id,
    inward::{self, Inward},
};
use koine_room::{Placed, ReadError, Room, RoomNo};
use koine_store::{Direction, Txn};
use ruma_common::{EventId, OwnedEventId};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::reply::Refusal;
use crate::{
    core::Core,
    tables::{MESSAGE_ID, MESSAGE_ROOM},
};

/// Rooms that are looked at for one name.
const ROOMS_PER_NAME_MAX: usize = 20;
/// Rooms that are looked at for one mail.
const ROOMS_MAX: usize = 50;

/// What a mail answers, in one room.
pub(super) struct Answered {
    /// `m.relates_to`.
    pub(super) relation: Value,
    /// The event that is answered.
    pub(super) parent: OwnedEventId,
    /// The subject that the conversation has, where it came by mail.
    pub(super) subject: Option<String>,
}

fn hash(name: &str) -> [u8; 32] {
    Sha256::digest(name.as_bytes()).into()
}

/// What a mail refers to, the nearest first.
fn names(mail: &Inward) -> impl Iterator<Item = &String> {
    mail.in_reply_to.iter().chain(mail.references.iter().rev())
}

impl Core {
    /// The rooms with mails that this one refers to, the nearest first.
    pub(super) fn rooms_referred_to(&self, mail: &Inward) -> Result<Vec<Arc<Room>>, ReadError> {
        let mut found: Vec<RoomNo> = Vec::new();
        for name in names(mail) {
            if let Some(event) = id::event_id_of(name, &self.host)
                && let Some((room, _)) = self.rooms().find_event(&event)?
            {
                found.push(room.no());
            }
            let view = self.shard().view();
            let rows = view.prefix(&MESSAGE_ROOM, self.domain(), &(hash(name),), Direction::Forward);
            for row in rows.take(ROOMS_PER_NAME_MAX) {
                found.push(row?.0.1);
            }
            if found.len() >= ROOMS_MAX {
                break;
            }
        }
        let mut rooms: Vec<Arc<Room>> = Vec::new();
        for no in found {
            if !rooms.iter().any(|room| room.no() == no) {
                rooms.push(self.rooms().room_by_no(no)?);
            }
        }
        Ok(rooms)
    }

    /// The event of a room that a mail is called so.
    pub(crate) fn event_named(&self, room: &Room, name: &str) -> Result<Option<Arc<Placed>>, ReadError> {
        if let Some(event) = id::event_id_of(name, &self.host)
            && let Some(placed) = room.event(&event)?
        {
            return Ok(Some(placed));
        }
        let event = self.shard().get(&MESSAGE_ID, self.domain(), &(room.no(), hash(name)))?;
        match event.and_then(|event| OwnedEventId::try_from(event).ok()) {
            Some(event) => room.event(&event),
            None => Ok(None),
        }
    }

    /// What a mail answers in a room. `None`: it begins a conversation.
    pub(super) fn answered(&self, room: &Room, mail: &Inward) -> Result<Option<Answered>, ReadError> {
        let mut parent = None;
        for name in names(mail) {
            if let Some(placed) = self.event_named(room, name)? {
                parent = Some(placed);
                break;
            }
        }
        let Some(parent) = parent else { return Ok(None) };
        let mut root = self.root_of(room, &parent)?;
        if root == parent.event.event_id() {
            // The chain of references may begin above what is answered.
            for name in &mail.references {
                if let Some(first) = self.event_named(room, name)? {
                    root = self.root_of(room, &first)?;
                    break;
                }
            }
        }
        let subject = |event: &EventId| -> Option<String> {
            let placed = room.event(event).ok()??;
            let kept: Value = placed.event.content_field(koine_projection::mail::KEEPSAKE)?;
            kept.get("subject")?.as_str().map(ToOwned::to_owned)
        };
        let parent = parent.event.event_id().to_owned();
        let subject = subject(&parent).or_else(|| subject(&root));
        Ok(Some(Answered { relation: inward::relation(&root, &parent), parent, subject }))
    }

    /// Where the thread of an event begins: there, or at a thread's beginning that it can have.
    fn root_of(&self, room: &Room, placed: &Placed) -> Result<OwnedEventId, ReadError> {
        let mut event = placed.event.clone();
        // An event that refers to another begins no thread: what it refers to may. [CS-API §validation-of-mthread-relationships]
        for _ in 0..8 {
            if let Some(root) = room.thread_of(&event)? {
                return Ok(root);
            }
            let relation: Option<Value> = event.content_field("m.relates_to");
            let target = relation.as_ref().filter(|relation| relation.get("rel_type").is_some());
            let target = target.and_then(|relation| relation.get("event_id")).and_then(Value::as_str);
            let target = target.and_then(|target| <&EventId>::try_from(target).ok());
            match target.map(|target| room.event(target)).transpose()?.flatten() {
                Some(above) => event = above.event.clone(),
                None => break,
            }
        }
        Ok(event.event_id().to_owned())
    }

    /// Writes down which event a mail became, for those that will refer to it.
    pub(super) async fn remember(&self, room: RoomNo, name: &str, event: &EventId) -> Result<(), Refusal> {
        let (domain, hash, event) = (self.domain(), hash(name), event.to_string());
        let commit = self.shard().submit(move |txn: &mut Txn| {
            txn.put(&MESSAGE_ID, domain, &(room, hash), &event);
            txn.put(&MESSAGE_ROOM, domain, &(hash, room), &());
        });
        commit.await.map(drop).map_err(|_| Refusal::Unavailable)
    }
}
