//! The room in which two people talk: found by the pair, made with the first message, revived when one had left.

use std::sync::Arc;

use koine_account::StoreUnavailable;
use koine_room::{CommandError, CreateRoom, Membership, Preset, Profile, ReadError, Room};
use koine_stanza::StanzaError;
use ruma_common::{OwnedRoomId, OwnedUserId, RoomVersionId, UserId};
use serde_json::{Map, Value, json};

use crate::{
    core::Core,
    error::{refused, unreadable},
};

/// The account data that names rooms of two. [CS-API §mdirect]
const DIRECT: &str = "m.direct";
/// How the room is called in which somebody writes to themselves.
const NOTES: &str = "Notes to self";
/// Rooms named there for one person that are looked at.
const DIRECT_LOOK_MAX: usize = 20;

impl Core {
    /// The room in which `me` writes to `peer`, with both of them in it, or asked to come. `peer` is somebody who exists.
    pub(crate) async fn conversation(self: &Arc<Self>, me: &UserId, peer: &UserId) -> Result<Arc<Room>, StanzaError> {
        if let Some(room) = self.known_conversation(me, peer).map_err(|error| unreadable(&error))?
            && self.is_in(&room, me)
            && self.is_in(&room, peer)
        {
            return Ok(room);
        }
        let _making = self.im.making.of(me, peer).await;
        let room = match self.known_conversation(me, peer).map_err(|error| unreadable(&error))? {
            Some(room) => self.revive(room, me, peer).await.map_err(|error| refused(&error))?,
            None => None,
        };
        match room {
            Some(room) => Ok(room),
            None => self.make_conversation(me, peer).await.map_err(|error| refused(&error)),
        }
    }

    /// The room in which two people talk, if there is one that what XMPP says can be read in.
    pub(crate) fn known_conversation(&self, me: &UserId, peer: &UserId) -> Result<Option<Arc<Room>>, ReadError> {
        let Some(no) = self.rooms().room_of_two(me, peer)? else { return Ok(None) };
        let room = self.rooms().room_by_no(no)?;
        // Into a room for encrypted messages nobody writes in plain text by mistake.
        let encrypted = room.current("m.room.encryption", "")?.is_some();
        Ok(Some(room).filter(|_| !encrypted))
    }

    fn is_in(&self, room: &Room, user: &UserId) -> bool {
        room.is_joined(user)
    }

    /// Brings both back into their room; `None` where nobody is left who could let them in, or where one of them was sent out by
    /// the other: that is no way back in.
    async fn revive(
        self: &Arc<Self>,
        room: Arc<Room>,
        me: &UserId,
        peer: &UserId,
    ) -> Result<Option<Arc<Room>>, CommandError> {
        for (absent, host) in [(me, peer), (peer, me)] {
            if self.is_in(&room, absent) {
                continue;
            }
            let membership = room.current("m.room.member", absent.as_str())?;
            let by_themselves = membership.as_ref().is_some_and(|placed| placed.event.sender() == absent);
            let membership = membership.and_then(|placed| placed.event.membership()).map(Membership::from);
            match membership {
                Some(Membership::Invite) => {}
                Some(Membership::Leave) if !by_themselves => return Ok(None),
                // Whoever writes may ask; whoever is written to asks nobody.
                _ if (by_themselves || absent == peer) && self.is_in(&room, host) && self.accounts().is_local(host) => {
                    let profile = self.profile_of(absent);
                    let direct = Map::from_iter([("is_direct".to_owned(), json!(true))]);
                    self.rooms().invite(host, room.id(), (absent, &profile), None, direct).await?;
                }
                _ => return Ok(None),
            }
            if absent == me || self.comes_at_once(absent) {
                self.rooms().join(absent, room.id(), &self.profile_of(absent), None, Map::new()).await?;
            }
        }
        Ok(Some(room))
    }

    async fn make_conversation(self: &Arc<Self>, me: &UserId, peer: &UserId) -> Result<Arc<Room>, CommandError> {
        if me != peer
            && let Some(room) = self.direct_room(me, peer)?
        {
            self.rooms().pair(room.id(), me, peer, true).await?;
            return Ok(room);
        }
        let (local, alone) = (self.accounts().is_local(peer), me == peer);
        let profile = self.profile_of(peer);
        let new = CreateRoom {
            creator: me.to_owned(),
            profile: self.profile_of(me),
            version: RoomVersionId::V11,
            preset: Preset::TrustedPrivateChat,
            creation_content: Map::new(),
            power_levels: Map::new(),
            initial_state: Vec::new(),
            name: alone.then(|| NOTES.to_owned()),
            topic: None,
            alias: None,
            invite: if local && !alone { vec![(peer.to_owned(), profile.clone())] } else { Vec::new() },
            is_direct: true,
            listed: false,
        };
        let id = self.rooms().create(new).await?;
        self.rooms().pair(&id, me, peer, true).await?;
        if !local {
            let direct = Map::from_iter([("is_direct".to_owned(), json!(true))]);
            self.rooms().invite(me, &id, (peer, &profile), None, direct).await?;
        } else if !alone && self.comes_at_once(peer) {
            self.rooms().join(peer, &id, &profile, None, Map::new()).await?;
        }
        for (owner, other) in [(me, peer), (peer, me)] {
            self.note_direct(owner, other, &id).await;
        }
        Ok(self.rooms().room(&id)?)
    }

