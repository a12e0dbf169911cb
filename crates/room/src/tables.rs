//! The tables of rooms: only this crate names them (invariant 2 of ARCHITECTURE.md).
//!
//! A room is known inside the store by a short number, its [`RoomNo`]: ids of rooms are up to 255 bytes and would
//! stand in every key. An event stands at an [`Order`] in its room: the position of the log entry that told of it
//! for everything that happened while we were in the room, negative for history fetched afterwards (older = smaller).

use koine_store::{Space, Table};
use serde::{Deserialize, Serialize};

/// A room's short number in this domain; numbers are given once and never again.
pub type RoomNo = u64;

/// Where an event stands in its room's timeline; see the module's text.
pub type Order = i64;

/// The order of an event that stands in no timeline.
pub const OUTLIER: Order = Order::MIN;

/// room id → what never changes about it.
pub(crate) const ROOM: Table<String, RoomRecord> = Table::new("room.room", Space::Index, 0x10);
/// room number → room id.
pub(crate) const ROOM_ID: Table<RoomNo, String> = Table::new("room.room_id", Space::Index, 0x11);
/// room number → the newest durable head.
pub(crate) const HEAD: Table<RoomNo, HeadRecord> = Table::new("room.head", Space::Index, 0x12);
/// (room, order) → the event itself.
pub(crate) const TIMELINE: Table<(RoomNo, Order), EventRecord> = Table::new("room.timeline", Space::Events, 0x13);
/// event id → where it stands.
pub(crate) const EVENT: Table<String, Place> = Table::new("room.event", Space::Index, 0x14);
/// node id → one node of a persistent state map. Content-addressed, so writing one twice is harmless.
pub(crate) const STATE_NODE: Table<[u8; 16], koine_store::bytes::Bytes> =
    Table::new("room.state_node", Space::State, 0x15);
/// (room, is remote, user) → membership; local people first, so that they can be listed alone.
pub(crate) const MEMBER: Table<(RoomNo, bool, String), MemberRecord> = Table::new("room.member", Space::Index, 0x16);
/// (local user, room) → the account's own view of its membership.
pub(crate) const MEMBERSHIP: Table<(String, RoomNo), MembershipRecord> =
    Table::new("room.membership", Space::Index, 0x17);
/// (user, device, request, transaction id) → the event that this request made. Bounded by the reaper, see `txn.rs`.
pub(crate) const TXN: Table<(String, String, String, String), String> = Table::new("room.txn", Space::Ephemeral, 0x18);
/// alias → room.
pub(crate) const ALIAS: Table<String, AliasRecord> = Table::new("room.alias", Space::Index, 0x19);
/// (room, alias) → nothing: the aliases of a room.
pub(crate) const ROOM_ALIAS: Table<(RoomNo, String), ()> = Table::new("room.room_alias", Space::Index, 0x1a);
/// room → nothing: rooms listed in the public directory.
pub(crate) const PUBLIC: Table<RoomNo, ()> = Table::new("room.public", Space::Index, 0x1b);
/// (room, name of a list) → nothing: rooms in the lists of other networks.
pub(crate) const NETWORK_LISTED: Table<(RoomNo, String), ()> = Table::new("room.network_listed", Space::Index, 0xcb);
/// (room, related-to event id, order) → how it is related.
pub(crate) const RELATION: Table<(RoomNo, String, Order), RelationRecord> =
    Table::new("room.relation", Space::Index, 0x1c);
/// (room, order of an event that others refer to) → nothing, so that a page of events learns with one scan which of
/// them have children. A redacted child leaves it behind, which costs a look.
pub(crate) const PARENT: Table<(RoomNo, Order), ()> = Table::new("room.parent", Space::Index, 0x22);
/// (room, user, receipt type, thread or "") → receipt.
pub(crate) const RECEIPT: Table<(RoomNo, String, String, String), ReceiptRecord> =
    Table::new("room.receipt", Space::Ephemeral, 0x1d);
