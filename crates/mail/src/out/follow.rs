//! The reader of the log: what is said in rooms with correspondents becomes mail.
//!
//! Its place is kept durably, and moves in the same commit as what follows from an entry: after a crash nothing is lost, and
//! nothing is collected twice.

use std::sync::Arc;

use koine_room::{Kind, Membership, Placed, ReadError, Room, RoomNo, room_of};
use koine_store::{CommitError, Direction, LogEntry, Position, StoreError, Txn};
use ruma_common::{EventId, OwnedEventId, OwnedUserId, UserId};
use serde_json::Value;

use super::{
    Out, WeakOut,
    batch::{self, Said},
    status::Status,
    tables::{CORRESPONDENT, CURSOR, MAILED, MailedRecord, SENT, TOLD, What},
};

/// Most entries read from the log at once.
const BATCH: usize = 512;
/// Entries that meant nothing to us, after which our place is written down all the same.
const SAVE_AFTER: u64 = 2_000;
/// Most correspondents in one room; what is said there is mailed to no more.
pub(crate) const CORRESPONDENTS_MAX: usize = 100;

/// What an entry comes to, written together with our place.
type Write = Box<dyn FnOnce(&mut Txn) -> Result<(), StoreError> + Send>;

/// Why an entry could not be worked on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Begins to follow.
pub(crate) fn start(out: &Out) {
    let weak = out.downgrade();
    let mut grown = out.shard().watch();
    tokio::spawn(async move {
        loop {
            {
                let Some(out) = weak.upgrade() else { return };
                if let Err(error) = out.follow().await {
                    tracing::error!(reason = %error, "the log cannot be followed: nothing is mailed");
                }
            }
            if grown.changed().await.is_err() {
                return;
            }
        }
    });
}

impl Out {
    /// Reads the log to its end.
    pub(crate) async fn follow(&self) -> Result<(), FollowError> {
        let mut following = self.0.following.lock().await;
        // Taken, so that after an error the store says where we were.
        let (mut place, mut saved) = match following.take() {
            Some(known) => known,
            None => self.place().await?,
        };
        loop {
            let entries = self.shard().log_after(place, BATCH)?;
            if entries.is_empty() {
                break;
            }
            for (position, entry) in &entries {
                let write = match self.entry(*position, entry).await {
                    Ok(write) => write,
                    // A room that is gone, an event that is damaged: one entry must not keep the others from being read.
                    Err(FollowError::Read(error)) => {
                        tracing::warn!(position = position.0, reason = %error, "an event could not be mailed");
                        None
                    }
                    Err(error) => return Err(error),
                };
                place = *position;
                if let Some(write) = write {
                    let commit = self.shard().submit(move |txn| {
                        write(txn)?;
                        txn.move_cursor(CURSOR, place);
                        Ok::<(), StoreError>(())
                    });
                    commit.await?;
                    saved = place;
                    self.wake();
                }
            }
        }
        if place.0 - saved.0 >= SAVE_AFTER {
            self.shard().submit(move |txn| txn.move_cursor(CURSOR, place)).await?;
            saved = place;
        }
        *following = Some((place, saved));
        Ok(())
    }

    /// Where we were, and what of that is written down.
    async fn place(&self) -> Result<(Position, Position), FollowError> {
        let view = self.shard().view();
        if let Some(place) = view.cursor(CURSOR)? {
            return Ok((place, place));
        }
        // At the very first start there is nobody to be told what happened before.
        let place = view.position();
        self.shard().submit(move |txn| txn.move_cursor(CURSOR, place)).await?;
        Ok((place, place))
    }

    async fn entry(&self, position: Position, entry: &LogEntry) -> Result<Option<Write>, FollowError> {
        let ours = entry.domain == self.domain();
        let (Some(kind), Some(no)) = (Kind::of(entry.kind).filter(|_| ours), room_of(&entry.subject)) else {
            return Ok(None);
        };
        match kind {
            Kind::Event => {}
            Kind::Receipt => return self.receipt(position, entry, no),
            _ => return Ok(None),
        }
        let room = self.rooms().room_by_no(no)?;
        let order = i64::try_from(position.0).unwrap_or(i64::MAX);
        let Some(placed) = room.event_at(order)? else { return Ok(None) };
        if placed.event.kind() == "m.room.member" {
            return self.member(&room, &placed);
        }
        if placed.event.state_key().is_some() || self.address_of_ghost(placed.event.sender()).is_some() {
            return Ok(None);
        }
        if self.correspondents(no)?.is_empty() {
            return Ok(None);
        }
        self.said(&room, &placed).await
    }

