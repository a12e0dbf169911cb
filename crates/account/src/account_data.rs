//! Account data: what clients keep here for themselves, for the account or for one of its rooms.
//!
//! Every change has a position in the log, and an index by position, so that "what changed since?" costs what changed.
//! [CS-API §client-config]

use koine_store::{Direction, KeyRange, Position, StoreError, Txn};
use ruma_common::{OwnedRoomId, RoomId, UserId};

use crate::{
    Accounts, StoreUnavailable,
    log::{self, Kind},
    tables::{DATA, DATA_AT, DataKey, DataRecord, USER},
};

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
        Ok(self.shard.get(&DATA, self.domain, &key)?.map(|record| record.content))
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
            let Some(content) = edit(old.as_ref().map(|old| old.content.as_str())) else { return Ok(None) };
            if let Some(old) = old {
                txn.delete(&DATA_AT, domain, &(key.0.clone(), old.position));
            }
            let position = txn.append(log::entry(domain, &owner, Kind::AccountData, format!("{}\0{}", key.1, key.2)));
            txn.put(&DATA, domain, &key, &DataRecord { position: position.0, content });
            let (localpart, room, kind) = key;
            txn.put(&DATA_AT, domain, &(localpart, position.0), &DataKey { room, kind });
            Ok(Some(position))
        };
        let position = self.change(commit).await??;
        if is_ignored_list {
            self.ignored.remove(user_id.localpart());
        }
        Ok(position)
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
