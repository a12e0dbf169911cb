//! Contacts: whom an account has on its list, and who is told of whose presence. [RFC6121 §2] [RFC6121 §3]
//!
//! A contact is known by an address, here a text that the caller has made canonical. Every change has a position in the log,
//! and an index by position, so that "what changed since?" costs what changed; that position is the version of the list.
//! Who was taken off the list stays as a row that says so, for the same reason.

use koine_store::{Direction, DomainId, KeyRange, StoreError, Txn};
use ruma_common::UserId;
use serde::{Deserialize, Serialize};

use crate::{
    Accounts, StoreUnavailable,
    log::{self, Kind},
    tables::{CONTACT, CONTACT_AT, CONTACTS, USER},
};

/// Most contacts of one account, those taken off its list included.
pub const CONTACTS_MAX: u64 = 100_000;
/// Longest address of a contact.
pub const CONTACT_ADDRESS_BYTES_MAX: usize = 3071;
/// Longest name of a contact or of a group.
pub const CONTACT_NAME_BYTES_MAX: usize = 1023;
/// Most groups that a contact is in.
pub const CONTACT_GROUPS_MAX: usize = 64;

/// A contact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Stands on the list that clients see. Whoever only asked to be, or was taken off, does not.
    pub listed: bool,
    /// What the account calls them.
    pub name: Option<String>,
    /// Groups that the account has them in.
    pub groups: Vec<String>,
    /// The account is told of their presence.
    pub to: bool,
    /// They are told of the account's.
    pub from: bool,
    /// The account asked to be told, and has no answer yet.
    pub asked: bool,
    /// They may be told as soon as they ask. [RFC6121 §3.4]
    pub approved: bool,
    /// They asked to be told: what they sent.
    pub request: Option<String>,
    /// Where in the log it changed last.
    pub position: u64,
}

/// A word about subscriptions. [RFC6121 §3]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// May I be told?
    Subscribe,
    /// You are told.
    Subscribed,
    /// I need not be told any more.
    Unsubscribe,
    /// You are not told, or not any more.
    Unsubscribed,
}

impl Word {
    /// The type of a presence stanza, if it is one of these.
    pub fn parse(kind: &str) -> Option<Self> {
        [Self::Subscribe, Self::Subscribed, Self::Unsubscribe, Self::Unsubscribed]
            .into_iter()
            .find(|word| word.as_str() == kind)
    }

    /// As the type of a presence stanza.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Subscribed => "subscribed",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsubscribed => "unsubscribed",
        }
    }
}

/// What follows from a word that somebody sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The word goes on: to the contact where the account said it, to the account's sessions where the contact did.
    pub passes: bool,
    /// The account's server answers in its name.
    pub answer: Option<Word>,
    /// The contact began to be told of the account's presence, or ceased to.
    pub from_changed: bool,
}

impl Contact {
    /// `none`, `to`, `from` or `both`.
    pub fn subscription(&self) -> &'static str {
        match (self.to, self.from) {
            (false, false) => "none",
            (true, false) => "to",
            (false, true) => "from",
            (true, true) => "both",
        }
    }

    /// The account says a word to the contact. [RFC6121 §A.2]
    pub fn say(&mut self, word: Word) -> Heard {
        let before = self.from;
        let passes = match word {
            Word::Subscribe => {
                self.listed = true;
                self.asked |= !self.to;
                true
            }
            Word::Unsubscribe => {
                (self.to, self.asked) = (false, false);
                true
            }
            Word::Subscribed if self.request.is_some() => {
                (self.request, self.from, self.listed) = (None, true, true);
                true
            }
            // [RFC6121 §3.4.2] Nobody asked: remembered, and not sent.
            Word::Subscribed => {
                if !self.from {
                    (self.approved, self.listed) = (true, true);
                }
                false
            }
            Word::Unsubscribed => {
                let passes = self.from || self.request.is_some();
                (self.from, self.request, self.approved) = (false, None, false);
                passes
            }
        };
        Heard { passes, answer: None, from_changed: before != self.from }
    }

    /// The contact says a word to the account; `request` is what to keep of one that waits for an answer. [RFC6121 §A.3]
    pub fn hear(&mut self, word: Word, request: &str) -> Heard {
        let before = self.from;
        let (passes, answer) = match word {
            // [RFC6121 §3.1.3] They have it already.
            Word::Subscribe if self.from => (false, Some(Word::Subscribed)),
            Word::Subscribe if self.approved => {
                (self.from, self.approved) = (true, false);
                (false, Some(Word::Subscribed))
            }
            Word::Subscribe => (self.request.replace(request.to_owned()).is_none(), None),
            Word::Unsubscribe => {
                let passes = self.from || self.request.is_some();
                (self.from, self.request) = (false, None);
                (passes, None)
            }
            Word::Subscribed => {
                let passes = self.asked && !self.to;
                if passes {
                    (self.to, self.asked) = (true, false);
                }
                (passes, None)
            }
            Word::Unsubscribed => {
                let passes = self.to || self.asked;
                (self.to, self.asked) = (false, false);
                (passes, None)
            }
        };
        Heard { passes, answer, from_changed: before != self.from }
    }

    /// Whether the two look the same to clients.
    pub fn looks_like(&self, other: &Self) -> bool {
        let look = |contact: &Self| {
            let Self { listed, name, groups, to, from, asked, approved, .. } = contact.clone();
            listed.then_some((name, groups, to, from, asked, approved))
        };
        look(self) == look(other)
    }
}