    /// A room of the two that Matrix clients made, and wrote down.
    fn direct_room(&self, me: &UserId, peer: &UserId) -> Result<Option<Arc<Room>>, CommandError> {
        for (owner, other) in [(me, peer), (peer, me)] {
            let list = self.accounts().account_data(owner, None, DIRECT).map_err(store)?;
            let list: Value = list.and_then(|list| serde_json::from_str(&list).ok()).unwrap_or_default();
            let rooms = list.get(other.as_str()).and_then(Value::as_array).into_iter().flatten();
            for id in rooms.filter_map(Value::as_str).take(DIRECT_LOOK_MAX) {
                let Ok(id) = OwnedRoomId::try_from(id) else { continue };
                let Ok(room) = self.rooms().room(&id) else { continue };
                let published = room.published();
                if published.joined + published.invited == 2
                    && self.is_in(&room, me)
                    && self.is_in(&room, peer)
                    && room.current("m.room.encryption", "")?.is_none()
                {
                    return Ok(Some(room));
                }
            }
        }
        Ok(None)
    }

    /// Writes down for Matrix clients that a room is a conversation with somebody.
    async fn note_direct(&self, owner: &UserId, other: &UserId, room: &OwnedRoomId) {
        if !self.is_account(owner) {
            return;
        }
        let (other, room) = (other.to_string(), room.to_string());
        let edit = move |old: Option<&str>| {
            let mut list: Map<String, Value> = old.and_then(|old| serde_json::from_str(old).ok()).unwrap_or_default();
            let rooms = list.entry(other).or_insert_with(|| json!([])).as_array_mut()?;
            if rooms.iter().any(|known| known == room.as_str()) {
                return None;
            }
            rooms.push(json!(room));
            Some(Value::Object(list).to_string())
        };
        if let Err(error) = self.accounts().edit_account_data(owner, None, DIRECT, edit).await {
            tracing::warn!(user_id = %owner, reason = %error, "a conversation is not on the list of direct chats");
        }
    }

    /// How somebody is called in rooms.
    pub(crate) fn profile_of(&self, user: &UserId) -> Profile {
        if let Some(address) = self.mail_address_of(user) {
            return Profile { displayname: Some(address.to_string()), avatar_url: None };
        }
        if self.is_ghost(user) {
            let displayname = self.address_of(user).map(|address| address.to_string());
            return Profile { displayname, avatar_url: None };
        }
        let (displayname, avatar_url) = self.accounts().display_profile(user).unwrap_or_default();
        Profile { displayname, avatar_url }
    }

    /// Whether somebody is in a conversation as soon as another begins it, as XMPP has it.
    pub(crate) fn comes_at_once(&self, user: &UserId) -> bool {
        self.is_ghost(user) || self.mail_address_of(user).is_some() || self.accounts().uses_xmpp(user).unwrap_or(false)
    }

    /// Whether a user id is that of an account of ours that is in use.
    pub(crate) fn is_account(&self, user: &UserId) -> bool {
        self.accounts().is_active(user).unwrap_or(false)
    }

    /// Whether `owner` wants to hear nothing from `other`. [XEP-0191] [CS-API §ignoring-users]
    pub(crate) fn has_blocked(&self, owner: &UserId, other: &UserId) -> bool {
        let ignored = match self.accounts().ignored_users(owner) {
            Ok(ignored) => ignored,
            Err(error) => {
                tracing::error!(user_id = %owner, reason = %error, "a block list could not be read");
                return false;
            }
        };
        if ignored.contains(other) {
            return true;
        }
        // [XEP-0191 §matching] Whole servers.
        let servers = self.blocked_addresses(owner);
        let host = || self.address_of(other).map(|address| address.domain().to_string());
        !servers.is_empty() && host().is_some_and(|host| servers.contains(&host))
    }

    /// The two of a room of two, if it is one, `me` first.
    pub(crate) fn pair_from(pair: &koine_room::Pair, me: &UserId) -> Option<(OwnedUserId, OwnedUserId)> {
        match pair {
            (one, other) if one == me => Some((one.clone(), other.clone())),
            (one, other) if other == me => Some((other.clone(), one.clone())),
            _ => None,
        }
    }
}

fn store(error: StoreUnavailable) -> CommandError {
    match error {
        StoreUnavailable::Read(error) => CommandError::Store(error),
        StoreUnavailable::Commit(error) => CommandError::Commit(error),
        StoreUnavailable::Damaged(what) => CommandError::Damaged(what.to_owned()),
    }
}
