//! The shard's log: an ordered record of all that happened.
//!
//! An entry is written in the same batch as the data it tells of. Positions begin at 1 and have no gaps. What `kind`
//! and `body` mean belongs to the crate that appended the entry. A reader with effects outside the process keeps its
//! place under a name, durably; the log is trimmed behind the slowest of them.
//!
//! Rows (of the house, [`DomainId::HOUSE`]) in [`Space::Log`]: the entries under tag 0, facts about the shard under 1,
//! cursors under 2.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::{
    table::{DomainId, Space, Table},
    value::{Value, ValueError},
};

/// The entries. The newest one is never deleted: it holds the position that the shard goes on from.
pub(crate) const LOG: Table<Position, LogEntry> = Table::new("log", Space::Log, 0);
/// Facts about the shard, by the names below.
pub(crate) const FACTS: Table<String, Bytes> = Table::new("facts", Space::Log, 1);
/// Durable readers: their name, and the last position they are done with.
pub(crate) const CURSORS: Table<String, u64> = Table::new("cursors", Space::Log, 2);

/// In [`FACTS`]: the random id of this data.
pub(crate) const IDENTITY: &str = "identity";
/// In [`FACTS`]: how rows are laid out, as eight bytes.
pub(crate) const LAYOUT: &str = "layout";
/// In [`FACTS`]: present while a restore is under way.
pub(crate) const RESTORING: &str = "restoring";

/// The layout that this version writes and reads.
pub(crate) const LAYOUT_KNOWN: u64 = 1;

/// A place in the log. 0 is before everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Whose.
    pub domain: DomainId,
    /// What it is about: the id of a room or an account, in a form its owner chose.
    pub subject: Bytes,
    /// What kind of thing.
    pub kind: u8,
    /// The rest.
    pub body: Bytes,
}

/// First byte of a stored entry.
const FORMAT: u8 = 1;
/// Bytes in front of the subject: format, domain, kind, length of the subject.
const HEAD: usize = 1 + 4 + 1 + 4;

impl Value for LogEntry {
    fn encode(&self, arena: &mut BytesMut) -> Result<Bytes, ValueError> {
        let length = u32::try_from(self.subject.len());
        let length = length.map_err(|_| ValueError::Unwritable("the subject is too long".to_owned()))?;
        arena.reserve(HEAD + self.subject.len() + self.body.len());
        arena.put_u8(FORMAT);
        arena.put_u32(self.domain.0);
        arena.put_u8(self.kind);
        arena.put_u32(length);
        arena.put_slice(&self.subject);
        arena.put_slice(&self.body);
        Ok(arena.split().freeze())
    }

    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        let damaged = || ValueError::Damaged("the entry ends early".to_owned());
        let head: [u8; HEAD] = bytes.get(..HEAD).and_then(|head| head.try_into().ok()).ok_or_else(damaged)?;
        let [format, d0, d1, d2, d3, kind, l0, l1, l2, l3] = head;
        if format != FORMAT {
            return Err(ValueError::Format { found: format, known: FORMAT });
        }
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if bytes.len() - HEAD < length {
            return Err(damaged());
        }
        Ok(Self {
            domain: DomainId(u32::from_be_bytes([d0, d1, d2, d3])),
            kind,
            subject: bytes.slice(HEAD..HEAD + length),
            body: bytes.slice(HEAD + length..),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn entries_read_back_as_they_were(domain: u32, subject: Vec<u8>, kind: u8, body: Vec<u8>) {
            let entry = LogEntry { domain: DomainId(domain), subject: subject.into(), kind, body: body.into() };
            let bytes = entry.encode(&mut BytesMut::new()).expect("short subjects can be written");
            prop_assert_eq!(LogEntry::decode(bytes.clone()), Ok(entry));
            prop_assert!(LogEntry::decode(bytes.slice(..HEAD - 1)).is_err());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let _ = LogEntry::decode(bytes.into());
        }
    }
}