    /// Keeps the list of a room's correspondents.
    fn member(&self, room: &Arc<Room>, placed: &Placed) -> Result<Option<Write>, FollowError> {
        let Some(target) = placed.event.state_key().and_then(|target| <&UserId>::try_from(target).ok()) else {
            return Ok(None);
        };
        if self.address_of_ghost(target).is_none() {
            return Ok(None);
        }
        let (domain, no, name) = (self.domain(), room.no(), target.localpart().to_owned());
        self.0.correspondents.remove(&no);
        let out = self.clone();
        let write: Write = match placed.event.membership().map(Membership::from) {
            Some(Membership::Join) => Box::new(move |txn| {
                txn.put(&CORRESPONDENT, domain, &(no, name), &());
                // Whoever looked meanwhile saw the old list.
                txn.on_durable(move |_| drop(out.0.correspondents.remove(&no)));
                Ok(())
            }),
            Some(Membership::Leave | Membership::Ban) => Box::new(move |txn| {
                txn.delete(&CORRESPONDENT, domain, &(no, name));
                txn.on_durable(move |_| drop(out.0.correspondents.remove(&no)));
                Ok(())
            }),
            _ => return Ok(None),
        };
        Ok(Some(write))
    }

    /// Whom events of a room are mailed to.
    pub(crate) fn correspondents(&self, room: RoomNo) -> Result<Arc<[OwnedUserId]>, StoreError> {
        if let Some(known) = self.0.correspondents.get(&room) {
            return Ok(known);
        }
        let view = self.shard().view();
        let mut found = Vec::new();
        for row in view.prefix(&CORRESPONDENT, self.domain(), &(room,), Direction::Forward).take(CORRESPONDENTS_MAX) {
            let ((_, name), ()) = row?;
            found.extend(UserId::parse(format!("@{name}:{}", self.rooms().server_name())));
        }
        let found: Arc<[OwnedUserId]> = found.into();
        self.0.correspondents.insert(room, found.clone());
        Ok(found)
    }

    async fn said(&self, room: &Arc<Room>, placed: &Placed) -> Result<Option<Write>, FollowError> {
        let event = &placed.event;
        let author = event.sender();
        let kind = event.kind();
        if !matches!(kind, "m.room.message" | "m.sticker" | "m.reaction" | "m.room.redaction" | "m.room.encrypted") {
            return Ok(None);
        }
        // Nothing is ever mailed out of a room for encrypted messages.
        if kind == "m.room.encrypted" || room.current("m.room.encryption", "")?.is_some() {
            return self.tell_encrypted(room, author).await;
        }
        if kind == "m.room.redaction" {
            let Some(target) = event.redacts(room.rules()) else { return Ok(None) };
            return self.taken_back(room, author, &target).await;
        }
        if placed.redacted_by.is_some() || !self.may_write(room, author) {
            return Ok(None);
        }
        let content: Value = serde_json::from_str(event.content().get()).unwrap_or_default();
        let relation = content.get("m.relates_to").unwrap_or(&Value::Null);
        let id = |value: &Value| value["event_id"].as_str().and_then(|id| OwnedEventId::try_from(id).ok());
        let rel_type = relation["rel_type"].as_str();
        if kind == "m.reaction" {
            let Some(target) = id(relation).filter(|_| rel_type == Some("m.annotation")) else { return Ok(None) };
            return match self.answer_to(room, &target)? {
                Some(_) => self.collect(room, placed, format!("a{target}")),
                None => Ok(None),
            };
        }
        if rel_type == Some("m.replace") {
            let Some(target) = id(relation) else { return Ok(None) };
            return self.edited(room, placed, &target);
        }
        let falls_back = relation["is_falling_back"].as_bool() == Some(true);
        let answered = id(&relation["m.in_reply_to"]).filter(|_| !falls_back);
        let key = match (id(relation).filter(|_| rel_type == Some("m.thread")), answered) {
            (Some(root), _) => format!("t{root}"),
            (None, Some(answered)) => format!("r{answered}"),
            (None, None) => String::new(),
        };
        if koine_projection::mail::outward::line(kind, &content).is_none() {
            return Ok(None);
        }
        self.collect(room, placed, key)
    }

    /// Adds an event to what its author says at the same place, within [`may_open`](Self::may_open).
    fn collect(&self, room: &Room, placed: &Placed, mut key: String) -> Result<Option<Write>, FollowError> {
        let (no, author) = (room.no(), placed.event.sender().to_string());
        if !key.is_empty() && !self.may_open(no, &author, &key)? {
            match batch::what(&key) {
                What::Lines => key.clear(),
                _ => return Ok(None),
            }
        }
        let said = Said {
            domain: self.domain(),
            room: no,
            author,
            key,
            event: placed.event.event_id().to_string(),
            now_ms: self.now_ms(),
            silence_ms: self.config().silence_s * 1_000,
            collect_ms: self.config().collect_s * 1_000,
        };
        Ok(Some(Box::new(move |txn| batch::add(txn, said))))
    }

