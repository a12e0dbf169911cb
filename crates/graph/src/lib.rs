//! The event graph of a room: events, canonical JSON, hashes, signatures, redaction, authorization rules, state
//! resolution, and the persistent map that a room's state is. For every room version, 1 to 12.
//!
//! Pure: no I/O, no clock, no chance that is not passed in. Where something is missing the answer says what, and
//! whoever asked fetches it; a verdict comes with its reason. Bytes come in by [`Event::parse`], new events by
//! [`Draft::seal`], and both leave as [`Event`]s that the rest of the house passes around.
//!
//! ```text
//! json ── hashes ── redaction ── signatures     how an event is written, named and signed
//!   └──── event, draft, power_levels            what an event says
//!           └──── auth ── resolve               whether the room allows it, and which of two states holds
//!                           state               the persistent state map
//! ```

pub mod auth;
mod content;
mod draft;
pub mod event;
pub mod hashes;
pub mod json;
pub mod keys;
pub mod power_levels;
pub mod redaction;
pub mod resolve;
mod rules;
pub mod signatures;
pub mod state;

pub use draft::{Draft, DraftError, Legacy};
pub use event::{ClientForm, Event, EventError, Membership};
pub use keys::{PublicKey, SigningKey};
pub use power_levels::{Level, PowerLevels};
pub use redaction::redact;
pub use rules::{ROOM_VERSIONS, RoomVersionRules, rules};
pub use state::{NodeId, StateMap};