/// (room, log position) → the receipt that changed there, as the key of [`RECEIPT`].
pub(crate) const RECEIPT_AT: Table<(RoomNo, u64), ReceiptKey> = Table::new("room.receipt_at", Space::Ephemeral, 0x1e);
/// event id → an event that is known, but stands in no timeline.
pub(crate) const ASIDE: Table<String, AsideRecord> = Table::new("room.aside", Space::Events, 0x20);
/// event id → how high it stands above the create event, for events that a resolution of states came by. Never
/// changes; what is not there is found out when it is needed.
pub(crate) const HEIGHT: Table<String, u64> = Table::new("room.height", Space::Index, 0xc8);
/// room → how we came into it, while its state lacks members; see `partial.rs`.
pub(crate) const PARTIAL: Table<RoomNo, PartialRecord> = Table::new("room.partial", Space::Index, 0x27);
/// room → when its state became whole, for rooms that were partial.
pub(crate) const WHOLE: Table<RoomNo, Order> = Table::new("room.whole", Space::Index, 0x28);
/// (number of a bulk, number in it) → an event that waits to be judged. Cleared at each start.
pub(crate) const SPOOL: Table<(u64, u32), koine_store::bytes::Bytes> = Table::new("room.spool", Space::Ephemeral, 0x25);
/// (room, server) → how many of its people are joined.
pub(crate) const SERVER: Table<(RoomNo, String), u64> = Table::new("room.server", Space::Index, 0x21);
/// (room, event id that is not here yet) → the redaction that waits for it.
pub(crate) const REDACTION: Table<(RoomNo, String), String> = Table::new("room.redaction", Space::Index, 0x24);
/// (room, local user) → what an inviting server told of the room, as a JSON list.
pub(crate) const SHOWN: Table<(RoomNo, String), String> = Table::new("room.shown", Space::Index, 0x23);
/// (remote user, room) → nothing: the rooms that somebody of another server is joined to.
pub(crate) const REMOTE_ROOM: Table<(String, RoomNo), ()> = Table::new("room.remote_room", Space::Index, 0x2d);
/// (somebody, somebody else) → the room where messages between the two go; both ways round.
pub(crate) const PAIR: Table<(String, String), RoomNo> = Table::new("room.pair", Space::Index, 0x29);
/// room → the two people whose room it is.
pub(crate) const PAIR_OF: Table<RoomNo, (String, String)> = Table::new("room.pair_of", Space::Index, 0x2a);
/// (somebody, somebody else, room) → nothing: all rooms of the two; both ways round.
pub(crate) const PAIR_ROOM: Table<(String, String, RoomNo), ()> = Table::new("room.pair_room", Space::Index, 0x26);
/// number → something that was reported to the operator.
pub(crate) const REPORT: Table<u64, ReportRecord> = Table::new("room.report", Space::Index, 0x2e);
/// 0 → the number that the next report will have.
pub(crate) const REPORT_NEXT: Table<u8, u64> = Table::new("room.report_next", Space::Index, 0x2f);
/// (room, user) → unread counts up to an order; a cache that can be made again from the timeline.
pub(crate) const UNREAD: Table<(RoomNo, String), UnreadRecord> = Table::new("room.unread", Space::Ephemeral, 0x1f);

/// id → an event that is to be sent later, or was.
pub(crate) const DELAYED: Table<String, DelayedRecord> = Table::new("room.delayed", Space::Index, 0x2b);
/// (when, id) → nothing: what is to be sent next, and what is to be forgotten.
pub(crate) const DELAYED_DUE: Table<(u64, String), ()> = Table::new("room.delayed_due", Space::Index, 0x2c);
/// (account, is done, id) → nothing: the delayed events of an account.
pub(crate) const DELAYED_OF: Table<(String, bool, String), ()> = Table::new("room.delayed_of", Space::Index, 0xcf);

/// room id → the admin who shut the room out of this server.
pub(crate) const BLOCKED: Table<String, String> = Table::new("room.blocked", Space::Index, 0xce);
/// 0 → the least number that a new room may have: those of deleted rooms are not given again.
pub(crate) const ROOM_NEXT: Table<u8, RoomNo> = Table::new("room.room_next", Space::Index, 0xcd);
/// room that once said how long its events are kept → up to where those that were too old are gone.
pub(crate) const RETENTION: Table<RoomNo, Order> = Table::new("room.retention", Space::Index, 0xcc);
/// (room, word with the letter of its field, order): where words stand.
pub(crate) const SEARCH_WORD: Table<(RoomNo, String, Order), ()> = Table::new("room.search_word", Space::Index, 0x90);
/// (room, order) → the words of an event, so that they can be forgotten.
pub(crate) const SEARCH_AT: Table<(RoomNo, Order), WordsRecord> = Table::new("room.search_at", Space::Index, 0x91);
/// 0 → while the index of words is made anew: the room, and the order before which its events are still to be read.
pub(crate) const SEARCH_ANEW: Table<u8, (RoomNo, Order)> = Table::new("room.search_anew", Space::Index, 0x92);

