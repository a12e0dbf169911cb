//! What sending keeps in the store: what waits, for whom, until when, and what became of it. Tags `0xd8` to `0xdf`.

use koine_room::RoomNo;
use koine_store::{Space, Table, stored};
use serde::{Deserialize, Serialize};

/// (room, correspondent) → nothing: whom events of a room are mailed to.
pub(crate) const CORRESPONDENT: Table<(RoomNo, String), ()> = Table::new("mail.correspondent", Space::Index, 0xd8);
/// event id → the mail it went into.
pub(crate) const MAILED: Table<String, MailedRecord> = Table::new("mail.mailed", Space::Index, 0xd9);
/// number of a mail → what it was, for bounces that come later. Swept after [`super::bounce::KEPT_MS`].
pub(crate) const SENT: Table<u64, SentRecord> = Table::new("mail.sent", Space::Index, 0xda);
/// address → why nothing is sent there.
pub(crate) const SUPPRESSED: Table<String, SuppressedRecord> = Table::new("mail.suppressed", Space::Index, 0xdb);
/// A few single facts, by name: the secret, the next number.
pub(crate) const FACT: Table<String, Vec<u8>> = Table::new("mail.fact", Space::Index, 0xdc);
/// (room, author) → nothing: who was told that nothing is mailed out of this encrypted room.
pub(crate) const TOLD: Table<(RoomNo, String), ()> = Table::new("mail.told", Space::Index, 0xdd);
/// domain → its policy of TLS.
pub(crate) const POLICY: Table<String, PolicyRecord> = Table::new("mail.policy", Space::Index, 0xde);

/// (room, author, what it answers) → lines that are collected for one mail.
pub(crate) const BATCH: Table<(RoomNo, String, String), BatchRecord> = Table::new("mail.batch", Space::Ephemeral, 0xd8);
/// (when, room, author, what it answers) → nothing: the next to become a mail stands first.
pub(crate) const BATCH_DUE: Table<(u64, RoomNo, String, String), ()> =
    Table::new("mail.batch_due", Space::Ephemeral, 0xd9);
/// number → a mail to one recipient that waits.
pub(crate) const ITEM: Table<u64, ItemRecord> = Table::new("mail.item", Space::Ephemeral, 0xda);
/// (destination, when, number) → nothing: what to try next at a destination.
pub(crate) const READY: Table<(String, u64, u64), ()> = Table::new("mail.ready", Space::Ephemeral, 0xdb);
/// (when, number) → nothing: when somebody is to be told that a mail is late, or lost.
pub(crate) const DEADLINE: Table<(u64, u64), ()> = Table::new("mail.deadline", Space::Ephemeral, 0xdc);
/// destination → how it fares. No row: nothing waits for it.
pub(crate) const LANE: Table<String, LaneRecord> = Table::new("mail.lane", Space::Ephemeral, 0xdd);
/// (when, destination) → nothing: which destination to try next. One row for each of [`LANE`].
pub(crate) const DUE: Table<(u64, String), ()> = Table::new("mail.due", Space::Ephemeral, 0xde);
/// (day since the epoch, account) → mails sent.
pub(crate) const SPENT: Table<(u64, String), u64> = Table::new("mail.spent", Space::Ephemeral, 0xdf);

/// Our place in the log.
pub(crate) const CURSOR: &str = "mail.out";

/// Lines that are collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BatchRecord {
    /// Event ids, oldest first.
    pub events: Vec<String>,
    pub first_ms: u64,
    pub due_ms: u64,
}

/// What a mail is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    /// Lines.
    Lines,
    /// A reaction to what `heading` answers.
    Reaction,
    /// The last words of a line that was mailed already.
    Edit,
    /// A notice that what `heading` answers was read.
    Receipt,
}

/// What a mail begins with, settled when it is queued, so that every attempt says the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heading {
    pub subject: String,
    /// Message-ID without brackets.
    pub in_reply_to: Option<String>,
    pub references: Vec<String>,
}

/// A mail to one recipient that waits. What it says is composed from the events whenever it is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ItemRecord {
    pub what: What,
    pub lane: String,
    pub recipient: String,
    pub room: RoomNo,
    pub author: String,
    /// The first gives the mail its Message-ID.
    pub events: Vec<String>,
    pub heading: Heading,
    pub created_ms: u64,
    pub next_ms: u64,
    pub deadline_ms: u64,
    pub attempts: u32,
    /// What the last attempt met.
    pub last: String,
    /// The author was told that it is late.
    pub told: bool,
}

/// The mail that an event went into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MailedRecord {
    /// The event that gave it its Message-ID.
    pub first: String,
    pub heading: Heading,
    /// To whom, with the number under which it waits.
    pub items: Vec<(u64, String)>,
}

/// A mail that was handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SentRecord {
    pub recipient: String,
    pub room: RoomNo,
    pub author: String,
    pub events: Vec<String>,
    pub sent_ms: u64,
}

/// Why nothing is sent to an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SuppressedRecord {
    pub since_ms: u64,
    pub reason: String,
}

/// How a destination fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LaneRecord {
    /// When it is tried next: its row in [`DUE`].
    pub due_ms: u64,
    /// Failures in a row.
    pub failures: u32,
    pub failing_since_ms: u64,
    /// What the last one was.
    pub reason: String,
    /// Mails that wait.
    pub waiting: u64,
    /// Mails that ever came, to notice one that came in between.
    pub puts: u64,
}

/// A policy of TLS that was seen. [RFC 8461]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyRecord {
    pub id: String,
    pub enforce: bool,
    pub mx: Vec<String>,
    pub until_ms: u64,
}

stored!(BatchRecord, ItemRecord, MailedRecord, SentRecord, SuppressedRecord, LaneRecord, PolicyRecord);
