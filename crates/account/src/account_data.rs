//! Account data: what clients keep here for themselves, for the account or for one of its rooms.
//!
//! Every change has a position in the log, and an index by position, so that "what changed since?" costs what changed.
//! [CS-API §client-config]
//!
//! What is deleted stays as an empty object at the position of its deletion, so that readers learn of it; whoever begins
//! there is not told. An empty object that a client writes is the same thing. [MSC3391]

use koine_store::{Direction, DomainId, KeyRange, Position, StoreError, Txn};
use ruma_common::{OwnedRoomId, RoomId, UserId};

use crate::{
    Accounts, StoreUnavailable,
    log::{self, Kind},
    tables::{DATA, DATA_AT, DataKey, DataRecord, USER},
};

/// What stands where something was deleted.
const DELETED: &str = "{}";

/// How long a type may be.
pub const ACCOUNT_DATA_KIND_BYTES_MAX: usize = 255;

/// One piece of account data that is about a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomAccountData {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its type.
    pub kind: String,
    /// A JSON object.
    pub content: String,
    /// Where it changed last.
    pub position: Position,
}

/// One piece of account data that is about the whole account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountData {
    /// Its type.
    pub kind: String,
    /// A JSON object.
    pub content: String,
    /// Where it changed last.
    pub position: Position,
}

/// Why account data was not set.
#[derive(Debug, thiserror::Error)]
pub enum SetAccountDataError {
    /// There is no such account here.
    #[error("there is no such account")]
    UnknownUser,
    /// Longer than [`ACCOUNT_DATA_KIND_BYTES_MAX`].
    #[error("the type has {0} bytes, at most {ACCOUNT_DATA_KIND_BYTES_MAX} are allowed")]
    KindTooLong(usize),
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl Accounts {
    /// The content of one piece, a JSON object.
    pub fn account_data(
        &self,
        user_id: &UserId,
        room_id: Option<&RoomId>,
        kind: &str,
    ) -> Result<Option<String>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        let key = (localpart, room_id.map_or("", RoomId::as_str), kind);
        let record = self.shard.get(&DATA, self.domain, &key)?.filter(|record| record.content != DELETED);
        Ok(record.map(|record| record.content))
    }

    /// Sets one piece; answers where in the log that stands.
    pub async fn set_account_data(
        &self,
        user_id: &UserId,
        room_id: Option<&RoomId>,
        kind: &str,
        content: String,
    ) -> Result<Position, SetAccountDataError> {
        self.edit_account_data(user_id, room_id, kind, move |_| Some(content)).await.map(Option::unwrap_or_default)
    }

    /// Sets one piece to what `edit` makes of it, with nothing in between; `None` leaves it alone. Answers where in the
    /// log a change stands. `edit` runs on the writer's thread and so must be quick.
    pub async fn edit_account_data(
        &self,
        user_id: &UserId,
        room_id: Option<&RoomId>,
        kind: &str,
        edit: impl FnOnce(Option<&str>) -> Option<String> + Send + 'static,
    ) -> Result<Option<Position>, SetAccountDataError> {
        if kind.len() > ACCOUNT_DATA_KIND_BYTES_MAX {
            return Err(SetAccountDataError::KindTooLong(kind.len()));
        }
        let localpart = self.key(user_id).ok_or(SetAccountDataError::UnknownUser)?.to_owned();
        let is_ignored_list = room_id.is_none() && kind == crate::ignored::KIND;
        let room = room_id.map_or_else(String::new, ToString::to_string);
        let (domain, owner, kind) = (self.domain, user_id.to_owned(), kind.to_owned());
        let commit = move |txn: &mut Txn| -> Result<Option<Position>, SetAccountDataError> {
            let stored = StoreUnavailable::from;
            if txn.get(&USER, domain, localpart.as_str()).map_err(stored)?.is_none_or(|user| user.is_deactivated) {
                return Err(SetAccountDataError::UnknownUser);
            }
            let key = (localpart, room, kind);
            let old = txn.get(&DATA, domain, &key).map_err(stored)?;
            let present = old.as_ref().map(|old| old.content.as_str()).filter(|content| *content != DELETED);
            let Some(content) = edit(present) else { return Ok(None) };
            if content == DELETED && present.is_none() {
                return Ok(None);
            }
            Ok(Some(write(txn, domain, &owner, key, old, content)))
        };
        let position = self.change(commit).await??;
        if is_ignored_list {
            self.ignored.remove(user_id.localpart());
        }
        Ok(position)
    }

    /// Deletes one piece; what is not there stays so.
    pub async fn delete_account_data(
        &self,
        user_id: &UserId,
        room_id: Option<&RoomId>,
        kind: &str,
    ) -> Result<(), SetAccountDataError> {
        self.edit_account_data(user_id, room_id, kind, |_| Some(DELETED.to_owned())).await.map(drop)
    }

