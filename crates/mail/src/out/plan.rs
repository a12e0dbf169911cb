//! What a mail is to be, before there is one for each recipient: where it goes, how it begins, until when it is tried.

use koine_room::{Placed, ReadError, Room, RoomNo};
use koine_store::{DomainId, StoreError, Txn};
use ruma_common::{EventId, OwnedEventId, UserId};
use serde_json::Value;

use koine_projection::mail::{Address, KEEPSAKE, id as message, outward};

use super::{
    Out,
    config::Deliver,
    queue,
    tables::{Heading, ItemRecord, MAILED, SPENT, SUPPRESSED, What},
};

/// Events before one that are looked at for a mail which it goes on from.
const LOOK_BACK_MAX: usize = 50;
/// What a day is, in milliseconds.
pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// A mail without its recipient.
pub(crate) struct Plan {
    domain: DomainId,
    pub(crate) what: What,
    room: RoomNo,
    author: String,
    pub(crate) events: Vec<String>,
    pub(crate) heading: Heading,
    now_ms: u64,
    deadline_ms: u64,
    smarthost: bool,
    day: u64,
    /// Of whose mails of that day it is one.
    payer: String,
    day_max: u64,
}

/// What became of a plan.
pub(crate) struct Admitted {
    /// Who gets it, with the number of their mail.
    pub(crate) items: Vec<(u64, String)>,
    /// Who does not.
    pub(crate) refused: Vec<(String, Limit)>,
}

/// Why a mail is not even begun.
pub(crate) enum Limit {
    /// So many a day.
    Day(u64),
    /// The address is known to take nothing.
    Suppressed(String),
}

impl Limit {
    /// As a mail server would say it. [RFC 3463]
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Day(_) => "550 5.7.1",
            Self::Suppressed(_) => "550 5.1.1",
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Day(max) => format!("an account may send {max} mails a day; it goes on tomorrow"),
            Self::Suppressed(reason) => format!("nothing is sent to this address any more: {reason}"),
        }
    }
}

impl Plan {
    /// Queues it for those who may have it: the one way by which mails come into the queue, so that each counts, whatever it
    /// says, for whoever had it sent.
    pub(crate) fn admit(
        &self,
        txn: &mut Txn,
        recipients: impl IntoIterator<Item = String>,
    ) -> Result<Admitted, StoreError> {
        let spent = (self.day, self.payer.clone());
        let before = txn.get(&SPENT, self.domain, &spent)?.unwrap_or(0);
        let mut now = before;
        let mut admitted = Admitted { items: Vec::new(), refused: Vec::new() };
        for recipient in recipients {
            if let Some(record) = txn.get(&SUPPRESSED, self.domain, recipient.as_str())? {
                admitted.refused.push((recipient, Limit::Suppressed(record.reason)));
            } else if now >= self.day_max {
                admitted.refused.push((recipient, Limit::Day(self.day_max)));
            } else {
                now += 1;
                admitted.items.push((self.put(txn, &recipient)?, recipient));
            }
        }
        if now > before {
            txn.put(&SPENT, self.domain, &spent, &now);
        }
        Ok(admitted)
    }

    fn put(&self, txn: &mut Txn, recipient: &str) -> Result<u64, StoreError> {
        let lane = match self.smarthost {
            true => queue::SMARTHOST.to_owned(),
            false => recipient.rsplit_once('@').map_or_else(String::new, |(_, domain)| domain.to_owned()),
        };
        let item = ItemRecord {
            what: self.what,
            lane,
            recipient: recipient.to_owned(),
            room: self.room,
            author: self.author.clone(),
            events: self.events.clone(),
            heading: self.heading.clone(),
            created_ms: self.now_ms,
            next_ms: self.now_ms,
            deadline_ms: self.deadline_ms,
            attempts: 0,
            last: String::new(),
            told: false,
        };
        queue::put(txn, self.domain, &item)
    }
}

impl Out {
    /// The plan of a mail.
    pub(crate) fn plan(
        &self,
        what: What,
        room: RoomNo,
        author: &UserId,
        events: Vec<String>,
        heading: Heading,
    ) -> Plan {
        let now_ms = self.now_ms();
        Plan {
            domain: self.domain(),
            what,
            room,
            author: author.to_string(),
            events,
            heading,
            now_ms,
            deadline_ms: now_ms + self.config().delayed_hours.min(self.config().retry_hours) * 3_600_000,
            smarthost: self.config().deliver == Deliver::Smarthost,
            day: now_ms / DAY_MS,
            payer: self.payer(author),
            day_max: self.config().per_account_day,
        }
    }

    /// Whose share of the day a mail takes: an account its own. People of another server of Matrix or XMPP share one: a server
    /// makes up as many people as it likes, and comes into as many rooms.
    fn payer(&self, author: &UserId) -> String {
        if self.is_account(author) {
            return author.to_string();
        }
        let server = self.rooms().server_name();
        let ghost = Some(author.localpart()).filter(|_| author.server_name() == server);
        match ghost.and_then(|name| koine_projection::id::jid_from_ghost(name, server)) {
            Some(jid) => format!("xmpp {}", jid.domain()),
            None => format!("matrix {}", author.server_name()),
        }
    }

