//! Saying something in a room: messages, state, redactions.
//! [CS-API §put_matrixclientv3roomsroomidsendeventtypetxnid]

use koine_store::Commit;
use ruma_common::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, UserId};
use serde_json::{Value, json, value::RawValue, value::to_raw_value};

use crate::{
    error::CommandError,
    registry::Rooms,
    room::{Head, Room},
    tables::{Membership, TXN},
    write::{NewEvent, TxnKey},
};

/// Who acts, and from which device.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The account.
    pub user: &'a UserId,
    /// The device; `None` for the server's own doing.
    pub device: Option<&'a str>,
}

impl Sender<'_> {
    fn txn(&self, request: String, id: Option<&str>) -> Option<TxnKey> {
        Some(TxnKey { user: self.user.to_string(), device: self.device?.to_owned(), request, id: id?.to_owned() })
    }
}

impl Rooms {
    /// Sends an event that is not state. The same transaction id from the same device gives the same event.
    pub async fn send(
        &self,
        sender: Sender<'_>,
        room: &RoomId,
        kind: &str,
        content: &RawValue,
        txn: Option<&str>,
    ) -> Result<OwnedEventId, CommandError> {
        self.send_at(sender, room, (kind, content), txn, None).await
    }

    /// The same with a time of its own: it happened elsewhere, at `sent_at`. Its place is that of any new event.
    /// [AS-API §timestamp-massaging]
    pub async fn send_at(
        &self,
        sender: Sender<'_>,
        room: &RoomId,
        (kind, content): (&str, &RawValue),
        txn: Option<&str>,
        sent_at: Option<MilliSecondsSinceUnixEpoch>,
    ) -> Result<OwnedEventId, CommandError> {
        let room = self.room(room)?;
        let txn = sender.txn(format!("send {} {kind}", room.id()), txn);
        if kind == "m.room.redaction" {
            return self.send_redaction(sender, &room, content, txn, sent_at).await;
        }
        let add = |head: &mut Head| match self.sent_before(&room, txn.as_ref())? {
            Some(id) => Ok((self.core.shard.submit(|_| {}), id)),
            None => {
                room.check_relation(sender.user, kind, content)?;
                let (sender, txn) = (sender.user, txn.clone());
                room.add(head, NewEvent { sender, kind, state_key: None, content, redacts: None, txn, sent_at })
            }
        };
        let (commit, id) = self.change(&room, add).await?;
        commit.await?;
        Ok(id)
    }

    /// Sets a piece of state. Setting what is set already gives the event that set it.
    pub async fn set_state(
        &self,
        sender: Sender<'_>,
        room: &RoomId,
        kind: &str,
        state_key: &str,
        content: &RawValue,
    ) -> Result<OwnedEventId, CommandError> {
        self.set_state_at(sender, room, (kind, state_key), content, None).await
    }

    /// The same with a time of its own. [AS-API §timestamp-massaging]
    pub async fn set_state_at(
        &self,
        sender: Sender<'_>,
        room: &RoomId,
        (kind, state_key): (&str, &str),
        content: &RawValue,
        sent_at: Option<MilliSecondsSinceUnixEpoch>,
    ) -> Result<OwnedEventId, CommandError> {
        if kind == "m.room.canonical_alias" {
            self.check_canonical_alias(room, content)?;
        }
        let own = (kind == "m.room.member").then(|| without_voucher(content)).flatten();
        let content = own.as_deref().unwrap_or(content);
        let room = self.room(room)?;
        let set = |head: &mut Head| {
            let present = room.head_state(head, kind, state_key)?;
            match present.filter(|event| event.sender() == sender.user && same_json(event.content(), content)) {
                Some(event) => Ok((self.core.shard.submit(|_| {}), event.event_id().to_owned())),
                None => {
                    let new = NewEvent::state(sender.user, kind, state_key, content);
                    room.add(head, NewEvent { sent_at, ..new })
                }
            }
        };
        let (commit, id) = self.change(&room, set).await?;
        commit.await?;
        Ok(id)
    }

    /// Empties an event. [CS-API §put_matrixclientv3roomsroomidredacteventidtxnid]
    pub async fn redact(
        &self,
        sender: Sender<'_>,
        room: &RoomId,
        target: &EventId,
        reason: Option<&str>,
        txn: Option<&str>,
    ) -> Result<OwnedEventId, CommandError> {
        let room = self.room(room)?;
        let txn = sender.txn(format!("redact {} {target}", room.id()), txn);
        let mut content = json!({ "redacts": target });
        if let Some(reason) = reason {
            content["reason"] = json!(reason);
        }
        let content = to_raw_value(&content).map_err(|error| CommandError::BadContent(error.to_string()))?;
        self.send_redaction(sender, &room, &content, txn, None).await
    }

