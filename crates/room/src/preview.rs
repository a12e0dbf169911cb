//! What may be known of a room from outside, and by whom. [CS-API §get_matrixclientv1room_summaryroomidoralias]

use ruma_common::{OwnedRoomId, ServerName, UserId};
use serde_json::Value;

use crate::{directory::Summary, error::ReadError, registry::Rooms, room::Room, tables::Membership};

/// A summary with what the directory does not tell. [CS-API §get_matrixclientv1room_summaryroomidoralias]
#[derive(Clone, Debug)]
pub struct Preview {
    /// What the directory tells as well.
    pub summary: Summary,
    /// The room's version, where it was told.
    pub version: Option<String>,
    /// How messages are encrypted in it.
    pub encryption: Option<String>,
    /// The rooms whose members may join; `None` where the room is not restricted.
    pub allowed_rooms: Option<Vec<OwnedRoomId>>,
}

impl Rooms {
    /// Whether `user`, or a stranger, may know of a room without being in it.
    ///
    /// A room that others have gone on without us is unknown: what we have of it is out of date.
    pub fn may_preview(&self, room: &Room, user: Option<&UserId>) -> Result<bool, ReadError> {
        if room.current("m.room.create", "")?.is_none() || (!room.is_attended() && !room.servers()?.is_empty()) {
            return Ok(false);
        }
        let membership = user.and_then(|user| room.local_membership(user));
        if matches!(membership, Some(Membership::Join | Membership::Invite)) {
            return Ok(true);
        }
        let visibility: Option<String> = room
            .current("m.room.history_visibility", "")?
            .and_then(|placed| placed.event.content_field("history_visibility"));
        if visibility.as_deref() == Some("world_readable") {
            return Ok(true);
        }
        if membership == Some(Membership::Ban) {
            return Ok(false);
        }
        let rules = &room.rules().authorization;
        match room.join_rule()?.as_deref() {
            Some("public") => Ok(true),
            Some("knock") if rules.knocking => Ok(true),
            Some("knock_restricted") if rules.knock_restricted_join_rule => Ok(true),
            Some("restricted") if rules.restricted_join_rule => {
                let Some(user) = user else { return Ok(false) };
                let allowed = room.allowed_rooms()?.unwrap_or_default();
                Ok(allowed.iter().any(|id| self.room(id).is_ok_and(|room| room.is_joined(user))))
            }
            _ => Ok(false),
        }
    }

    /// Whether anybody of `server` may know of a room. [SS-API §get_matrixfederationv1hierarchyroomid]
    pub fn may_server_preview(&self, room: &Room, server: &ServerName) -> Result<bool, ReadError> {
        if room.has_server(server)? || self.may_preview(room, None)? {
            return Ok(true);
        }
        if room.join_rule()?.as_deref() != Some("restricted") || !room.rules().authorization.restricted_join_rule {
            return Ok(false);
        }
        let allowed = room.allowed_rooms()?.unwrap_or_default();
        Ok(allowed.iter().any(|id| {
            let condition = self.room(id).ok().filter(|condition| condition.is_attended());
            condition.is_some_and(|condition| condition.has_server(server).unwrap_or(false))
        }))
    }

    /// Whether `user` may know of a room that nobody of ours is in, going by what another server tells of it.
    pub(crate) fn may_know_of(&self, told: &Preview, user: Option<&UserId>) -> bool {
        let summary = &told.summary;
        if summary.world_readable {
            return true;
        }
        match summary.join_rule.as_deref() {
            // [CS-API §get_matrixclientv1roomsroomidhierarchy] Not told, it is public.
            None | Some("public" | "knock" | "knock_restricted") => true,
            Some("restricted") => user.is_some_and(|user| {
                let mut allowed = told.allowed_rooms.iter().flatten();
                allowed.any(|id| self.room(id).is_ok_and(|room| room.is_attended() && room.is_joined(user)))
            }),
            _ => user.is_some_and(|user| {
                let membership = self.room(&summary.room_id).ok().and_then(|room| room.local_membership(user));
                membership == Some(Membership::Invite)
            }),
        }
    }
}

impl Room {
    /// The room as somebody outside may know it.
    pub fn preview(&self) -> Result<Preview, ReadError> {
        let encryption = self.current("m.room.encryption", "")?;
        Ok(Preview {
            summary: self.summary()?,
            version: Some(self.version().to_string()),
            encryption: encryption.and_then(|placed| placed.event.content_field("algorithm")),
            allowed_rooms: self.allowed_rooms()?,
        })
    }

    fn join_rule(&self) -> Result<Option<String>, ReadError> {
        Ok(self.current("m.room.join_rules", "")?.and_then(|placed| placed.event.content_field("join_rule")))
    }

    /// The rooms whose members may join. [CS-API §restricted-rooms]
    fn allowed_rooms(&self) -> Result<Option<Vec<OwnedRoomId>>, ReadError> {
        let Some(rules) = self.current("m.room.join_rules", "")? else { return Ok(None) };
        let content: Value = serde_json::from_str(rules.event.content().get()).unwrap_or_default();
        if !matches!(content["join_rule"].as_str(), Some("restricted" | "knock_restricted")) {
            return Ok(None);
        }
        let conditions = content["allow"].as_array().into_iter().flatten();
        let rooms = conditions
            .filter(|condition| condition["type"] == "m.room_membership")
            .filter_map(|condition| OwnedRoomId::try_from(condition["room_id"].as_str()?).ok());
        Ok(Some(rooms.collect()))
    }
}
