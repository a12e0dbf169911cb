//! The one writer of each room, and everybody's readers.
//!
//! A room is an event graph; its state at every event is an immutable map that shares its nodes with the state
//! before. [`Rooms`] finds rooms and takes commands ([`create`](Rooms::create), [`send`](Rooms::send),
//! [`join`](Rooms::join) …), which return when their effect is on disk. [`Room`] answers questions about one room.
//! [`Hub`] tells connected readers what changed. Who may do what is `koine-graph`'s to say; who somebody is, and what
//! their profile holds, the caller's.
//!
//! How commands and readers keep out of each other's way is told in `docs/design/0002-one-writer-many-readers.md`.
//!
//! This crate is protocol-neutral: it answers with events and orders, never with the wire form of a protocol.

mod acquaintances;
mod alias;
mod blocked;
mod contacts;
mod context;
mod core;
mod create;
mod delayed;
mod directory;
mod dispatch;
mod elsewhere;
mod enter;
mod error;
mod fate;
mod grant;
mod history;
mod hub;
mod keep;
mod log;
mod members;
mod membership;
mod mutual;
mod near;
mod pair;
mod partial;
mod policy;
mod portal;
mod preview;
mod purge;
mod receipts;
mod receive;
mod registry;
mod relations;
mod reports;
mod restricted;
mod retention;
mod room;
mod search;
mod send;
mod serve;
mod space;
mod state;
mod stripped;
mod summary;
mod tables;
mod threads;
mod timeline;
mod txn;
mod typing;
mod unread;
mod unsettled;
mod upgrade;
mod visibility;
mod write;

pub use koine_store::Direction;

pub use self::{
    acquaintances::{Acquaintances, LOCAL_CONTACTS_MAX, REMOTE_LOOK_MAX},
    contacts::{Contacts, Moves},
    context::*,
    core::{RoomsConfig, Scribe, opaque_id},
    create::{CreateRoom, INITIAL_EVENTS_MAX, InitialState, Preset, creators},
    delayed::{DELAY_MAX, DELAYED_DONE_MAX, DELAYED_PER_USER_MAX, DelayError, Delayed, DelayedEvent, Done},
    directory::*,
    elsewhere::{Answer, Elsewhere, Wish},
    enter::EnterError,
    error::{CommandError, ReadError},
    fate::Fate,
    history::BACKFILLS_PER_PAGE_MAX,
    hub::{Changes, Hub, INBOX_CHANGES_MAX, INBOX_IDLE_MAX, INBOXES_MAX, Inbox, Stirred, Subject},
    keep::{KEEPING_EVENTS_MAX, Keeping, Kept, Part},
    log::{Kind, room_of, room_subject},
    members::*,
    membership::Profile,
    mutual::MutualRooms,
    pair::{PAIRS_MAX, Pair},
    policy::{POLICY_KEY_ID, PolicyRefusal},
    portal::Portals,
    preview::*,
    purge::Purge,
    receipts::*,
    receive::{Decided, EXTREMITIES_MAX, ReceiveError, Received, ToldState},
    registry::{ROOMS_LOADED_MAX, Rooms},
    relations::*,
    reports::{REPORT_REASON_BYTES_MAX, REPORTS_MAX, Reported},
    room::{Placed, Published, RECENT_EVENTS_MAX, Room},
    search::{Field, Found, Hit, LOOK_MAX as SEARCH_LOOK_MAX, SearchQuery},
    send::Sender,
    serve::{AUTH_CHAIN_MAX, InRoom, StateWalk, Template, WALK_EVENTS_MAX},
    space::*,
    state::{Root, StateWork},
    summary::HEROES_MAX,
    tables::{Membership, MembershipRecord, Order, ReceiptRecord, RelationRecord, ReportRecord, RoomNo},
    threads::*,
    timeline::*,
    txn::{TXN_KEPT_MS, TXN_LOOK_MAX, TxnPlace},
    typing::{TYPING_TIME_MAX, TYPING_USERS_MAX},
    unread::*,
    upgrade::Upgrade,
    visibility::{HistoryVisibility, Viewer},
};
