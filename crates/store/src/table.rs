//! Tables: a name, a key type, a value type, and where their rows stand.
//!
//! The key of a row is `domain (4 bytes) · tag (1 byte) · encoded key`, in the table's space. Tags are given once in a
//! space and never reused for something else; a table belongs to exactly one crate (invariant 4 of ARCHITECTURE.md).

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Serialize};

use crate::{KEY_BYTES_MAX, key::AsKey};

/// A tenant. Every row belongs to one; 0 is the house itself (log, identity, cursors).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DomainId(pub u32);

impl DomainId {
    /// Rows that belong to the shard and to no tenant.
    pub(crate) const HOUSE: Self = Self(0);
}

/// A physical keyspace. There are few, split by how their rows live and die; each costs the engine memory and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// The shard's log and what the shard knows about itself. Appended at the end, trimmed at the front.
    Log,
    /// Events as they were signed. Written once, read for ever.
    Events,
    /// Nodes of the persistent state maps. Written once, content-addressed.
    State,
    /// What is looked up: rooms, members, aliases, positions.
    Index,
    /// People: credentials, sessions, devices, account data.
    Accounts,
    /// What is overwritten or dies young: receipts, transaction ids, unread counts.
    Ephemeral,
    /// Records about media (not their content).
    Media,
}

impl Space {
    /// All spaces, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Log, Self::Events, Self::State, Self::Index, Self::Accounts, Self::Ephemeral, Self::Media];

    /// The space's name, as engines use it on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Events => "events",
            Self::State => "state",
            Self::Index => "index",
            Self::Accounts => "accounts",
            Self::Ephemeral => "ephemeral",
            Self::Media => "media",
        }
    }

    /// The space's number: its place in [`Space::ALL`], and its name in an archive. Never changes.
    pub const fn number(self) -> usize {
        self as usize
    }
}

/// Rows of type `V` by keys of type `K`. A constant of the crate that owns it.
pub struct Table<K, V> {
    name: &'static str,
    space: Space,
    tag: u8,
    types: PhantomData<fn(K) -> V>,
}

/// The same place among all keys that can be, in few bytes. Engines need not bear a longer key, not even to look for it;
/// what is longer than [`KEY_BYTES_MAX`] stands right behind the key that is its beginning.
pub(crate) fn bounded(mut key: Vec<u8>) -> Vec<u8> {
    if key.len() > KEY_BYTES_MAX {
        key.truncate(KEY_BYTES_MAX);
        key.push(0);
    }
    key
}

/// Bytes in front of the key proper: domain and tag.
pub(crate) const KEY_HEAD: usize = 5;

impl<K, V> Table<K, V> {
    /// A table. `tag` tells it from the others of its `space`; `name` is for people.
    pub const fn new(name: &'static str, space: Space, tag: u8) -> Self {
        Self { name, space, tag, types: PhantomData }
    }

    /// The table's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Where its rows stand.
    pub const fn space(&self) -> Space {
        self.space
    }

    /// What a list of tables is checked by, see [`first_clash`].
    pub const fn info(&self) -> TableInfo {
        TableInfo { name: self.name, space: self.space, tag: self.tag }
    }

    pub(crate) fn key<Q: AsKey<K> + ?Sized>(&self, domain: DomainId, key: &Q) -> Vec<u8> {
        let mut out = self.head(domain);
        key.encode(&mut out);
        out
    }

    /// The key to look for at `key`. Strangers may name anything: for a key that nothing can stand at, see [`bounded`].
    pub(crate) fn lookup<Q: AsKey<K> + ?Sized>(&self, domain: DomainId, key: &Q) -> Vec<u8> {
        bounded(self.key(domain, key))
    }

    /// What every key of the table begins with.
    pub(crate) fn head(&self, domain: DomainId) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&domain.0.to_be_bytes());
        out.push(self.tag);
        out
    }
}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info().fmt(out)
    }
}

/// A table without its types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableInfo {
    /// For people.
    pub name: &'static str,
    /// Where the rows stand.
    pub space: Space,
    /// What tells them from others there.
    pub tag: u8,
}

/// The first two tables that would share rows, for a test over all tables of a program.
pub fn first_clash(tables: &[TableInfo]) -> Option<(TableInfo, TableInfo)> {
    let clash = |(at, a): (usize, &TableInfo)| {
        let other = tables[at + 1..].iter().find(|b| (b.space, b.tag) == (a.space, a.tag))?;
        Some((*a, *other))
    };
    tables.iter().enumerate().find_map(clash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_keep_their_numbers() {
        for (number, space) in Space::ALL.into_iter().enumerate() {
            assert_eq!(space.number(), number, "{space:?}");
        }
    }

    #[test]
    fn two_tables_with_one_tag_are_found() {
        let a = TableInfo { name: "a", space: Space::Index, tag: 1 };
        let b = TableInfo { name: "b", space: Space::Media, tag: 1 };
        let c = TableInfo { name: "c", space: Space::Index, tag: 1 };
        assert_eq!(first_clash(&[a, b]), None);
        assert_eq!(first_clash(&[a, b, c]), Some((a, c)));
    }
}
