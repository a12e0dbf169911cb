//! Which room a mail goes into, and who is in it.
//!
//! | the mail is | the room |
//! |---|---|
//! | between one correspondent and one account | of the two, as with anybody else |
//! | to several | of just those people; one more in Cc comes into it, and a mail to fewer goes elsewhere |
//! | to a room | that room |
//!
//! Somebody whom an account does not know asks to be heard: the account is invited and may accept, refuse or ignore them, once
//! for good. Who was refused is refused from then on, at the door; so is whom an account took out of the room of the two.
//!
//! A name may be forged. What comes in one that nothing stands by is said where its conversation is already, or between the
//! two, and brings nobody in beside its author.

use std::{collections::BTreeSet, sync::Arc};

use koine_account::InviteRule;
use koine_projection::{id::node_from_local, mail::Address};
use koine_room::{CommandError, CreateRoom, Membership, Preset, ReadError, Room, RoomNo};
use koine_store::Txn;
use ruma_common::{OwnedRoomId, OwnedUserId, RoomVersionId, UserId};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::reply::Refusal;
use crate::{core::Core, tables::CIRCLE};

/// The account data with those who need not ask: `addresses` and `domains`.
const ALLOWED: &str = "koine.mail.allowed";
/// Entries of it that are looked at.
const ALLOWED_MAX: usize = 1_000;
/// The account data that names rooms of two. [CS-API §mdirect]
const DIRECT: &str = "m.direct";

/// Whom a mail is between.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// The speaker and an account.
    Two(OwnedUserId),
    /// These people, the speaker among them.
    Circle(BTreeSet<OwnedUserId>),
    /// A conversation that is there, as it is.
    There(OwnedRoomId),
    /// Whoever is in a room.
    Room(OwnedRoomId),
}

/// Who speaks.
#[derive(Clone, Debug)]
pub(super) struct Speaker {
    pub(super) user: OwnedUserId,
    pub(super) address: Address,
    /// What they call themselves.
    pub(super) name: Option<String>,
    /// Their domain stands by the mail.
    pub(super) is_verified: bool,
    /// A server in front of us has looked at that.
    pub(super) is_trusted: bool,
}

impl Speaker {
    /// Whether it is certain who speaks. A name alone is for anybody to write.
    pub(super) fn is_certain(&self) -> bool {
        self.is_verified || self.is_trusted
    }
}

/// A room, and who of its people does not want to be there.
pub(super) type Found = (Arc<Room>, Vec<(OwnedUserId, Refusal)>);

impl Core {
    /// Whether an account wants to hear from somebody at all.
    pub(super) fn check_wanted(&self, account: &UserId, speaker: &UserId) -> Result<(), Refusal> {
        let accounts = self.accounts();
        let ignored = accounts.ignored_users(account).map_err(|_| Refusal::Unavailable)?;
        let rule = accounts.invite_rules(account).map_err(|_| Refusal::Unavailable)?.rule_for(speaker);
        let known = self.rooms().room_of_two(account, speaker).map_err(|_| Refusal::Unavailable)?;
        match known.is_none() && rule != InviteRule::Allow || ignored.contains(speaker) {
            true => Err(Refusal::Unwanted),
            false => Ok(()),
        }
    }

    /// The room of a target, with the speaker in it and the others in it or asked. Call it with `making` held.
    ///
    /// `references` are the rooms in which mails are that this one answers.
    pub(super) async fn room_for(
        &self,
        speaker: &Speaker,
        target: &Target,
        references: &[Arc<Room>],
        subject: Option<&str>,
    ) -> Result<Found, Refusal> {
        match target {
            Target::Two(account) => Ok((self.room_of_two(speaker, account).await?, Vec::new())),
            Target::Circle(people) => self.circle(speaker, people, references, subject).await,
            Target::There(room) => Ok((self.rooms().room(room).map_err(unreadable)?, Vec::new())),
            Target::Room(room) => Ok((self.room_with_address(speaker, room).await?, Vec::new())),
        }
    }

    async fn room_of_two(&self, speaker: &Speaker, account: &OwnedUserId) -> Result<Arc<Room>, Refusal> {
        if let Some(room) = self.known_room_of_two(&speaker.user, account).map_err(unreadable)?
            && self.bring_back(speaker, &room, account).await?
        {
            return Ok(room);
        }
        let welcome = self.is_welcome(account, speaker);
        if !welcome && !speaker.is_trusted {
            self.gate.stranger_for(account, self.since_epoch())?;
        }
        let mut new = self.new_room(speaker, Preset::TrustedPrivateChat);
        new.invite = vec![(account.clone(), self.profile_of(account, None))];
        new.is_direct = true;
        let id = self.rooms().create(new).await.map_err(refused)?;
        self.rooms().pair(&id, &speaker.user, account, true).await.map_err(refused)?;
        if welcome {
            self.enter(account, &id).await?;
            self.note_direct(account, &speaker.user, &id).await;
        }
        self.rooms().room(&id).map_err(unreadable)
    }

