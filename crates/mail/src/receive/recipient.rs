//! Whose an address is: an account's, a room's, or that of a mail that we sent, to which its bounces go.

use koine_projection::mail::Address;
use koine_room::Membership;
use ruma_common::{OwnedRoomId, OwnedUserId, RoomAliasId, RoomId};
use serde_json::Value;

use super::{reply::Refusal, session::path};
use crate::core::Core;

/// How the local parts begin of the addresses that our mails are sent from.
pub(crate) const BOUNCES: &str = "bounces+";
/// Addresses that everybody may write to, whoever reads them. [RFC 2142] [RFC 5321 §4.5.1]
const OFFICES: [&str; 3] = ["postmaster", "abuse", "hostmaster"];
/// Accounts that are looked through for one who holds an office.
const ADMINS_LOOK_MAX: usize = 1_000;

/// Where a mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recipient {
    /// To an account.
    Account(OwnedUserId),
    /// Into a room, by its own address or by that of a member (`alice+room@`).
    Room(OwnedRoomId),
    /// It is news of a mail that we sent.
    Bounce(Address),
}

impl Core {
    /// Whose an address is. Says nothing about whether the sender may write there, but that rooms take mail at all.
    pub(super) fn recipient(&self, text: &str, null_sender: bool) -> Result<Recipient, Refusal> {
        // [RFC 5321 §4.5.1] The one name that stands alone.
        let address = match text.eq_ignore_ascii_case("postmaster") {
            true => Address::new("postmaster", &self.host),
            false => path(text),
        };
        let address = address.ok_or(Refusal::NoSuchRecipient)?;
        if address.domain() == self.host {
            return self.at_host(&address, null_sender);
        }
        let rooms = address.domain().strip_prefix("rooms.").is_some_and(|rest| rest == self.host);
        if rooms {
            let room = self.room_called(address.local()).filter(|room| self.takes_mail(room));
            return room.map(Recipient::Room).ok_or(Refusal::NoSuchRecipient);
        }
        Err(if self.is_ours(address.domain()) { Refusal::NoSuchRecipient } else { Refusal::NoRelay })
    }

    fn at_host(&self, address: &Address, null_sender: bool) -> Result<Recipient, Refusal> {
        if address.local().starts_with(BOUNCES) {
            return match null_sender {
                true => Ok(Recipient::Bounce(address.clone())),
                false => Err(Refusal::NoSuchRecipient),
            };
        }
        let (person, detail) = address.without_detail();
        // A name may have a plus of its own.
        if let Some(account) = self.account_of(address.local()) {
            return Ok(Recipient::Account(account));
        }
        let account = self.account_of(person.local()).or_else(|| self.office(person.local()));
        let account = account.ok_or(Refusal::NoSuchRecipient)?;
        if let Some(room) = detail.and_then(|detail| self.room_called(detail))
            && self.takes_mail(&room)
            && self.rooms().room(&room).is_ok_and(|room| room.local_membership(&account) == Some(Membership::Join))
        {
            return Ok(Recipient::Room(room));
        }
        Ok(Recipient::Account(account))
    }

    /// The admin who reads what is written to an office that no account holds.
    fn office(&self, local: &str) -> Option<OwnedUserId> {
        if !OFFICES.contains(&local) {
            return None;
        }
        let users = self.accounts().users(None, ADMINS_LOOK_MAX).ok()?;
        users.into_iter().find(|user| user.is_admin && !user.is_deactivated).map(|user| user.user_id)
    }

    fn room_called(&self, name: &str) -> Option<OwnedRoomId> {
        let alias = RoomAliasId::parse(format!("#{name}:{}", self.rooms().server_name())).ok()?;
        self.rooms().resolve_alias(&alias).ok()
    }

    /// Whether a room takes mail at all: its state says so, and it is none for encrypted messages.
    fn takes_mail(&self, room: &RoomId) -> bool {
        let Ok(room) = self.rooms().room(room) else { return false };
        self.mail_rule(&room).is_some()
    }

    /// What a room says about mail, if it takes any.
    pub(super) fn mail_rule(&self, room: &koine_room::Room) -> Option<MailRule> {
        if room.current("m.room.encryption", "").ok()?.is_some() {
            return None;
        }
        let state = room.current(MailRule::STATE, "").ok()??;
        let content: Value = serde_json::from_str(state.event.content().get()).ok()?;
        let allow = match content.get("allow")?.as_str()? {
            "anyone" => Allow::Anyone,
            "members" => Allow::Members,
            _ => return None,
        };
        let domains = content.get("domains").and_then(Value::as_array).into_iter().flatten();
        let domains =
            domains.filter_map(Value::as_str).take(MailRule::DOMAINS_MAX).map(str::to_ascii_lowercase).collect();
        Some(MailRule { allow, domains, host: state.event.sender().to_owned() })
    }
}

/// Who may write to a room by mail, as its state `koine.mail.room` says: `allow` is "members" (correspondents who are in the
/// room), "anyone" (whoever writes becomes a member, if it is certain who does) or "nobody"; `domains` are those whose people
/// may come in as with "anyone". Without it a room has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MailRule {
    allow: Allow,
    domains: Vec<String>,
    /// Who said so: in their name a newcomer is let in.
    pub(super) host: OwnedUserId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allow {
    Members,
    Anyone,
}

impl MailRule {
    /// The type of the state.
    const STATE: &str = "koine.mail.room";
    /// Domains that are looked at.
    const DOMAINS_MAX: usize = 1_000;

    /// Whether somebody with that address who is not in the room may come in by writing, if it is theirs.
    pub(super) fn lets_in(&self, from: &Address) -> bool {
        self.allow == Allow::Anyone || self.domains.iter().any(|domain| domain == from.domain())
    }
}
