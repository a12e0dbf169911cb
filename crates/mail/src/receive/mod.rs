//! Mails that come in.
//!
//! | file | what |
//! |---|---|
//! | `session.rs` | SMTP and LMTP, as a machine without sockets |
//! | `serve.rs` | its connection: bytes, times, TLS |
//! | `reply.rs` | answers, and which refusal is which code |
//! | `limit.rs` | how much comes in how fast |
//! | `recipient.rs` | whose an address is |
//! | `verdict.rs` | whether a mail is from whom it says |
//! | `accept.rs` | a mail on its way into rooms |
//! | `people.rs` | which room that is, and who is in it |
//! | `threads.rs` | what a mail answers |
//! | `follow.rs` | correspondents who are asked into rooms |

mod accept;
mod config;
mod follow;
mod limit;
mod people;
mod recipient;
mod reply;
mod serve;
mod session;
mod threads;
mod verdict;

#[cfg(test)]
mod certainty_tests;
#[cfg(test)]
mod encryption_tests;
#[cfg(test)]
mod tests;

pub use self::{
    config::InConfig,
    serve::{Encryption, Peer},
    session::Dialect,
};
pub(crate) use self::{follow::start as follow, limit::Gate};