/// Why a contact was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ContactError {
    /// There is no such account here.
    #[error("there is no such account")]
    UnknownUser,
    /// More than [`CONTACTS_MAX`].
    #[error("at most {CONTACTS_MAX} contacts can be kept")]
    TooMany,
    /// Longer than [`CONTACT_ADDRESS_BYTES_MAX`], [`CONTACT_NAME_BYTES_MAX`] or [`CONTACT_GROUPS_MAX`] allow.
    #[error("the address, the name or the groups of the contact are too long")]
    TooLong,
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl From<StoreError> for ContactError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

/// A change of a contact.
#[derive(Clone, Debug)]
pub struct Edited<R> {
    /// As it was.
    pub before: Contact,
    /// As it is.
    pub after: Contact,
    /// What the edit answered.
    pub answer: R,
}

impl<R> Edited<R> {
    /// Whether clients see a difference.
    pub fn shows(&self) -> bool {
        !self.before.looks_like(&self.after)
    }
}

impl Accounts {
    /// All that is known of contacts, in the order of their addresses. Those off the list are among them.
    pub fn contacts(&self, user_id: &UserId) -> Result<Vec<(String, Contact)>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(Vec::new()) };
        let view = self.shard.view();
        let rows = view.prefix(&CONTACT, self.domain, &(localpart,), Direction::Forward);
        rows.map(|row| row.map(|((_, address), contact)| (address, contact)).map_err(StoreUnavailable::from)).collect()
    }

    /// What is known of one contact.
    pub fn contact(&self, user_id: &UserId, address: &str) -> Result<Option<Contact>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        Ok(self.shard.get(&CONTACT, self.domain, &(localpart, address))?)
    }

    /// The version of the list: where in the log it changed last.
    pub fn contacts_version(&self, user_id: &UserId) -> Result<u64, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(0) };
        let view = self.shard.view();
        let newest = view.prefix(&CONTACT_AT, self.domain, &(localpart,), Direction::Backward).next().transpose()?;
        Ok(newest.map_or(0, |((_, position), _)| position))
    }

    /// Contacts that changed after a version, oldest change first.
    pub fn contacts_after(&self, user_id: &UserId, version: u64) -> Result<Vec<(String, Contact)>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(Vec::new()) };
        let view = self.shard.view();
        let range = KeyRange::prefix(&(localpart,)).after(&(localpart, version));
        let mut changed = Vec::new();
        for row in view.scan(&CONTACT_AT, self.domain, range, Direction::Forward) {
            let (_, address) = row?;
            let contact = view.get(&CONTACT, self.domain, &(localpart, address.as_str()))?;
            changed.push((address, contact.ok_or_else(|| StoreUnavailable::damaged("a contact without its row"))?));
        }
        Ok(changed)
    }

    /// Changes one contact, with nothing in between. `edit` begins with an empty one where there is none, and runs on the
    /// writer's thread, so it must be quick. What it leaves as it was is not written.
    pub async fn edit_contact<R: Send + 'static>(
        &self,
        user_id: &UserId,
        address: &str,
        edit: impl FnOnce(&mut Contact) -> R + Send + 'static,
    ) -> Result<Edited<R>, ContactError> {
        let localpart = self.key(user_id).ok_or(ContactError::UnknownUser)?.to_owned();
        if address.len() > CONTACT_ADDRESS_BYTES_MAX {
            return Err(ContactError::TooLong);
        }
        let (domain, owner, address) = (self.domain, user_id.to_owned(), address.to_owned());
        let commit = move |txn: &mut Txn| -> Result<Edited<R>, ContactError> {
            if txn.get(&USER, domain, localpart.as_str())?.is_none_or(|user| user.is_deactivated) {
                return Err(ContactError::UnknownUser);
            }
            let key = (localpart, address);
            let old = txn.get(&CONTACT, domain, &key)?;
            let before = old.clone().unwrap_or_default();
            let mut after = before.clone();
            let answer = edit(&mut after);
            if after == before {
                return Ok(Edited { before, after, answer });
            }
            let is_long = |text: &String| text.len() > CONTACT_NAME_BYTES_MAX;
            if after.groups.len() > CONTACT_GROUPS_MAX || after.groups.iter().chain(&after.name).any(is_long) {
                return Err(ContactError::TooLong);
            }
            match old {
                Some(old) => txn.delete(&CONTACT_AT, domain, &(key.0.clone(), old.position)),
                None => {
                    let count = txn.get(&CONTACTS, domain, key.0.as_str())?.unwrap_or(0);
                    if count >= CONTACTS_MAX {
                        return Err(ContactError::TooMany);
                    }
                    txn.put(&CONTACTS, domain, key.0.as_str(), &(count + 1));
                }
            }
            after.position = write(txn, domain, &owner, &key, &after);
            Ok(Edited { before, after, answer })
        };
        self.change(commit).await?
    }

    pub(crate) async fn erase_contacts(&self, user_id: &UserId) -> Result<(), StoreUnavailable> {
        let rows = self.contacts(user_id)?;
        let (domain, localpart) = (self.domain, user_id.localpart().to_owned());
        let commit = move |txn: &mut Txn| {
            for (address, contact) in rows {
                txn.delete(&CONTACT, domain, &(localpart.clone(), address));
                txn.delete(&CONTACT_AT, domain, &(localpart.clone(), contact.position));
            }
            txn.delete(&CONTACTS, domain, localpart.as_str());
        };
        self.change(commit).await
    }
}

