//! The state of a room as a persistent map: from event type and state key to the event that holds there.
//!
//! A state is an immutable tree, and a [`StateMap`] is no more than the name of its root, so that a message event
//! copies sixteen bytes. A state event makes one new node per level and shares all others with the state before it.
//! Nodes are named by the hash of their bytes: equal states have equal names however they came about, and two states
//! are compared by looking only where names differ.
//!
//! The shape depends on nothing but the entries. Each entry has a [`Path`] of 96 bits, the hash of its type before the
//! hash of its state key, so that events of one type lie together. A set of up to [`LEAF_MAX`] entries is a leaf;
//! a larger one is a branch at the first four bits in which its paths differ.
//!
//! Where nodes are kept is the caller's business: [`NodeSource`] fetches them, [`Change`] hands out the new ones.

use std::{fmt, sync::Arc};

use ruma_common::{EventId, OwnedEventId};

mod diff;
mod edit;
mod iter;
mod memory;
mod node;
mod path;

pub use diff::Difference;
pub use edit::Edit;
pub use iter::Iter;
pub use memory::{MemoryNodes, NodeMissing};
pub use node::{Entry, LEAF_MAX, Node, NodeError};
pub use path::Path;

/// The name of a node: the first half of the SHA-256 of its bytes.
///
/// Whoever would want two nodes of one name needs about 2^64 hashes, and gains confusion in a room of their own making.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 16]);

impl NodeId {
    /// The node without entries. No hash, and never stored.
    pub const EMPTY: Self = Self([0; 16]);

    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// As bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeId(")?;
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// Where nodes come from: a store with a cache of decoded nodes in front of it.
pub trait NodeSource {
    /// Why a node could not be had. A node that a root needs and that is not there is an error too.
    type Error;

    /// The node of this name. Never asked for [`NodeId::EMPTY`].
    fn node(&self, id: &NodeId) -> Result<Arc<Node>, Self::Error>;
}

impl<S: NodeSource + ?Sized> NodeSource for &S {
    type Error = S::Error;

    fn node(&self, id: &NodeId) -> Result<Arc<Node>, Self::Error> {
        (**self).node(id)
    }
}

/// A new node, to be stored under its name before the root that needs it counts.
#[derive(Clone, Debug)]
pub struct NewNode {
    /// Its name.
    pub id: NodeId,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The node, for a cache.
    pub node: Arc<Node>,
}

/// A changed state: its root, and the nodes that were not there before.
#[derive(Clone, Debug)]
pub struct Change {
    /// The state after the change.
    pub map: StateMap,
    /// What to store. May name nodes that are in the store already, when a state comes back to what it once was.
    pub nodes: Vec<NewNode>,
}

/// A state of a room: the name of its root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateMap(NodeId);

impl StateMap {
    /// The state before the room's first event.
    pub const EMPTY: Self = Self(NodeId::EMPTY);

    /// The state with this root.
    pub const fn from_root(root: NodeId) -> Self {
        Self(root)
    }

    /// The name of its root.
    pub const fn root(self) -> NodeId {
        self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(self) -> bool {
        self == Self::EMPTY
    }

    /// Number of entries. Reads one node.
    pub fn len<S: NodeSource + ?Sized>(self, source: &S) -> Result<u64, S::Error> {
        Ok(fetch(source, self.0)?.map_or(0, |root| root.len()))
    }

    /// The event that holds for this type and state key. Reads one node per level.
    pub fn get<S: NodeSource + ?Sized>(
        self,
        source: &S,
        kind: &str,
        state_key: &str,
    ) -> Result<Option<OwnedEventId>, S::Error> {
        let path = Path::of(kind, state_key);
        let mut at = fetch(source, self.0)?;
        while let Some(node) = at {
            match &*node {
                Node::Leaf(entries) => {
                    let found = entries.iter().find(|entry| entry.is(kind, state_key));
                    return Ok(found.map(|entry| entry.event_id.clone()));
                }
                Node::Branch(branch) => {
                    let child = branch.child_on(path);
                    at = child.map(|child| source.node(&child.id)).transpose()?;
                }
            }
        }
        Ok(None)
    }

    /// The state in which `event_id` holds for this type and state key.
    pub fn insert<S: NodeSource + ?Sized>(
        self,
        source: &S,
        kind: &str,
        state_key: &str,
        event_id: &EventId,
    ) -> Result<Change, S::Error> {
        self.apply(source, [Edit::set(kind, state_key, event_id.to_owned())])
    }

    /// The state in which nothing holds for this type and state key.
    pub fn remove<S: NodeSource + ?Sized>(self, source: &S, kind: &str, state_key: &str) -> Result<Change, S::Error> {
        self.apply(source, [Edit::remove(kind, state_key)])
    }

    /// The state after several edits at once, with only the nodes that are left in the end. Of several edits of one
    /// entry the last counts.
    pub fn apply<S: NodeSource + ?Sized>(
        self,
        source: &S,
        edits: impl IntoIterator<Item = Edit>,
    ) -> Result<Change, S::Error> {
        edit::apply(self, source, edits.into_iter().collect())
    }

    /// All entries, those of one type together, in an order that depends on nothing but the entries.
    pub fn iter<S: NodeSource + ?Sized>(self, source: &S) -> Iter<'_, S> {
        Iter::all(source, self.0)
    }

    /// The entries of one type. Reads only nodes that have such, and the way there.
    pub fn iter_type<'s, S: NodeSource + ?Sized>(self, source: &'s S, kind: &str) -> Iter<'s, S> {
        Iter::of_type(source, self.0, kind)
    }

    /// The entries of all types but one. Reads none of the nodes that hold that one alone, however many they are; a type whose
    /// hash begins as that of the one does may be left out with it.
    pub fn iter_except_type<'s, S: NodeSource + ?Sized>(self, source: &'s S, kind: &str) -> Iter<'s, S> {
        Iter::except_type(source, self.0, kind)
    }

    /// What differs between this state and `after`, reading only nodes that differ.
    pub fn diff<S: NodeSource + ?Sized>(self, source: &S, after: Self) -> Result<Vec<Difference>, S::Error> {
        diff::diff(source, self.0, after.0)
    }
}

impl fmt::Debug for StateMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StateMap").field(&self.0).finish()
    }
}

fn fetch<S: NodeSource + ?Sized>(source: &S, id: NodeId) -> Result<Option<Arc<Node>>, S::Error> {
    if id == NodeId::EMPTY { Ok(None) } else { source.node(&id).map(Some) }
}

#[cfg(test)]
mod tests;
