//! XML streams, JIDs, stanzas and their errors: the common speech of XMPP. Nothing here does I/O.
//!
//! [`Element`] is a piece of XML with namespaces as XMPP allows it (RFC 6120, section 11). [`Jid`] is an address (RFC 7622),
//! [`StanzaError`] what a stanza that cannot be served is answered with. Namespaces are in [`ns`].

mod element;
mod error;
pub mod form;
mod jid;
mod known;
pub mod ns;
mod precis;
pub mod reader;
pub mod rsm;
mod stream_error;

pub use self::{
    element::{Attribute, Element, Name, Node, escape},
    error::{Condition, ErrorType, StanzaError},
    jid::{BareJid, FullJid, Jid, JidError, local_part, resource_part},
    stream_error::{StreamCondition, StreamError, stream_element},
};
