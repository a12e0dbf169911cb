//! What one commit writes.

use std::collections::HashMap;

use bytes::Bytes;

use crate::{engine::ByteRange, table::Space};

/// One change: a value to stand at a key, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Where.
    pub space: Space,
    /// The whole key.
    pub key: Bytes,
    /// `None` deletes.
    pub value: Option<Bytes>,
}

/// Changes that become durable and visible together. Holds each key once: the last word counts.
#[derive(Debug, Default)]
pub struct Batch {
    ops: Vec<Op>,
    index: [HashMap<Bytes, usize>; Space::ALL.len()],
    bytes: usize,
    /// What was overwritten since the mark, oldest first.
    undo: Vec<(usize, Option<Bytes>)>,
}

/// A place in a batch to go back to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    ops: usize,
    bytes: usize,
}

impl Mark {
    /// What [`Batch::bytes`] was.
    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `value` at `key`.
    pub fn put(&mut self, space: Space, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.set(space, key.into(), Some(value.into()));
    }

    /// Deletes what is at `key`, if anything.
    pub fn delete(&mut self, space: Space, key: impl Into<Bytes>) {
        self.set(space, key.into(), None);
    }

    fn set(&mut self, space: Space, key: Bytes, value: Option<Bytes>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        match self.index[space.number()].get(&key) {
            Some(at) => {
                let old = std::mem::replace(&mut self.ops[*at].value, value);
                self.undo.push((*at, old));
            }
            None => {
                self.index[space.number()].insert(key.clone(), self.ops.len());
                self.ops.push(Op { space, key, value });
            }
        }
    }

    /// What the batch says about `key`: nothing, that it is deleted, or its value.
    pub fn get(&self, space: Space, key: &[u8]) -> Option<Option<&Bytes>> {
        let at = self.index[space.number()].get(key)?;
        Some(self.ops[*at].value.as_ref())
    }

    /// The changes within a range, in no particular order.
    pub(crate) fn within<'a>(&'a self, space: Space, range: &'a ByteRange) -> impl Iterator<Item = &'a Op> {
        self.ops.iter().filter(move |op| op.space == space && range.contains(&op.key))
    }

    /// The changes, in the order in which their keys were first named.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The changes, taken out.
    pub fn into_ops(self) -> Vec<Op> {
        self.ops
    }

    /// Bytes of keys and values put in so far, counting what was overwritten.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Begins a part of the batch that [`Batch::rewind`] can take back.
    pub(crate) fn mark(&mut self) -> Mark {
        self.undo.clear();
        Mark { ops: self.ops.len(), bytes: self.bytes }
    }

    /// Takes back everything since the newest mark.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        for (at, old) in self.undo.drain(..).rev() {
            self.ops[at].value = old;
        }
        for op in self.ops.drain(mark.ops..) {
            self.index[op.space.number()].remove(&op.key);
        }
        self.bytes = mark.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_about_a_key_counts() {
        let mut batch = Batch::new();
        batch.put(Space::Index, "a", "1");
        batch.put(Space::Media, "a", "2");
        batch.delete(Space::Index, "a");
        assert_eq!(batch.get(Space::Index, b"a"), Some(None));
        assert_eq!(batch.get(Space::Media, b"a"), Some(Some(&Bytes::from("2"))));
        assert_eq!(batch.get(Space::Media, b"b"), None);
        assert_eq!(batch.ops().len(), 2);
    }

    #[test]
    fn rewinding_restores_what_was_there_at_the_mark() {
        let mut batch = Batch::new();
        batch.put(Space::Index, "a", "1");
        batch.put(Space::Index, "b", "1");
        let before = (batch.ops().to_vec(), batch.bytes());
        let mark = batch.mark();
        batch.put(Space::Index, "a", "2");
        batch.delete(Space::Index, "a");
        batch.put(Space::Index, "c", "2");
        batch.put(Space::Index, "c", "3");
        batch.rewind(mark);
        assert_eq!((batch.ops().to_vec(), batch.bytes()), before);
        assert_eq!(batch.get(Space::Index, b"c"), None);
        batch.put(Space::Index, "c", "4");
        assert_eq!(batch.get(Space::Index, b"c"), Some(Some(&Bytes::from("4"))));
    }
}
