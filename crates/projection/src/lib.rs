//! How the networks map onto each other. Pure: no runtime, no clock, no I/O.
//!
//! One file a mapping, both directions together. What one side cannot say is in the table of losses at the head of the file.

mod cost;
pub mod id;
pub mod mail;
pub mod markup;
pub mod mention;
pub mod message;
pub mod muc;
pub mod room_name;
pub mod sharing;
pub mod styling;
