//! Which rows of a table a scan visits.
//!
//! Bounds may be whole keys or the leading parts of keys. As no key begins another, a bound stands for all keys that
//! begin with it: `from` starts before them, `after` behind them, `before` ends in front of them, `through` behind.

use std::{
    marker::PhantomData,
    ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive},
};

use crate::{
    engine::ByteRange,
    key::PrefixOf,
    table::{DomainId, Table, bounded},
};

/// A range of keys of type `K`: everything, narrowed by each call.
pub struct KeyRange<K> {
    start: Vec<u8>,
    /// `None`: to the end of the table. Empty: nothing (the bound fell before the first possible key).
    end: Option<Vec<u8>>,
    key: PhantomData<fn(K)>,
}

impl<K> KeyRange<K> {
    /// The whole table.
    pub fn all() -> Self {
        Self { start: Vec::new(), end: None, key: PhantomData }
    }

    /// The keys that begin with `parts`.
    pub fn prefix(parts: &(impl PrefixOf<K> + ?Sized)) -> Self {
        Self::all().from(parts).through(parts)
    }

    /// Starts at `bound`.
    #[must_use]
    pub fn from(self, bound: &(impl PrefixOf<K> + ?Sized)) -> Self {
        self.starting(encoded(bound))
    }

    /// Starts behind everything that begins with `bound`.
    #[must_use]
    pub fn after(self, bound: &(impl PrefixOf<K> + ?Sized)) -> Self {
        match successor(encoded(bound)) {
            Some(start) => self.starting(start),
            None => Self { end: Some(Vec::new()), ..self },
        }
    }

    /// Ends in front of everything that begins with `bound`.
    #[must_use]
    pub fn before(self, bound: &(impl PrefixOf<K> + ?Sized)) -> Self {
        self.ending(encoded(bound))
    }

    /// Ends behind everything that begins with `bound`.
    #[must_use]
    pub fn through(self, bound: &(impl PrefixOf<K> + ?Sized)) -> Self {
        match successor(encoded(bound)) {
            Some(end) => self.ending(end),
            None => self,
        }
    }

    fn starting(mut self, start: Vec<u8>) -> Self {
        self.start = self.start.max(start);
        self
    }

    fn ending(mut self, end: Vec<u8>) -> Self {
        self.end = Some(match self.end {
            Some(old) => old.min(end),
            None => end,
        });
        self
    }

    /// The same range among all bytes of the table's space.
    pub(crate) fn bytes<V>(&self, table: &Table<K, V>, domain: DomainId) -> ByteRange {
        let head = table.head(domain);
        let end = match &self.end {
            Some(end) => Some(bounded([&head, end.as_slice()].concat())),
            None => successor(head.clone()),
        };
        ByteRange { start: bounded([head, self.start.clone()].concat()), end }
    }
}

fn encoded<K>(bound: &(impl PrefixOf<K> + ?Sized)) -> Vec<u8> {
    let mut out = Vec::new();
    bound.encode_prefix(&mut out);
    out
}

/// The smallest bytes greater than everything that begins with `prefix`; `None` if there are none.
pub(crate) fn successor(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if let Some(next) = last.checked_add(1) {
            prefix.push(next);
            return Some(prefix);
        }
    }
    None
}

/// What names a range of keys: Rust's own ranges (of whole keys or leading parts), or a [`KeyRange`].
pub trait IntoKeyRange<K> {
    /// The range.
    fn into_key_range(self) -> KeyRange<K>;
}

impl<K> IntoKeyRange<K> for KeyRange<K> {
    fn into_key_range(self) -> KeyRange<K> {
        self
    }
}

impl<K> IntoKeyRange<K> for RangeFull {
    fn into_key_range(self) -> KeyRange<K> {
        KeyRange::all()
    }
}

impl<K, Q: PrefixOf<K>> IntoKeyRange<K> for Range<Q> {
    fn into_key_range(self) -> KeyRange<K> {
        KeyRange::all().from(&self.start).before(&self.end)
    }
}

impl<K, Q: PrefixOf<K>> IntoKeyRange<K> for RangeInclusive<Q> {
    fn into_key_range(self) -> KeyRange<K> {
        KeyRange::all().from(self.start()).through(self.end())
    }
}

impl<K, Q: PrefixOf<K>> IntoKeyRange<K> for RangeFrom<Q> {
    fn into_key_range(self) -> KeyRange<K> {
        KeyRange::all().from(&self.start)
    }
}

impl<K, Q: PrefixOf<K>> IntoKeyRange<K> for RangeTo<Q> {
    fn into_key_range(self) -> KeyRange<K> {
        KeyRange::all().before(&self.end)
    }
}

impl<K, Q: PrefixOf<K>> IntoKeyRange<K> for RangeToInclusive<Q> {
    fn into_key_range(self) -> KeyRange<K> {
        KeyRange::all().through(&self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Space;

    #[test]
    fn the_successor_of_a_prefix_carries() {
        assert_eq!(successor(vec![1, 2]), Some(vec![1, 3]));
        assert_eq!(successor(vec![1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(successor(vec![0xff]), None);
        assert_eq!(successor(vec![]), None);
    }

    #[test]
    fn a_range_never_leaves_its_table() {
        const LAST: Table<u8, ()> = Table::new("last", Space::Index, 0xff);
        let all = KeyRange::all().through(&0xffu8).bytes(&LAST, DomainId(7));
        assert_eq!(all, ByteRange { start: vec![0, 0, 0, 7, 0xff], end: Some(vec![0, 0, 0, 8]) });
        let none = KeyRange::all().after(&0xffu8).bytes(&LAST, DomainId(7));
        assert!(none.is_empty());
    }
}