/// The words of an event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WordsRecord {
    pub(crate) words: Vec<String>,
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The room.
    pub room: RoomNo,
    /// Where in its timeline.
    pub order: Order,
}

/// The parts of a key of the receipts' table behind the room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptKey {
    /// The reader.
    pub user: String,
    /// `m.read` or `m.read.private`.
    pub kind: String,
    /// The thread, or empty.
    pub thread: String,
}

/// What never changes about a room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoomRecord {
    /// Its short number.
    pub no: RoomNo,
    /// The room version, as its id.
    pub version: String,
}

/// The newest state of affairs of a room.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HeadRecord {
    /// Current state: root of the persistent map.
    pub state: [u8; 16],
    /// Forward extremities: events that nothing refers to yet, each with the state after it.
    pub extremities: Vec<(String, [u8; 16])>,
    /// Greatest depth among them.
    pub depth: u64,
    /// Order of the newest event.
    pub order: Order,
    /// Members joined.
    pub joined: u64,
    /// Members invited.
    pub invited: u64,
}

/// An event as we keep it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventRecord {
    /// Its id (not part of its JSON since room version 3).
    pub event_id: String,
    /// State before the event.
    pub state_before: [u8; 16],
    /// State after it; the same as before for everything but accepted state events.
    pub state_after: [u8; 16],
    /// The room's current state once the event was in: that of all branches, where [`state_after`](Self::state_after)
    /// is that of the event's own.
    pub current: [u8; 16],
    /// The redaction that emptied it.
    pub redacted_by: Option<String>,
    /// For a state event: the one it replaced.
    pub replaces: Option<String>,
    /// Device and transaction id of the request that made it, for its sender's eyes.
    pub txn: Option<(String, String)>,
    /// The event in federation format.
    #[serde(with = "bytes_as_slice")]
    pub json: koine_store::bytes::Bytes,
}

/// One member as the room sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Membership.
    pub membership: Membership,
    /// Order of the newest membership event.
    pub order: Order,
}

/// One room as a local account sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipRecord {
    /// Membership.
    pub membership: Membership,
    /// Order of the newest membership event.
    pub order: Order,
    /// Order at which `membership` took its present value (profile changes do not move it).
    pub since: Order,
    /// The newest membership event.
    pub event_id: String,
    /// The member forgot the room after leaving it.
    pub forgotten: bool,
    /// Order at which the member last came in; `None` for who never was joined.
    pub joined_at: Option<Order>,
    /// Order at which the member last went after having been joined.
    pub left_at: Option<Order>,
}

/// Membership of a room. [CS-API §room-membership]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Membership {
    /// In the room.
    Join,
    /// Asked to come.
    Invite,
    /// Asks to come.
    Knock,
    /// Went, was removed, or never was there.
    Leave,
    /// Shut out.
    Ban,
}

impl Membership {
    /// The word for it in an `m.room.member` event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Invite => "invite",
            Self::Knock => "knock",
            Self::Leave => "leave",
            Self::Ban => "ban",
        }
    }
}

impl From<koine_graph::Membership> for Membership {
    fn from(membership: koine_graph::Membership) -> Self {
        match membership {
            koine_graph::Membership::Join => Self::Join,
            koine_graph::Membership::Invite => Self::Invite,
            koine_graph::Membership::Knock => Self::Knock,
            koine_graph::Membership::Leave => Self::Leave,
            koine_graph::Membership::Ban => Self::Ban,
        }
    }
}

/// Where an alias leads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AliasRecord {
    /// The room.
    pub room: RoomNo,
    /// Who made the alias and may delete it.
    pub creator: String,
}