/// Writes a contact where the log stands now.
fn write(txn: &mut Txn, domain: DomainId, owner: &UserId, key: &(String, String), contact: &Contact) -> u64 {
    let position = txn.append(log::entry(domain, owner, Kind::Contact, key.1.clone())).0;
    txn.put(&CONTACT, domain, key, &Contact { position, ..contact.clone() });
    txn.put(&CONTACT_AT, domain, &(key.0.clone(), position), &key.1);
    position
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_and_answering_makes_both_sides_agree() {
        let (mut romeo, mut juliet) = (Contact::default(), Contact::default());
        assert!(romeo.say(Word::Subscribe).passes && romeo.asked && romeo.listed);
        assert!(juliet.hear(Word::Subscribe, "<presence/>").passes && !juliet.listed);
        assert!(!juliet.hear(Word::Subscribe, "<presence/>").passes, "the user was asked already");
        assert!(juliet.say(Word::Subscribed).from_changed && juliet.subscription() == "from");
        assert!(romeo.hear(Word::Subscribed, "").passes && romeo.subscription() == "to" && !romeo.asked);
        assert!(!romeo.hear(Word::Subscribed, "").passes, "nobody waited for it");
        assert!(juliet.say(Word::Unsubscribed).passes && juliet.subscription() == "none");
        assert!(romeo.hear(Word::Unsubscribed, "").passes && romeo.subscription() == "none");
    }

    #[test]
    fn who_was_approved_beforehand_need_not_wait() {
        let mut juliet = Contact::default();
        assert!(!juliet.say(Word::Subscribed).passes && juliet.approved);
        let heard = juliet.hear(Word::Subscribe, "");
        assert_eq!(heard, Heard { passes: false, answer: Some(Word::Subscribed), from_changed: true });
        assert!(juliet.from && !juliet.approved);
    }

    #[test]
    fn what_was_asked_can_be_taken_back() {
        let mut juliet = Contact::default();
        juliet.hear(Word::Subscribe, "x");
        assert!(juliet.hear(Word::Unsubscribe, "").passes && juliet.request.is_none());
        assert!(!juliet.say(Word::Unsubscribed).passes, "there is nothing to refuse");
    }
}