    /// The room of two, unless it is for encrypted messages: into such a room nothing is written from outside.
    fn known_room_of_two(&self, speaker: &UserId, account: &UserId) -> Result<Option<Arc<Room>>, ReadError> {
        let Some(no) = self.rooms().room_of_two(speaker, account)? else { return Ok(None) };
        let room = self.rooms().room_by_no(no)?;
        let encrypted = room.current("m.room.encryption", "")?.is_some();
        Ok(Some(room).filter(|_| !encrypted))
    }

    /// Whether both are in a room of two again, the account at least asked; an error where it has refused, or taken the
    /// other out. Whom somebody else took out begins anew.
    async fn bring_back(&self, speaker: &Speaker, room: &Arc<Room>, account: &OwnedUserId) -> Result<bool, Refusal> {
        if !room.is_joined(&speaker.user) {
            match removed_by(room, &speaker.user).map_err(unreadable)? {
                Some(by) if by == *account => return Err(Refusal::Unwanted),
                Some(_) => return Ok(false),
                None => {}
            }
            let host_is_there = room.is_joined(account);
            if !host_is_there {
                return Ok(false);
            }
            self.let_in(account, room, speaker).await?;
        }
        self.ask(speaker, room, account).await?;
        Ok(true)
    }

    /// Asks an account into a room where it is not; an error where it has refused before.
    async fn ask(&self, speaker: &Speaker, room: &Arc<Room>, account: &OwnedUserId) -> Result<(), Refusal> {
        let record = room.local_record(account);
        match record.as_ref().map(|record| record.membership) {
            Some(Membership::Join | Membership::Invite | Membership::Knock) => return Ok(()),
            Some(Membership::Ban) => return Err(Refusal::Unwanted),
            // Whoever never came in and went has said no.
            Some(Membership::Leave) if record.is_some_and(|record| record.joined_at.is_none()) => {
                return Err(Refusal::Unwanted);
            }
            _ => {}
        }
        let profile = self.profile_of(account, None);
        let extra = match self.rooms().pair_of(room.no()).map_err(unreadable)? {
            Some(_) => Map::from_iter([("is_direct".to_owned(), json!(true))]),
            None => Map::new(),
        };
        self.rooms().invite(&speaker.user, room.id(), (account, &profile), None, extra).await.map_err(refused)?;
        if self.is_welcome(account, speaker) {
            self.enter(account, room.id()).await?;
        }
        Ok(())
    }

    async fn circle(
        &self,
        speaker: &Speaker,
        people: &BTreeSet<OwnedUserId>,
        references: &[Arc<Room>],
        subject: Option<&str>,
    ) -> Result<Found, Refusal> {
        let key = circle_key(people);
        for room in self.circles(&key, references)? {
            if self.is_circle_of(&room, speaker, people).map_err(unreadable)? {
                let refusals = self.complete(speaker, &room, people).await?;
                self.note_circle(key, room.no()).await?;
                return Ok((room, refusals));
            }
        }
        let accounts: Vec<&OwnedUserId> = people.iter().filter(|user| self.correspondent(user).is_none()).collect();
        for account in &accounts {
            if !self.is_welcome(account, speaker) && !speaker.is_trusted {
                self.gate.stranger_for(account, self.since_epoch())?;
            }
        }
        let mut new = self.new_room(speaker, Preset::PrivateChat);
        // Those who live here look after the room; the others are as good as what wrote their names.
        let mut powers = Map::from_iter([(speaker.user.to_string(), json!(100))]);
        powers.extend(accounts.iter().map(|account| (account.to_string(), json!(100))));
        new.power_levels = Map::from_iter([("users".to_owned(), Value::Object(powers))]);
        new.topic = subject.map(ToOwned::to_owned);
        let id = self.rooms().create(new).await.map_err(refused)?;
        let room = self.rooms().room(&id).map_err(unreadable)?;
        self.note_circle(key, room.no()).await?;
        let refusals = self.complete(speaker, &room, people).await?;
        Ok((room, refusals))
    }