    /// The address that a member stands for, if it is a correspondent.
    pub(crate) fn address_of_ghost(&self, user: &UserId) -> Option<Address> {
        let server = self.rooms().server_name();
        if user.server_name() != server {
            return None;
        }
        koine_projection::id::address_from_ghost(user.localpart(), server)
    }

    /// Whether a user id is that of an account, rather than of somebody of another network.
    pub(crate) fn is_account(&self, user: &UserId) -> bool {
        !user.localpart().starts_with('_') && self.accounts().is_active(user).unwrap_or(false)
    }

    /// The addresses of a room's correspondents.
    pub(crate) fn addresses(&self, room: RoomNo) -> Result<Vec<String>, StoreError> {
        let people = self.correspondents(room)?;
        Ok(people.iter().filter_map(|user| Some(self.address_of_ghost(user)?.to_string())).collect())
    }

    /// How a mail begins that says what follows from `first`; `key` is what that answers.
    pub(crate) fn heading(
        &self,
        room: &Room,
        author: &UserId,
        first: &EventId,
        key: &str,
    ) -> Result<Heading, ReadError> {
        let named = key.get(1..).and_then(|id| OwnedEventId::try_from(id).ok());
        let Some(placed) = room.event(first)? else { return Ok(Heading::default()) };
        if let Some(target) = &named {
            // In a thread: what is answered, or came last there; else what it began with.
            let in_reply_to = answered(&placed).unwrap_or_else(|| target.clone());
            for id in [&in_reply_to, target] {
                if let Some(heading) = self.answer_to(room, id)? {
                    return Ok(heading);
                }
            }
            if key.starts_with('t') {
                let root = room.event(target)?;
                let said = root.and_then(|root| root.event.content_field::<String>("body")).unwrap_or_default();
                let subject = outward::subject(outward::About::Thread(&said), false);
                return Ok(Heading { subject, ..Heading::default() });
            }
        }
        for earlier in room.newest(i64::MIN, placed.order - 1, LOOK_BACK_MAX)? {
            // What is said in a thread stays there.
            if room.thread_of(&earlier.event)?.is_some() {
                continue;
            }
            if let Some(heading) = self.answer_to(room, earlier.event.event_id())? {
                return Ok(heading);
            }
        }
        let name = room.current("m.room.name", "")?;
        let name = name.and_then(|name| name.event.content_field::<String>("name")).filter(|name| !name.is_empty());
        let subject = match &name {
            Some(name) => outward::subject(outward::About::Room(name), false),
            None => outward::subject(outward::About::Chat(&self.name_in(room, author)), false),
        };
        Ok(Heading { subject, ..Heading::default() })
    }

    /// How an answer to an event begins, if that came by mail or was mailed.
    pub(crate) fn answer_to(&self, room: &Room, id: &EventId) -> Result<Option<Heading>, ReadError> {
        let Some(placed) = room.event(id)? else { return Ok(None) };
        if let Some(came) = placed.event.content_field::<Value>(KEEPSAKE) {
            let Some(id) = came["message_id"].as_str().map(bare).filter(|id| outward::is_message_id(id)) else {
                return Ok(None);
            };
            let list = |name: &str| -> Vec<String> {
                let ids = came[name].as_array().into_iter().flatten().filter_map(Value::as_str);
                ids.map(|id| bare(id).to_owned()).collect()
            };
            let mut earlier = list("references");
            if earlier.is_empty() {
                // [RFC 5322 §3.6.4] In-Reply-To takes their place where it names a single one.
                earlier = list("in_reply_to");
                earlier.truncate(1);
            }
            let subject = outward::subject(outward::About::Answer(came["subject"].as_str().unwrap_or_default()), true);
            return Ok(Some(Heading {
                subject,
                in_reply_to: Some(id.to_owned()),
                references: outward::references(&earlier, id),
            }));
        }
        let Some(mailed) = self.shard().get(&MAILED, self.domain(), id.as_str())? else { return Ok(None) };
        let Ok(first) = OwnedEventId::try_from(mailed.first.as_str()) else { return Ok(None) };
        let id = self.message_id(&first);
        let references = outward::references(&mailed.heading.references, &id);
        let subject = outward::subject(outward::About::Answer(&mailed.heading.subject), true);
        Ok(Some(Heading { subject, in_reply_to: Some(id), references }))
    }

    /// The Message-ID of an event of ours, without brackets.
    pub(crate) fn message_id(&self, event: &EventId) -> String {
        bare(&message::message_id(event, self.host())).to_owned()
    }

    /// How somebody is called in a room.
    pub(crate) fn name_in(&self, room: &Room, user: &UserId) -> String {
        let member = room.current("m.room.member", user.as_str()).ok().flatten();
        let name = member.and_then(|member| member.event.content_field::<String>("displayname"));
        let name = name.map(|name| outward::header_text(&name, outward::NAME_CHARS_MAX));
        name.filter(|name| !name.is_empty()).unwrap_or_else(|| user.localpart().to_owned())
    }
}

/// What an event answers, also where that is only for programs that know no threads.
fn answered(placed: &Placed) -> Option<OwnedEventId> {
    let relation: Value = placed.event.content_field("m.relates_to")?;
    OwnedEventId::try_from(relation["m.in_reply_to"]["event_id"].as_str()?).ok()
}

/// A Message-ID without its brackets.
fn bare(id: &str) -> &str {
    id.trim().trim_start_matches('<').trim_end_matches('>')
}