/// One event that refers to another. [CS-API §forming-relationships-between-events]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RelationRecord {
    /// `rel_type`.
    pub rel_type: String,
    /// Event type of the referring event.
    pub kind: String,
    /// Its sender.
    pub sender: String,
    /// Its id.
    pub event_id: String,
    /// `key` of an annotation.
    pub key: Option<String>,
}

/// An event that is known, but stands in no timeline.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AsideRecord {
    /// The room it is of.
    pub room: RoomNo,
    /// Why it stands aside.
    pub why: Aside,
    /// State after it, where it is part of the graph.
    pub state_after: Option<[u8; 16]>,
    /// The event in federation format.
    #[serde(with = "bytes_as_slice")]
    pub json: koine_store::bytes::Bytes,
}

/// How we came into a room whose state lacks members.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartialRecord {
    /// The event by which we came in.
    pub join: String,
    /// The servers in the room, as we were told.
    pub servers: Vec<String>,
}

/// Why an event stands aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aside {
    /// It came as part of a state or an auth chain: what was around it is not known.
    Outlier,
    /// The rules forbid it at its place in the graph, for ever. [SS-API §rejection]
    Rejected,
    /// The rules of its own branch allow it, the room's present ones do not. [SS-API §soft-failure]
    SoftFailed,
}

/// How far somebody read. [CS-API §receipts]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRecord {
    /// The event read up to.
    pub event_id: String,
    /// Where it stands.
    pub order: Order,
    /// When, in milliseconds since the epoch.
    pub ts: u64,
    /// Log position of the receipt.
    pub position: u64,
}

/// Unread counts of one member of one room. An event counts when it is newer than `read_up_to` and than the mark of
/// its thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadRecord {
    /// Order of the member's joining: older events never count.
    pub joined_at: Order,
    /// Events up to this order are read, threads or not.
    pub read_up_to: Order,
    /// Events up to this order have been counted.
    pub counted_up_to: Order,
    /// Counts of each thread, `main` being what is in none.
    pub threads: Vec<ThreadUnread>,
}

/// Unread counts of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadUnread {
    /// Its root, or `main`.
    pub id: String,
    /// Events of the thread up to this order are read.
    pub read_up_to: Order,
    /// Unread events that notify.
    pub notify: u64,
    /// Unread events that highlight.
    pub highlight: u64,
}

/// Something that was reported to the operator. [CS-API §reporting-content]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRecord {
    /// When, in milliseconds since the epoch.
    pub ts: u64,
    /// Who reports.
    pub reporter: String,
    /// The room, where a room or an event is reported.
    pub room_id: Option<String>,
    /// The event, where one is reported.
    pub event_id: Option<String>,
    /// The person, where one is reported.
    pub user_id: Option<String>,
    /// Why, as the reporter says.
    pub reason: String,
}

/// An event that is to be sent later, or was. [MSC4140]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DelayedRecord {
    pub(crate) user: String,
    pub(crate) room_id: String,
    pub(crate) kind: String,
    pub(crate) state_key: Option<String>,
    /// A JSON object.
    pub(crate) content: String,
    pub(crate) delay_ms: u64,
    /// When the delay began, in milliseconds since the epoch.
    pub(crate) running_since: u64,
    pub(crate) outcome: DelayedOutcome,
    /// When that was, in milliseconds since the epoch; 0 while it is not done.
    pub(crate) done_ms: u64,
}

/// What became of a delayed event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DelayedOutcome {
    /// It waits.
    Scheduled,
    /// It is being sent.
    Sending,
    /// As this event.
    Sent(String),
    /// It was taken back.
    Cancelled,
    /// The room refused it, for this reason.
    Failed(String),
}

koine_store::stored!(
    WordsRecord,
    DelayedRecord,
    ReportRecord,
    RoomRecord,
    HeadRecord,
    EventRecord,
    MemberRecord,
    MembershipRecord,
    AliasRecord,
    RelationRecord,
    ReceiptRecord,
    UnreadRecord,
    Place,
    ReceiptKey,
    AsideRecord,
    PartialRecord,
);

mod bytes_as_slice {
    use koine_store::bytes::Bytes;
    use serde::{Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Slice;
        impl de::Visitor<'_> for Slice {
            type Value = Bytes;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes::copy_from_slice(bytes))
            }
            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(bytes.into())
            }
        }
        deserializer.deserialize_bytes(Slice)
    }
}