    /// The global account data of a user that changed after `position`, all of it without one. Costs what it answers.
    pub fn global_account_data_after(
        &self,
        user_id: &UserId,
        position: Option<Position>,
    ) -> Result<Vec<AccountData>, StoreUnavailable> {
        let rows = self.rows_after(user_id, position, Some(""))?;
        let rows = rows.into_iter().filter(|(key, _)| key.room.is_empty());
        Ok(rows
            .map(|(key, record)| AccountData {
                kind: key.kind,
                content: record.content,
                position: Position(record.position),
            })
            .collect())
    }

    /// The room account data of a user that changed after `position`, all of it without one. Costs what it answers.
    pub fn room_account_data_after(
        &self,
        user_id: &UserId,
        position: Option<Position>,
    ) -> Result<Vec<RoomAccountData>, StoreUnavailable> {
        let rows = self.rows_after(user_id, position, None)?;
        let rows = rows.into_iter().filter(|(key, _)| !key.room.is_empty());
        rows.map(|(key, record)| {
            let room_id = OwnedRoomId::try_from(key.room).map_err(|_| StoreUnavailable::damaged("a room id"))?;
            let position = Position(record.position);
            Ok(RoomAccountData { room_id, kind: key.kind, content: record.content, position })
        })
        .collect()
    }

    /// What changed after `position`, oldest change first; without one everything, or everything about one room.
    fn rows_after(
        &self,
        user_id: &UserId,
        position: Option<Position>,
        room: Option<&str>,
    ) -> Result<Vec<(DataKey, DataRecord)>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(Vec::new()) };
        let view = self.shard.view();
        let Some(position) = position else {
            let range = match room {
                Some(room) => KeyRange::prefix(&(localpart, room)),
                None => KeyRange::prefix(&(localpart,)),
            };
            let rows = view.scan(&DATA, self.domain, range, Direction::Forward);
            let rows = rows.map(|row| row.map(|((_, room, kind), record)| (DataKey { room, kind }, record)));
            let rows = rows.filter(|row| row.as_ref().map_or(true, |(_, record)| record.content != DELETED));
            return Ok(rows.collect::<Result<_, StoreError>>()?);
        };
        let range = KeyRange::prefix(&(localpart,)).after(&(localpart, position.0));
        let mut changed = Vec::new();
        for row in view.scan(&DATA_AT, self.domain, range, Direction::Forward) {
            let (_, key) = row?;
            let record = view.get(&DATA, self.domain, &(localpart, key.room.as_str(), key.kind.as_str()))?;
            let record = record.ok_or_else(|| StoreUnavailable::damaged("account data without content"))?;
            changed.push((key, record));
        }
        Ok(changed)
    }

    pub(crate) async fn erase_account_data(&self, user_id: &UserId) -> Result<(), StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(()) };
        let view = self.shard.view();
        let rows = view.prefix(&DATA, self.domain, &(localpart,), Direction::Forward);
        let rows = rows.map(|row| row.map(|(key, record)| (key, record.position)));
        let rows = rows.collect::<Result<Vec<_>, StoreError>>()?;
        let domain = self.domain;
        let commit = move |txn: &mut Txn| {
            for (key, position) in rows {
                txn.delete(&DATA, domain, &key);
                txn.delete(&DATA_AT, domain, &(key.0, position));
            }
        };
        self.change(commit).await?;
        self.ignored.remove(user_id.localpart());
        Ok(())
    }
}

/// Writes one piece where the log stands now.
fn write(
    txn: &mut Txn,
    domain: DomainId,
    owner: &UserId,
    key: (String, String, String),
    old: Option<DataRecord>,
    content: String,
) -> Position {
    if let Some(old) = old {
        txn.delete(&DATA_AT, domain, &(key.0.clone(), old.position));
    }
    let position = txn.append(log::entry(domain, owner, Kind::AccountData, format!("{}\0{}", key.1, key.2)));
    txn.put(&DATA, domain, &key, &DataRecord { position: position.0, content });
    let (localpart, room, kind) = key;
    txn.put(&DATA_AT, domain, &(localpart, position.0), &DataKey { room, kind });
    position
}

/// Deletes one piece, if it is there, in a commit that is about something else.
pub(crate) fn delete(
    txn: &mut Txn,
    domain: DomainId,
    owner: &UserId,
    room: &str,
    kind: &str,
) -> Result<(), StoreError> {
    let key = (owner.localpart().to_owned(), room.to_owned(), kind.to_owned());
    if let Some(old) = txn.get(&DATA, domain, &key)?.filter(|old| old.content != DELETED) {
        write(txn, domain, owner, key, Some(old), DELETED.to_owned());
    }
    Ok(())
}
