//! Rooms that members of other rooms may join: who meets a condition, who of ours vouches for them, and who else could.
//! [CS-API §restricted-rooms] [SS-API §restricted-rooms]

use std::collections::HashSet;

use koine_graph::PowerLevels;
use ruma_common::{OwnedServerName, OwnedUserId, RoomId, UserId};
use serde_json::Value;

use crate::{
    error::{CommandError, ReadError},
    registry::Rooms,
    room::{Head, Room},
    tables::Membership,
};

impl Rooms {
    /// Who of us may let `user` into a restricted room that they meet a condition of. `None`: the room is not
    /// restricted.
    ///
    /// # Errors
    /// `Forbidden` for who meets no condition; `UnableToAuthorise` where that cannot be told here, since nobody of ours
    /// is in a room that is a condition; `UnableToGrant` where nobody here may invite.
    pub(crate) fn voucher(&self, room: &Room, head: &Head, user: &UserId) -> Result<Option<OwnedUserId>, CommandError> {
        let Some(rules) = room.head_state(head, "m.room.join_rules", "")? else { return Ok(None) };
        let content: Value = serde_json::from_str(rules.content().get()).unwrap_or_default();
        if !matches!(content["join_rule"].as_str(), Some("restricted" | "knock_restricted")) {
            return Ok(None);
        }
        let conditions = content["allow"].as_array().into_iter().flatten();
        let conditions = conditions
            .filter(|condition| condition["type"] == "m.room_membership")
            .filter_map(|condition| <&RoomId>::try_from(condition["room_id"].as_str()?).ok());
        let mut unknown = false;
        let mut meets = false;
        for id in conditions {
            // What we have of a room that we left is out of date.
            match self.room(id).ok().filter(|room| room.is_attended()) {
                Some(condition) => meets |= condition.is_joined(user),
                None => unknown = true,
            }
        }
        match (meets, unknown) {
            (true, _) => {}
            (false, true) => return Err(CommandError::UnableToAuthorise),
            (false, false) => {
                let message = format!("{user} is in none of the rooms whose members may join");
                return Err(CommandError::Forbidden(message));
            }
        }
        let levels = room.power_levels(head)?;
        let may_invite = |member: &&UserId| levels.user_level(member).reaches(levels.invite());
        let voucher =
            room.for_local_joined(|mut joined| Iterator::find(&mut joined, may_invite).map(ToOwned::to_owned));
        voucher.map(Some).ok_or(CommandError::UnableToGrant)
    }
}

impl Rooms {
    /// Whether `user`, who is not invited, may come in as far as the room's conditions on its members go.
    ///
    /// # Errors
    /// As those of a join: `Forbidden`, `UnableToAuthorise`, `UnableToGrant`.
    pub fn check_conditions(&self, room: &Room, user: &UserId) -> Result<(), CommandError> {
        let head = room.head.lock().clone();
        match room.head_membership(&head, user)? {
            Some(Membership::Join | Membership::Invite) => Ok(()),
            _ => self.voucher(room, &head, user).map(|_| ()),
        }
    }
}

impl Room {
    /// Servers in the room that somebody could be let in through where we cannot do it: `via` first, then those of
    /// people who may invite by name.
    pub(crate) fn servers_to_vouch(&self, via: &[OwnedServerName]) -> Result<Vec<OwnedServerName>, ReadError> {
        let levels = {
            let head = self.head.lock();
            self.power_levels(&head)?
        };
        let mut servers = via.to_vec();
        for user in inviters(&levels) {
            if !servers.iter().any(|server| server == user.server_name())
                && self.current_membership(&user)? == Some(Membership::Join)
            {
                servers.push(user.server_name().to_owned());
            }
        }
        servers.extend(self.servers()?);
        let mut seen = HashSet::new();
        servers.retain(|server| *server != self.core.config.server_name && seen.insert(server.clone()));
        Ok(servers)
    }

    fn current_membership(&self, user: &UserId) -> Result<Option<Membership>, ReadError> {
        let member = self.current("m.room.member", user.as_str())?;
        Ok(member.and_then(|member| member.event.membership()).map(Membership::from))
    }
}

/// Who is named as somebody who may invite.
fn inviters(levels: &PowerLevels) -> Vec<OwnedUserId> {
    let named = levels.users().filter_map(|(user, _)| OwnedUserId::try_from(user).ok());
    let mut all: Vec<OwnedUserId> = levels.creators().iter().cloned().chain(named).collect();
    all.retain(|user| levels.user_level(user).reaches(levels.invite()));
    all.sort_by_key(|user| std::cmp::Reverse(levels.user_level(user)));
    all
}
