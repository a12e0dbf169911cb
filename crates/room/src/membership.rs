//! Coming, going, being asked and being shut out. [CS-API §room-membership-1]

use std::sync::Arc;

use koine_graph::PowerLevels;
use koine_store::{Commit, LogEntry, bytes::Bytes};
use ruma_common::{OwnedServerName, RoomId, UserId};
use serde_json::{Map, Value, json, value::to_raw_value};

use crate::{
    elsewhere::Wish,
    error::{CommandError, ReadError},
    log::{self, Kind},
    registry::Rooms,
    room::{Head, Room},
    tables::{MEMBERSHIP, Membership, RoomNo},
    write::NewEvent,
};

/// Rooms of one account that are changed at the same time when its profile changes or it leaves them all.
const ROOMS_AT_ONCE: usize = 64;

/// How a person is called, as membership events carry it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// `displayname`.
    pub displayname: Option<String>,
    /// `avatar_url`.
    pub avatar_url: Option<String>,
}

impl Profile {
    /// Content of a membership event with this profile.
    pub(crate) fn content(&self, membership: &str) -> Value {
        let mut content = json!({ "membership": membership });
        if let Some(name) = &self.displayname {
            content["displayname"] = json!(name);
        }
        if let Some(avatar) = &self.avatar_url {
            content["avatar_url"] = json!(avatar);
        }
        content
    }
}

impl Rooms {
    /// Joins `user` to a room. Already being in it is success.
    ///
    /// Where the join rules admit only members of other rooms, somebody of ours with the power to invite vouches for
    /// the member. [CS-API §restricted-rooms]
    pub async fn join(
        &self,
        user: &UserId,
        room: &RoomId,
        profile: &Profile,
        reason: Option<&str>,
        extra: Map<String, Value>,
    ) -> Result<(), CommandError> {
        self.join_via(user, room, &[], profile, reason, extra).await
    }

