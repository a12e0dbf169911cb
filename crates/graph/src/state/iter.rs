//! Walking over a state.

use std::{collections::VecDeque, sync::Arc};

use super::{Entry, Node, NodeId, NodeSource, Path, path::TYPE_STEPS};

/// Entries of a state. After an error it ends.
pub struct Iter<'s, S: ?Sized> {
    source: &'s S,
    wanted: Wanted,
    /// Nodes still to be looked at, the next one last.
    below: Vec<NodeId>,
    entries: VecDeque<Entry>,
}

/// Which entries.
enum Wanted {
    All,
    /// Of this type, whose smallest path it is.
    Type(Path, Box<str>),
    /// Of all types that lie elsewhere.
    Except(Path, Box<str>),
}

impl<'s, S: NodeSource + ?Sized> Iter<'s, S> {
    pub(super) fn all(source: &'s S, root: NodeId) -> Self {
        let below = if root == NodeId::EMPTY { Vec::new() } else { vec![root] };
        Self { source, wanted: Wanted::All, below, entries: VecDeque::new() }
    }

    pub(super) fn of_type(source: &'s S, root: NodeId, kind: &str) -> Self {
        Self { wanted: Wanted::Type(Path::of_type(kind), kind.into()), ..Self::all(source, root) }
    }

    pub(super) fn except_type(source: &'s S, root: NodeId, kind: &str) -> Self {
        Self { wanted: Wanted::Except(Path::of_type(kind), kind.into()), ..Self::all(source, root) }
    }

    fn open(&mut self, node: &Arc<Node>) {
        match (&**node, &self.wanted) {
            (Node::Leaf(entries), wanted) => {
                let wanted = |entry: &&Entry| match wanted {
                    Wanted::All => true,
                    Wanted::Type(_, kind) => *entry.kind == **kind,
                    Wanted::Except(_, kind) => *entry.kind != **kind,
                };
                self.entries.extend(entries.iter().filter(wanted).cloned());
            }
            (Node::Branch(branch), Wanted::Type(path, _)) if branch.step < TYPE_STEPS => {
                self.below.extend(branch.child_on(*path).map(|child| child.id));
            }
            (Node::Branch(branch), Wanted::Type(path, _)) if branch.path.up_to(TYPE_STEPS) != *path => {}
            (Node::Branch(branch), Wanted::Except(path, _))
                if branch.step >= TYPE_STEPS && branch.path.up_to(TYPE_STEPS) == *path => {}
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
