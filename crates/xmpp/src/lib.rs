//! XMPP: the same people and the same rooms, in another tongue.
//!
//! RFC 6120 and 6121, and the extensions in `spec/xmpp-features.tsv`, one file each in [`xep`]. A chat with somebody is the
//! room of the two, a MUC is a view of a room, the archive is the room's timeline: nothing is held twice. How stanzas travel
//! is told in `docs/design/0007-xmpp.md`.
//!
//! A stanza that comes in from a stream has a proven `from`; [`route`](core::Core::route) brings it to whoever answers for
//! its `to`. What happens in rooms comes back by the log ([`follow`]), to sessions and other servers alike.

mod address;
mod core;
mod error;
mod follow;
#[cfg(test)]
mod hostile;
mod im;
mod iq;
mod known;
mod muc;
mod outbox;
mod portal;
mod proxy;
mod route;
mod s2s;
mod sasl;
mod secret;
mod session;
mod stream;
mod suspended;
#[cfg(test)]
mod testing;
mod time;
mod xep;

pub use self::{
    address::address_of,
    core::{Cores, Xmpp, XmppConfig},
    proxy::Proxy,
    s2s::certificate::asks_for_certificates,
    stream::{Beginning, Component, Held, OverTls, Peer, Tls},
};
pub use xep::{contact::Support, external::Turn};

/// What servers say by ALPN whose connections begin with TLS. [XEP-0368 §3]
pub const SERVER_PROTOCOL: &[u8] = s2s::PROTOCOL;
