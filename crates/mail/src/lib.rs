//! Mail at the edge: whoever has an address is a member of a room like everybody else.
//!
//! [`receive`] takes mails in, by SMTP from other servers or by LMTP from one in front of us, and makes events of them. What
//! a mail means as an event, and an event as a mail, is the projection's to say (`koine_projection::mail`); who is in which
//! room is the room crate's. How it fits together is told in `docs/design/0013-mail.md`.
//!
//! [`out`] is the way back: what is said in rooms with correspondents goes out as mail.
//!
//! Invariants: a mail that was answered with 250 is in its rooms, on disk; one that was refused leaves nothing behind but
//! what a second attempt finds again and does not repeat. Nothing goes into a room for encrypted messages, or out of one.

mod config;
mod core;
mod dns;
pub mod out;
mod receive;
mod tables;
#[cfg(test)]
mod testing;

pub use self::{
    config::MailConfig,
    core::{Cores, Mail},
    dns::Dns,
    receive::{Dialect, Encryption, InConfig, Peer},
};
