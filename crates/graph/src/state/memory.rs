//! Nodes in memory: for tests, and for states that are not kept.

use std::{collections::HashMap, sync::Arc};

use super::{Change, Node, NodeId, NodeSource, StateMap};

/// A store of nodes in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryNodes(HashMap<NodeId, Arc<Node>>);

/// The node that was asked for is not in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not there")]
pub struct NodeMissing(pub NodeId);

impl MemoryNodes {
    /// Without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores the nodes of a change, and gives the state after it.
    pub fn keep(&mut self, change: Change) -> StateMap {
        self.0.extend(change.nodes.into_iter().map(|new| (new.id, new.node)));
        change.map
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl NodeSource for MemoryNodes {
    type Error = NodeMissing;

    fn node(&self, id: &NodeId) -> Result<Arc<Node>, NodeMissing> {
        self.0.get(id).cloned().ok_or(NodeMissing(*id))
    }
}
