//! Walking over a state.

use std::{collections::VecDeque, sync::Arc};

use super::{Entry, Node, NodeId, NodeSource, Path, path::TYPE_STEPS};

/// Entries of a state. After an error it ends.
pub struct Iter<'s, S: ?Sized> {
    source: &'s S,
    /// Only entries of this type.
    kind: Option<(Path, Box<str>)>,
    /// Nodes still to be looked at, the next one last.
    below: Vec<NodeId>,
    entries: VecDeque<Entry>,
}

impl<'s, S: NodeSource + ?Sized> Iter<'s, S> {
    pub(super) fn all(source: &'s S, root: NodeId) -> Self {
        let below = if root == NodeId::EMPTY { Vec::new() } else { vec![root] };
        Self { source, kind: None, below, entries: VecDeque::new() }
    }

    pub(super) fn of_type(source: &'s S, root: NodeId, kind: &str) -> Self {
        Self { kind: Some((Path::of_type(kind), kind.into())), ..Self::all(source, root) }
    }

    fn open(&mut self, node: &Arc<Node>) {
        match (&**node, &self.kind) {
            (Node::Leaf(entries), None) => self.entries.extend(entries.iter().cloned()),
            (Node::Leaf(entries), Some((_, kind))) => {
                self.entries.extend(entries.iter().filter(|entry| *entry.kind == **kind).cloned());
            }
            (Node::Branch(branch), Some((path, _))) if branch.step < TYPE_STEPS => {
                self.below.extend(branch.child_on(*path).map(|child| child.id));
            }
            (Node::Branch(branch), Some((path, _))) if branch.path.up_to(TYPE_STEPS) != *path => {}
            (Node::Branch(branch), _) => self.below.extend(branch.children.iter().rev().map(|child| child.id)),
        }
    }
}

impl<S: NodeSource + ?Sized> Iterator for Iter<'_, S> {
    type Item = Result<Entry, S::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.entries.pop_front() {
                return Some(Ok(entry));
            }
            let id = self.below.pop()?;
            match self.source.node(&id) {
                Ok(node) => self.open(&node),
                Err(error) => {
                    self.below.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}