    /// Rooms that may be that of these people: the one that they had last, and those that a mail refers to.
    fn circles(&self, key: &[u8; 32], references: &[Arc<Room>]) -> Result<Vec<Arc<Room>>, Refusal> {
        let known = self.shard().get(&CIRCLE, self.domain(), key).map_err(|_| Refusal::Unavailable)?;
        let known = known.and_then(|no| self.rooms().room_by_no(no).ok());
        Ok(known.into_iter().chain(references.iter().cloned()).collect())
    }

    /// The conversation of `people` that an account is in already, or asked into.
    pub(super) fn circle_with(
        &self,
        speaker: &Speaker,
        people: &BTreeSet<OwnedUserId>,
        references: &[Arc<Room>],
        account: &UserId,
    ) -> Result<Option<OwnedRoomId>, Refusal> {
        for room in self.circles(&circle_key(people), references)? {
            let is_in = matches!(room.local_membership(account), Some(Membership::Join | Membership::Invite));
            if is_in && self.is_circle_of(&room, speaker, people).map_err(unreadable)? {
                return Ok(Some(room.id().to_owned()));
            }
        }
        Ok(None)
    }

    /// Whether a mail to `people` may go into a room: the speaker is in it, and no correspondent is who does not get the
    /// mail. Accounts that the mail does not name are no reason against it: correspondents see no more of a room than their
    /// own like.
    fn is_circle_of(&self, room: &Room, speaker: &Speaker, people: &BTreeSet<OwnedUserId>) -> Result<bool, ReadError> {
        if !room.is_joined(&speaker.user)
            || room.current("m.room.encryption", "")?.is_some()
            || self.rooms().pair_of(room.no())?.is_some()
        {
            return Ok(false);
        }
        let members = room.local_people();
        let is_in = |user: &UserId| matches!(room.local_membership(user), Some(Membership::Join | Membership::Invite));
        let fits = members
            .iter()
            .filter(|user| is_in(user))
            .all(|user| self.correspondent(user).is_none() || people.contains(user));
        let one_is_there = people.iter().any(|user| self.correspondent(user).is_none() && is_in(user));
        // A room that has just been made, by a mail that did not get further, has nobody in it yet.
        Ok(fits && (one_is_there || room.published().joined == 1))
    }

    /// Brings those into a room who are not there; who does not want to comes back. Correspondents whom somebody took out of it
    /// stay out until those inside ask them.
    async fn complete(
        &self,
        speaker: &Speaker,
        room: &Arc<Room>,
        people: &BTreeSet<OwnedUserId>,
    ) -> Result<Vec<(OwnedUserId, Refusal)>, Refusal> {
        let mut refusals = Vec::new();
        for user in people.iter().filter(|user| **user != speaker.user) {
            if room.is_joined(user) {
                continue;
            }
            if self.correspondent(user).is_some() {
                if removed_by(room, user).map_err(unreadable)?.is_some() {
                    continue;
                }
                let profile = self.profile_of(user, None);
                if room.local_membership(user) != Some(Membership::Invite) {
                    let invited =
                        self.rooms().invite(&speaker.user, room.id(), (user, &profile), None, Map::new()).await;
                    invited.map_err(refused)?;
                }
                self.rooms().join(user, room.id(), &profile, None, Map::new()).await.map_err(refused)?;
                continue;
            }
            let wanted = match self.check_wanted(user, &speaker.user) {
                Ok(()) => self.ask(speaker, room, user).await,
                Err(refusal) => Err(refusal),
            };
            match wanted {
                Err(Refusal::Unavailable) => return Err(Refusal::Unavailable),
                Err(refusal) => refusals.push((user.clone(), refusal)),
                Ok(()) => {}
            }
        }
        Ok(refusals)
    }

    async fn note_circle(&self, key: [u8; 32], no: RoomNo) -> Result<(), Refusal> {
        let domain = self.domain();
        let commit = self.shard().submit(move |txn: &mut Txn| txn.put(&CIRCLE, domain, &key, &no));
        commit.await.map(drop).map_err(|_| Refusal::Unavailable)
    }

    async fn room_with_address(&self, speaker: &Speaker, id: &OwnedRoomId) -> Result<Arc<Room>, Refusal> {
        let room = self.rooms().room(id).map_err(unreadable)?;
        let rule = self.mail_rule(&room).ok_or(Refusal::RoomClosed)?;
        if room.is_joined(&speaker.user) {
            return Ok(room);
        }
        if !rule.lets_in(&speaker.address) {
            return Err(Refusal::RoomClosed);
        }
        // Whoever comes in is mailed what is said there: nobody has that done to somebody else.
        if !speaker.is_certain() {
            return Err(Refusal::Uncertain(speaker.address.domain().to_owned()));
        }
        let profile = self.profile_of(&speaker.user, speaker.name.as_deref());
        // A public room is open to anybody; into another one somebody lets them who has said so.
        if self.rooms().join(&speaker.user, id, &profile, None, Map::new()).await.is_err() {
            self.let_in(&rule.host, &room, speaker).await.map_err(|refusal| match refusal {
                Refusal::Unavailable => Refusal::Unavailable,
                _ => Refusal::RoomClosed,
            })?;
        }
        Ok(room)
    }

