//! Names of rooms, and the list of public ones. [CS-API §room-aliases]

use ruma_common::{OwnedRoomAliasId, OwnedRoomId, RoomAliasId, RoomId, UserId};
use serde_json::Value;

use crate::{
    error::{CommandError, ReadError},
    registry::Rooms,
    tables::{ALIAS, AliasRecord, Membership, NETWORK_LISTED, PUBLIC, ROOM_ALIAS},
};

/// Longest name of the list of a network.
pub const NETWORK_BYTES_MAX: usize = 512;

impl Rooms {
    /// Makes `alias` lead to `room`.
    ///
    /// # Errors
    /// `AliasTaken`; `InvalidParam` for an alias of another server; `NotJoined`.
    pub async fn set_alias(&self, user: &UserId, alias: &RoomAliasId, room: &RoomId) -> Result<(), CommandError> {
        if alias.server_name() != self.server_name() {
            return Err(CommandError::InvalidParam(format!("{alias} belongs to another server")));
        }
        let room = self.room(room)?;
        if room.local_membership(user) != Some(Membership::Join) {
            return Err(CommandError::NotJoined);
        }
        let _writer = self.alias_writer.lock().await;
        let (domain, no, name) = (self.core.domain(), room.no(), alias.to_string());
        if self.core.shard.get(&ALIAS, domain, alias.as_str())?.is_some() {
            return Err(CommandError::AliasTaken(name));
        }
        let record = AliasRecord { room: no, creator: user.to_string() };
        self.core
            .shard
            .submit(move |txn| {
                txn.put(&ALIAS, domain, name.as_str(), &record);
                txn.put(&ROOM_ALIAS, domain, &(no, name), &());
            })
            .await?;
        Ok(())
    }

    /// Deletes an alias: its maker may, and whoever may name the room. A canonical alias is taken out of the room's
    /// state where the deleter may do that.
    pub async fn delete_alias(&self, user: &UserId, alias: &RoomAliasId) -> Result<(), CommandError> {
        let (domain, name) = (self.core.domain(), alias.to_string());
        let writer = self.alias_writer.lock().await;
        let Some(record) = self.core.shard.get(&ALIAS, domain, alias.as_str())? else {
            return Err(CommandError::NoSuchAlias(name));
        };
        let room = self.room_by_no(record.room)?;
        let named_by_power = {
            let head = room.head.lock();
            room.local_membership(user) == Some(Membership::Join)
                && room.power_levels(&head)?.may_send(user, "m.room.canonical_alias", true)
        };
        if record.creator != user.as_str() && !named_by_power {
            return Err(CommandError::Forbidden(format!("{user} neither made {alias} nor may name the room")));
        }
        let gone = name.clone();
        self.core
            .shard
            .submit(move |txn| {
                txn.delete(&ALIAS, domain, gone.as_str());
                txn.delete(&ROOM_ALIAS, domain, &(record.room, gone));
            })
            .await?;
        drop(writer);
        if named_by_power {
            self.drop_from_canonical(user, room.id(), &name).await?;
        }
        Ok(())
    }

    async fn drop_from_canonical(&self, user: &UserId, room: &RoomId, alias: &str) -> Result<(), CommandError> {
        let Some(canonical) = self.room(room)?.current("m.room.canonical_alias", "")? else { return Ok(()) };
        let mut content: Value = serde_json::from_str(canonical.event.content().get()).unwrap_or_default();
        let before = content.clone();
        if let Some(fields) = content.as_object_mut() {
            if fields.get("alias").and_then(Value::as_str) == Some(alias) {
                fields.remove("alias");
            }
            if let Some(others) = fields.get_mut("alt_aliases").and_then(Value::as_array_mut) {
                others.retain(|other| other.as_str() != Some(alias));
                if others.is_empty() {
                    fields.remove("alt_aliases");
                }
            }
        }
        if content == before {
            return Ok(());
        }
        let content = serde_json::value::to_raw_value(&content).map_err(|e| CommandError::BadContent(e.to_string()))?;
        let sender = crate::send::Sender { user, device: None };
        self.set_state(sender, room, "m.room.canonical_alias", "", &content).await?;
        Ok(())
    }

    /// Where an alias of this server leads.
    pub fn resolve_alias(&self, alias: &RoomAliasId) -> Result<OwnedRoomId, CommandError> {
        let record = self.core.shard.get(&ALIAS, self.core.domain(), alias.as_str())?;
        let record = record.ok_or_else(|| CommandError::NoSuchAlias(alias.to_string()))?;
        Ok(self.room_by_no(record.room)?.id().to_owned())
    }

    /// The aliases of this server that lead to a room.
    pub fn aliases(&self, room: &RoomId) -> Result<Vec<OwnedRoomAliasId>, ReadError> {
        let no = self.room(room)?.no();
        let view = self.core.shard.view();
        let rows = view.prefix(&ROOM_ALIAS, self.core.domain(), &(no,), koine_store::Direction::Forward);
        rows.map(|row| {
            let ((_, alias), ()) = row?;
            OwnedRoomAliasId::try_from(alias).map_err(|_| ReadError::Damaged(format!("room {no}: an alias is none")))
        })
        .collect()
    }

    /// Puts a room into the public directory or takes it out; who may set its canonical alias may do that.
    /// [CS-API §put_matrixclientv3directorylistroomroomid]
    pub async fn set_listed(&self, user: &UserId, room: &RoomId, listed: bool) -> Result<(), CommandError> {
        let room = self.room(room)?;
        {
            let head = room.head.lock();
            if room.head_membership(&head, user)? != Some(Membership::Join) {
                return Err(CommandError::NotJoined);
            }
            if !room.power_levels(&head)?.may_send(user, "m.room.canonical_alias", true) {
                return Err(CommandError::Forbidden(format!("{user} may not name this room")));
            }
        }
        let (domain, no) = (self.core.domain(), room.no());
        self.core
            .shard
            .submit(
                move |txn| if listed { txn.put(&PUBLIC, domain, &no, &()) } else { txn.delete(&PUBLIC, domain, &no) },
            )
            .await?;
        Ok(())
    }

    /// Puts a room into the list of another network, or takes it out: the bridge that leads there says so.
    /// [CS-API §put_matrixclientv3directorylistappservicenetworkidroomid]
    pub async fn set_listed_in(&self, network: &str, room: &RoomId, listed: bool) -> Result<(), CommandError> {
        if network.len() > NETWORK_BYTES_MAX {
            return Err(CommandError::InvalidParam(format!(
                "the name of a network has at most {NETWORK_BYTES_MAX} bytes"
            )));
        }
        let key = (self.room(room)?.no(), network.to_owned());
        let domain = self.core.domain();
        let commit = self.core.shard.submit(move |txn| match listed {
            true => txn.put(&NETWORK_LISTED, domain, &key, &()),
            false => txn.delete(&NETWORK_LISTED, domain, &key),
        });
        commit.await?;
        Ok(())
    }

    /// Whether a room is in the public directory.
    pub fn is_listed(&self, room: &RoomId) -> Result<bool, ReadError> {
        let no = self.room(room)?.no();
        Ok(self.core.shard.get(&PUBLIC, self.core.domain(), &no)?.is_some())
    }
}