    /// Whether what somebody says is mailed in our name: an account's always is, anybody else's where an account of ours is
    /// in the room. Else whoever has a server could have mails sent to whomever they like.
    fn may_write(&self, room: &Room, author: &UserId) -> bool {
        self.is_account(author) || room.local_joined().iter().any(|user| self.is_account(user))
    }

    /// Before it is sent an edit changes the mail, for it is composed from what events say last. To those who have it
    /// already, another mail says so.
    fn edited(&self, room: &Room, placed: &Placed, target: &EventId) -> Result<Option<Write>, FollowError> {
        let Some(original) = room.event(target)? else { return Ok(None) };
        if original.event.sender() != placed.event.sender() {
            return Ok(None);
        }
        if self.have_it(target)?.is_empty() {
            return Ok(None);
        }
        self.collect(room, placed, format!("e{target}"))
    }

    /// Recipients who have a mail already that an event went into.
    pub(crate) fn have_it(&self, event: &EventId) -> Result<Vec<String>, StoreError> {
        match self.shard().get(&MAILED, self.domain(), event.as_str())? {
            Some(mailed) => self.sent_among(&mailed),
            None => Ok(Vec::new()),
        }
    }

    /// Before it is sent it is not said any more. After, nobody can take it back, and whoever wanted to is told.
    async fn taken_back(
        &self,
        room: &Arc<Room>,
        author: &UserId,
        target: &EventId,
    ) -> Result<Option<Write>, FollowError> {
        if let Some(mailed) = self.shard().get(&MAILED, self.domain(), target.as_str())? {
            for recipient in self.sent_among(&mailed)? {
                let status = Status { state: "sent", recipient: &recipient, code: None, text: "" };
                self.tell(room.no(), &[target.to_string()], &status).await;
            }
            return Ok(None);
        }
        let (domain, room, author, event) = (self.domain(), room.no(), author.to_string(), target.to_string());
        Ok(Some(Box::new(move |txn| batch::remove(txn, domain, (room, &author), &event))))
    }

    /// Recipients who have a mail already.
    fn sent_among(&self, mailed: &MailedRecord) -> Result<Vec<String>, StoreError> {
        let view = self.shard().view();
        let mut sent = Vec::new();
        for (id, recipient) in &mailed.items {
            if view.get(&SENT, self.domain(), id)?.is_some() {
                sent.push(recipient.clone());
            }
        }
        Ok(sent)
    }

    /// Once for each author and room.
    async fn tell_encrypted(&self, room: &Arc<Room>, author: &UserId) -> Result<Option<Write>, FollowError> {
        let (domain, key) = (self.domain(), (room.no(), author.to_string()));
        if !self.accounts().is_local(author) || self.shard().get(&TOLD, domain, &key)?.is_some() {
            return Ok(None);
        }
        self.tell_not_mailed(room, author).await;
        Ok(Some(Box::new(move |txn| {
            txn.put(&TOLD, domain, &key, &());
            Ok(())
        })))
    }

    /// Somebody read a mail whose sender asked to be told, and tells.
    fn receipt(&self, position: Position, entry: &LogEntry, no: RoomNo) -> Result<Option<Write>, FollowError> {
        let reader = std::str::from_utf8(&entry.body).ok().and_then(|reader| <&UserId>::try_from(reader).ok());
        let Some(reader) = reader.filter(|reader| self.accounts().is_local(reader)) else { return Ok(None) };
        if self.correspondents(no)?.is_empty() || self.address_of_ghost(reader).is_some() || !self.tells_reading(reader)
        {
            return Ok(None);
        }
        let room = self.rooms().room_by_no(no)?;
        let place = i64::try_from(position.0).unwrap_or(i64::MAX);
        let receipts = room.receipts_after(reader, Some(place - 1), place)?;
        let Some(receipt) = receipts.into_iter().find(|receipt| receipt.user == reader) else { return Ok(None) };
        let Some(placed) = room.event(&receipt.event_id)? else { return Ok(None) };
        let Some(recipient) = self.wants_receipt(&placed) else { return Ok(None) };
        let Some(heading) = self.answer_to(&room, placed.event.event_id())? else { return Ok(None) };
        let plan = self.plan(What::Receipt, no, reader, vec![placed.event.event_id().to_string()], heading);
        // One that is too much is none: nobody has to be told that something was not told.
        Ok(Some(Box::new(move |txn| plan.admit(txn, [recipient]).map(drop))))
    }
}

impl WeakOut {
    pub(crate) fn upgrade(&self) -> Option<Out> {
        self.0.upgrade().map(Out)
    }
}