    /// `host` asks the speaker into a room, who comes at once; not one whom somebody took out of it.
    async fn let_in(&self, host: &UserId, room: &Arc<Room>, speaker: &Speaker) -> Result<(), Refusal> {
        if removed_by(room, &speaker.user).map_err(unreadable)?.is_some() {
            return Err(Refusal::Unwanted);
        }
        let profile = self.profile_of(&speaker.user, speaker.name.as_deref());
        if room.local_membership(&speaker.user) != Some(Membership::Invite) {
            let asked = self.rooms().invite(host, room.id(), (&speaker.user, &profile), None, Map::new()).await;
            asked.map_err(refused)?;
        }
        self.rooms().join(&speaker.user, room.id(), &profile, None, Map::new()).await.map_err(refused)
    }

    async fn enter(&self, account: &UserId, room: &ruma_common::RoomId) -> Result<(), Refusal> {
        let profile = self.profile_of(account, None);
        self.rooms().join(account, room, &profile, None, Map::new()).await.map_err(refused)
    }

    /// Whether somebody need not ask: they are on the account's list of contacts, or of those who may write, and are who they
    /// say they are.
    fn is_welcome(&self, account: &UserId, speaker: &Speaker) -> bool {
        if !speaker.is_certain() {
            return false;
        }
        let address = speaker.address.to_string();
        let jid = node_from_local(&address).map(|node| format!("{node}@mail.{}", self.host));
        let contact = jid.and_then(|jid| self.accounts().contact(account, &jid).ok().flatten());
        if contact.is_some_and(|contact| contact.listed) {
            return true;
        }
        let data = self.accounts().account_data(account, None, ALLOWED).ok().flatten();
        let allowed: Value = data.and_then(|data| serde_json::from_str(&data).ok()).unwrap_or_default();
        let names = |key: &str, wanted: &str| {
            let list = allowed.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            list.take(ALLOWED_MAX).any(|entry| entry.trim().eq_ignore_ascii_case(wanted))
        };
        names("addresses", &address) || names("domains", speaker.address.domain())
    }

    fn new_room(&self, speaker: &Speaker, preset: Preset) -> CreateRoom {
        CreateRoom {
            creator: speaker.user.clone(),
            profile: self.profile_of(&speaker.user, speaker.name.as_deref()),
            version: RoomVersionId::V11,
            preset,
            creation_content: Map::new(),
            power_levels: Map::new(),
            initial_state: Vec::new(),
            name: None,
            topic: None,
            alias: None,
            invite: Vec::new(),
            is_direct: false,
            listed: false,
        }
    }

    /// Writes down for Matrix clients that a room is a conversation with somebody.
    async fn note_direct(&self, owner: &UserId, other: &UserId, room: &OwnedRoomId) {
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
}

/// Who took somebody out of a room, or shut them out; `None` for who is in it, never was, or left by themselves.
fn removed_by(room: &Room, user: &UserId) -> Result<Option<OwnedUserId>, ReadError> {
    let Some(member) = room.current("m.room.member", user.as_str())? else { return Ok(None) };
    let is_out = matches!(member.event.membership().map(Membership::from), Some(Membership::Leave | Membership::Ban));
    Ok(Some(member.event.sender().to_owned()).filter(|by| is_out && by != user))
}

/// A set of people as a key: the same whoever is named first.
fn circle_key(people: &BTreeSet<OwnedUserId>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for user in people {
        hash.update(user.as_bytes());
        hash.update([0]);
    }
    hash.finalize().into()
}

/// What a room that was not changed means for a mail.
#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
pub(super) fn refused(error: CommandError) -> Refusal {
    match error {
        CommandError::Store(_) | CommandError::Commit(_) | CommandError::Unsettled | CommandError::Damaged(_) => {
            tracing::warn!(reason = %error, "a mail could not be brought into its room");
            Refusal::Unavailable
        }
        CommandError::Partial | CommandError::NotReachable | CommandError::UnableToAuthorise => Refusal::Unavailable,
        _ => Refusal::RoomClosed,
    }
}

pub(super) fn unreadable(error: ReadError) -> Refusal {
    refused(error.into())
}