    /// The same, through one of `via` where nobody of ours is in the room.
    pub async fn join_via(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[OwnedServerName],
        profile: &Profile,
        reason: Option<&str>,
        extra: Map<String, Value>,
    ) -> Result<(), CommandError> {
        self.check_not_blocked(room)?;
        self.admit(user, room).await?;
        if let Some(via) = self.way_in(room, user, via)? {
            let wish = Wish { user, room, via: &via, profile, reason, extra: &extra };
            return self.elsewhere()?.join(wish).await;
        }
        let room = self.room(room)?;
        let mut content = profile.content("join");
        content.as_object_mut().expect("made as an object").extend(extra.clone());
        let content = with_reason(content, reason);
        match self.change(&room, |head| self.join_here(head, user, &room, content.clone())).await {
            Ok(Some(commit)) => drop(commit.await?),
            // The join may still be on its way to the disk.
            Ok(None) => drop(self.core.shard.submit(|_| {}).await?),
            Err(error @ (CommandError::UnableToAuthorise | CommandError::UnableToGrant)) => {
                let servers = room.servers_to_vouch(via)?;
                let Some(elsewhere) = self.elsewhere.get().filter(|_| !servers.is_empty()) else { return Err(error) };
                let wish = Wish { user, room: room.id(), via: &servers, profile, reason, extra: &extra };
                return elsewhere.join(wish).await;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Joins a room that we can speak for. `None` for who is in it.
    fn join_here(
        &self,
        head: &mut Head,
        user: &UserId,
        room: &Arc<Room>,
        mut content: Value,
    ) -> Result<Option<Commit>, CommandError> {
        match room.head_membership(head, user)? {
            Some(Membership::Join) => return Ok(None),
            Some(Membership::Ban) => return Err(CommandError::Banned),
            Some(Membership::Invite) => {}
            _ => {
                if let Some(voucher) = self.voucher(room, head, user)? {
                    content["join_authorised_via_users_server"] = json!(voucher);
                }
            }
        }
        room.change_member(head, user, user, &content).map(Some)
    }

    /// Asks `target` into a room.
    pub async fn invite(
        &self,
        sender: &UserId,
        room: &RoomId,
        (target, profile): (&UserId, &Profile),
        reason: Option<&str>,
        extra: Map<String, Value>,
    ) -> Result<(), CommandError> {
        self.check_not_blocked(room)?;
        let mut content = profile.content("invite");
        content.as_object_mut().expect("made as an object").extend(extra);
        if target.server_name() != self.server_name() {
            let room = self.room(room)?;
            return self.elsewhere()?.invite(sender, &room, target, &with_reason(content, reason)).await;
        }
        self.set_membership(sender, room, target, content, reason).await
    }

    /// Asks to be let in. [CS-API §knocking-on-rooms]
    pub async fn knock(
        &self,
        user: &UserId,
        room: &RoomId,
        profile: &Profile,
        reason: Option<&str>,
    ) -> Result<(), CommandError> {
        self.knock_via(user, room, &[], profile, reason).await
    }

    /// The same, through one of `via` where nobody of ours is in the room.
    pub async fn knock_via(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[OwnedServerName],
        profile: &Profile,
        reason: Option<&str>,
    ) -> Result<(), CommandError> {
        if let Some(via) = self.way_in(room, user, via)? {
            let wish = Wish { user, room, via: &via, profile, reason, extra: &Map::new() };
            return self.elsewhere()?.knock(wish).await;
        }
        self.set_membership(user, room, user, profile.content("knock"), reason).await
    }

    /// Leaves a room, refuses an invitation or takes back a knock. Having left already is success.
    pub async fn leave(&self, user: &UserId, room: &RoomId, reason: Option<&str>) -> Result<(), CommandError> {
        let room = self.room(room)?;
        let outside = matches!(room.local_membership(user), Some(Membership::Invite | Membership::Knock));
        if outside && let Some(via) = self.way_in(room.id(), user, &[])? {
            let (profile, extra) = (Profile::default(), Map::new());
            let wish = Wish { user, room: room.id(), via: &via, profile: &profile, reason, extra: &extra };
            return self.elsewhere()?.leave(wish).await;
        }
        let content = with_reason(json!({ "membership": "leave" }), reason);
        let leave = |head: &mut Head| match room.head_membership(head, user)? {
            // [CS-API §post_matrixclientv3roomsroomidleave] Leaving twice is no error; never having been there is.
            Some(Membership::Leave) => Ok(None),
            None => Err(CommandError::NotJoined),
            _ => room.change_member(head, user, user, &content).map(Some),
        };
        if let Some(commit) = self.change(&room, leave).await? {
            commit.await?;
        }
        Ok(())
    }

    /// Removes `target` from a room. Somebody who is not in it cannot be removed.
    pub async fn kick(
        &self,
        sender: &UserId,
        room: &RoomId,
        target: &UserId,
        reason: Option<&str>,
    ) -> Result<(), CommandError> {
        self.remove(sender, room, target, reason, |present| match present {
            Some(Membership::Join | Membership::Invite | Membership::Knock) => Ok(()),
            _ => Err(CommandError::Forbidden(format!("{target} is not in the room"))),
        })
        .await
    }

    /// Shuts `target` out of a room.
    pub async fn ban(
        &self,
        sender: &UserId,
        room: &RoomId,
        target: &UserId,
        reason: Option<&str>,
    ) -> Result<(), CommandError> {
        self.set_membership(sender, room, target, json!({ "membership": "ban" }), reason).await
    }

    /// Lets `target` in again, without inviting.
    pub async fn unban(
        &self,
        sender: &UserId,
        room: &RoomId,
        target: &UserId,
        reason: Option<&str>,
    ) -> Result<(), CommandError> {
        self.remove(sender, room, target, reason, |present| match present {
            Some(Membership::Ban) => Ok(()),
            _ => Err(CommandError::Forbidden(format!("{target} is not banned"))),
        })
        .await
    }

    /// Takes a room that `user` has left out of the account's view.
    ///
    /// # Errors
    /// `Forbidden` while `user` is still in the room. [CS-API §post_matrixclientv3roomsroomidforget]
    pub async fn forget(&self, user: &UserId, room: &RoomId) -> Result<(), CommandError> {
        let room = self.room(room)?;
        let (domain, no) = (self.core.domain(), room.no());
        let Some(record) = room.local_record(user) else { return Err(CommandError::NotJoined) };
        if !matches!(record.membership, Membership::Leave | Membership::Ban) {
            return Err(CommandError::Forbidden(format!("{user} is still in the room")));
        }
        let user = user.to_owned();
        self.core
            .shard
            .submit(move |txn| {
                let key = (user.to_string(), no);
                let Ok(Some(mut record)) = txn.get(&MEMBERSHIP, domain, &key) else { return };
                if matches!(record.membership, Membership::Leave | Membership::Ban) {
                    record.forgotten = true;
                    txn.put(&MEMBERSHIP, domain, &key, &record);
                    let body = Bytes::copy_from_slice(user.as_bytes());
                    txn.append(LogEntry { domain, subject: log::room_subject(no), kind: Kind::Forget as u8, body });
                    txn.on_durable(move |_| room.publish_member(user, record));
                }
            })
            .await?;
        Ok(())
    }

    /// Brings a changed profile into every room the account is joined to. Rooms that refuse are passed over.
    pub async fn profile_changed(&self, user: &UserId, profile: &Profile) -> Result<(), CommandError> {
        self.in_each_joined(user, |room, head| {
            let Some(event) = room.head_state(head, "m.room.member", user.as_str())? else { return Ok(None) };
            let mut content: Map<String, Value> = serde_json::from_str(event.content().get()).unwrap_or_default();
            for gone in ["displayname", "avatar_url", "reason", "join_authorised_via_users_server", "is_direct"] {
                content.remove(gone);
            }
            if let Value::Object(new) = profile.content("join") {
                content.extend(new);
            }
            room.change_member(head, user, user, &content.into()).map(Some)
        })
        .await
    }

    /// Leaves every room and refuses every invitation, as a deactivated account does.
    pub async fn leave_all(&self, user: &UserId) -> Result<(), CommandError> {
        self.in_each(
            user,
            |membership| matches!(membership, Membership::Join | Membership::Invite | Membership::Knock),
            |room, head| room.change_member(head, user, user, &json!({ "membership": "leave" })).map(Some),
        )
        .await
    }

    /// The servers to go through, if the room is not one that we can speak for: nobody of ours is in it, but others
    /// are, or might be.
    pub(crate) fn way_in(
        &self,
        id: &RoomId,
        user: &UserId,
        via: &[OwnedServerName],
    ) -> Result<Option<Vec<OwnedServerName>>, CommandError> {
        let room = match self.room(id) {
            Ok(room) => room,
            Err(ReadError::NoSuchRoom) => {
                // Without a server to ask, or anybody who could, the room is as good as none.
                let mut asked: Vec<_> = via.iter().filter(|server| *server != self.server_name()).cloned().collect();
                let reachable = self.elsewhere.get().is_some();
                if via.is_empty() {
                    // Nobody said whom to ask: where the room was made, somebody may be left.
                    let named = id.server_name().filter(|server| *server != self.server_name());
                    asked.extend(named.map(ToOwned::to_owned));
                }
                return match asked.is_empty() || !reachable {
                    true => Err(CommandError::NoSuchRoom),
                    false => Ok(Some(asked)),
                };
            }
            Err(error) => return Err(error.into()),
        };
        if room.is_attended() {
            return Ok(None);
        }
        let mut servers: Vec<OwnedServerName> = via.to_vec();
        // Who invited the member can let them in.
        if let Some(record) = room.local_record(user)
            && matches!(record.membership, Membership::Invite | Membership::Knock)
            && let Some(event) = room.event_at(record.order)?
        {
            servers.push(event.event.sender().server_name().to_owned());
        }
        // Else it is for who wants in to say whom to ask; where nobody was named, anybody will do.
        if servers.iter().all(|server| server == self.server_name()) {
            servers.extend(room.servers()?);
            if room.published().state.is_empty() {
                // Nothing is known of the room: somebody may be left where it was made.
                servers.extend(id.server_name().map(ToOwned::to_owned));
            }
        }
        let mut seen = std::collections::HashSet::new();
        servers.retain(|server| server != self.server_name() && seen.insert(server.clone()));
        // A room that only ever was ours is entered as it stands.
        Ok((!servers.is_empty()).then_some(servers))
    }

    async fn in_each_joined(
        &self,
        user: &UserId,
        change: impl Fn(&Arc<Room>, &mut Head) -> Result<Option<Commit>, CommandError> + Send + Sync,
    ) -> Result<(), CommandError> {
        self.in_each(user, |membership| membership == Membership::Join, change).await
    }

    async fn in_each(
        &self,
        user: &UserId,
        wanted: impl Fn(Membership) -> bool,
        change: impl Fn(&Arc<Room>, &mut Head) -> Result<Option<Commit>, CommandError> + Send + Sync,
    ) -> Result<(), CommandError> {
        let rooms: Vec<RoomNo> = self
            .memberships(user)?
            .into_iter()
            .filter(|(_, record)| wanted(record.membership))
            .map(|(no, _)| no)
            .collect();
        for some in rooms.chunks(ROOMS_AT_ONCE) {
            let mut commits = Vec::new();
            for no in some {
                let room = self.room_by_no(*no)?;
                match self.change(&room, |head| change(&room, head)).await {
                    Ok(commit) => commits.extend(commit),
                    Err(
                        reason @ (CommandError::Refused(_)
                        | CommandError::NotRecommended(_)
                        | CommandError::PolicyServerSilent(_)),
                    ) => {
                        tracing::debug!(room_id = %room.id(), user_id = %user, %reason, "a room refused a change of membership");
                    }
                    Err(error) => return Err(error),
                }
            }
            for commit in commits {
                commit.await?;
            }
        }
        Ok(())
    }

    async fn remove(
        &self,
        sender: &UserId,
        room: &RoomId,
        target: &UserId,
        reason: Option<&str>,
        may: impl Fn(Option<Membership>) -> Result<(), CommandError> + Send + Sync,
    ) -> Result<(), CommandError> {
        let room = self.room(room)?;
        let content = with_reason(json!({ "membership": "leave" }), reason);
        let remove = |head: &mut Head| {
            if room.head_membership(head, sender)? != Some(Membership::Join) {
                return Err(CommandError::NotJoined);
            }
            may(room.head_membership(head, target)?)?;
            room.change_member(head, sender, target, &content)
        };
        self.change(&room, remove).await?.await?;
        Ok(())
    }

    async fn set_membership(
        &self,
        sender: &UserId,
        room: &RoomId,
        target: &UserId,
        content: Value,
        reason: Option<&str>,
    ) -> Result<(), CommandError> {
        let room = self.room(room)?;
        let content = with_reason(content, reason);
        self.change(&room, |head| room.change_member(head, sender, target, &content)).await?.await?;
        Ok(())
    }
}

impl Room {
    /// Stages and commits one membership event.
    fn change_member(
        self: &Arc<Self>,
        head: &mut Head,
        sender: &UserId,
        target: &UserId,
        content: &Value,
    ) -> Result<Commit, CommandError> {
        let content = to_raw_value(content).map_err(|error| CommandError::BadContent(error.to_string()))?;
        let staged = self.stage(head, NewEvent::state(sender, "m.room.member", target.as_str(), &content))?;
        Ok(self.commit(head, vec![staged], |_| {}))
    }

    /// Whether anybody, of whatever server, is joined, as published.
    pub fn is_joined(&self, user: &UserId) -> bool {
        let member = self.current("m.room.member", user.as_str()).ok().flatten();
        member.and_then(|member| member.event.membership()) == Some(koine_graph::Membership::Join)
    }

    /// Membership of anybody, as the writer sees it.
    pub(crate) fn head_membership(&self, head: &Head, user: &UserId) -> Result<Option<Membership>, ReadError> {
        let event = self.head_state(head, "m.room.member", user.as_str())?;
        Ok(event.and_then(|event| event.membership()).map(Membership::from))
    }

    /// The power levels, as the writer sees them.
    pub(crate) fn power_levels(&self, head: &Head) -> Result<PowerLevels, ReadError> {
        let create = self.head_state(head, "m.room.create", "")?;
        let levels = self.head_state(head, "m.room.power_levels", "")?;
        Ok(PowerLevels::new(&self.rules().authorization, create.as_ref(), levels.as_ref()))
    }
}

fn with_reason(mut content: Value, reason: Option<&str>) -> Value {
    if let Some(reason) = reason {
        content["reason"] = json!(reason);
    }
    content
}