    async fn send_redaction(
        &self,
        sender: Sender<'_>,
        room: &std::sync::Arc<Room>,
        content: &RawValue,
        txn: Option<TxnKey>,
        sent_at: Option<MilliSecondsSinceUnixEpoch>,
    ) -> Result<OwnedEventId, CommandError> {
        let mut fields: Value = serde_json::from_str(content.get()).unwrap_or_default();
        let target = fields.get("redacts").and_then(Value::as_str).and_then(|id| OwnedEventId::try_from(id).ok());
        let Some(target) = target else {
            return Err(CommandError::BadContent("a redaction names the event it redacts in `redacts`".into()));
        };
        // The draft puts it where the room version wants it.
        if let Some(fields) = fields.as_object_mut() {
            fields.remove("redacts");
        }
        let content = to_raw_value(&fields).map_err(|error| CommandError::BadContent(error.to_string()))?;
        let add = |head: &mut Head| match self.sent_before(room, txn.as_ref())? {
            Some(id) => Ok((self.core.shard.submit(|_| {}), id)),
            None => {
                room.may_redact(head, sender.user, &target)?;
                let (kind, redacts) = ("m.room.redaction", Some(target.clone()));
                let (sender, content, txn) = (sender.user, &*content, txn.clone());
                room.add(head, NewEvent { sender, kind, state_key: None, content, redacts, txn, sent_at })
            }
        };
        let (commit, id) = self.change(room, add).await?;
        commit.await?;
        Ok(id)
    }

    /// The event that an earlier request with the same transaction id made.
    fn sent_before(&self, room: &Room, txn: Option<&TxnKey>) -> Result<Option<OwnedEventId>, CommandError> {
        let Some(key) = txn else { return Ok(None) };
        if let Some(id) = room.txns.lock().get(key) {
            return Ok(Some(id.clone()));
        }
        let row = (key.user.as_str(), key.device.as_str(), key.request.as_str(), key.id.as_str());
        let id = self.core.shard.get(&TXN, self.core.domain(), &row)?;
        id.map(|id| OwnedEventId::try_from(id).map_err(|_| CommandError::Damaged("a transaction without event".into())))
            .transpose()
    }

    /// Each alias named must lead here. [CS-API §mroomcanonical_alias]
    fn check_canonical_alias(&self, room: &RoomId, content: &RawValue) -> Result<(), CommandError> {
        let content: Value = serde_json::from_str(content.get()).unwrap_or_default();
        let old = self.room(room)?.current("m.room.canonical_alias", "")?;
        let old: Value = old.and_then(|old| serde_json::from_str(old.event.content().get()).ok()).unwrap_or_default();
        let named = |content: &Value| -> Vec<String> {
            let main = content["alias"].as_str();
            let others = content["alt_aliases"].as_array().into_iter().flatten().filter_map(Value::as_str);
            main.into_iter().chain(others).map(ToOwned::to_owned).collect()
        };
        let before = named(&old);
        for alias in named(&content).into_iter().filter(|alias| !before.contains(alias)) {
            let alias = <&ruma_common::RoomAliasId>::try_from(alias.as_str())
                .map_err(|_| CommandError::InvalidParam(format!("{alias:?} is no alias")))?;
            match self.resolve_alias(alias) {
                Ok(id) if id == room => {}
                _ => return Err(CommandError::BadAlias(alias.to_string())),
            }
        }
        Ok(())
    }
}

impl Room {
    /// Stages and commits one event.
    fn add(
        self: &std::sync::Arc<Self>,
        head: &mut Head,
        new: NewEvent<'_>,
    ) -> Result<(Commit, OwnedEventId), CommandError> {
        if self.head_membership(head, new.sender)? != Some(Membership::Join) && new.kind != "m.room.member" {
            return Err(CommandError::NotJoined);
        }
        let txn = new.txn.clone();
        let staged = self.stage(head, new)?;
        let id = staged.event.event_id().to_owned();
        if let Some(txn) = txn.clone() {
            self.txns.lock().insert(txn, id.clone());
        }
        let room = self.clone();
        let commit = self.commit(head, vec![staged], move |ctx| {
            if let Some(txn) = txn {
                // From here on the row in the store answers.
                ctx.on_durable(move |_| {
                    room.txns.lock().remove(&txn);
                });
            }
        });
        Ok((commit, id))
    }

    /// Whether `user` may empty `target`. The rules of versions 3 and up leave this to the server that applies the
    /// redaction. [RV3 §handling-redactions]
    fn may_redact(&self, head: &Head, user: &UserId, target: &EventId) -> Result<(), CommandError> {
        if self.head_membership(head, user)? != Some(Membership::Join) {
            return Err(CommandError::NotJoined);
        }
        let levels = self.power_levels(head)?;
        if levels.user_level(user).reaches(levels.redact()) {
            // Also of an event that is not here: it takes effect where it is, and here once it comes. Other servers take an id with a
            // server's name in rooms of every version, so nobody is kept from saying one.
            if koine_graph::hashes::is_event_id(self.rules(), target) || target.server_name().is_some() {
                return Ok(());
            }
        }
        match self.event(target)? {
            Some(target) if target.event.sender() == user => Ok(()),
            Some(_) => Err(CommandError::Forbidden(format!("{user} may redact only their own events in this room"))),
            None => Err(CommandError::NoSuchEvent),
        }
    }
}

/// Who vouches for a member is not the member's to say: other servers would want a signature. `None`: nobody is named.
/// [CS-API §restricted-rooms]
fn without_voucher(content: &RawValue) -> Option<Box<RawValue>> {
    let mut fields: Value = serde_json::from_str(content.get()).ok()?;
    fields.as_object_mut()?.remove("join_authorised_via_users_server")?;
    to_raw_value(&fields).ok()
}

/// Whether two pieces of JSON say the same.
fn same_json(a: &RawValue, b: &RawValue) -> bool {
    a.get() == b.get()
        || matches!((serde_json::from_str::<Value>(a.get()), serde_json::from_str::<Value>(b.get())), (Ok(a), Ok(b)) if a == b)
}
