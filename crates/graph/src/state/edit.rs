//! Changing a state: new nodes along the ways to what changes, all others shared.

use std::sync::Arc;

use ruma_common::OwnedEventId;

use super::{
    Change, Entry, LEAF_MAX, NewNode, Node, NodeId, NodeSource, Path, StateMap, fetch,
    node::{Branch, Child},
    path::STEPS,
};

/// A change of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub(crate) kind: Arc<str>,
    pub(crate) state_key: Box<str>,
    /// What holds afterwards; `None`: nothing.
    pub(crate) event_id: Option<OwnedEventId>,
}

impl Edit {
    /// `event_id` holds for this type and state key.
    pub fn set(kind: &str, state_key: &str, event_id: OwnedEventId) -> Self {
        Self { kind: kind.into(), state_key: state_key.into(), event_id: Some(event_id) }
    }

    /// Nothing holds for this type and state key.
    pub fn remove(kind: &str, state_key: &str) -> Self {
        Self { kind: kind.into(), state_key: state_key.into(), event_id: None }
    }
}

/// A subtree while it is being worked on.
enum Tree {
    /// One that did not change, or was stored in this change already.
    Kept { id: NodeId, len: u64 },
    /// A new one, whose node has no name yet.
    New(Node),
    /// Nothing.
    Empty,
}

pub(super) fn apply<S: NodeSource + ?Sized>(map: StateMap, source: &S, edits: Vec<Edit>) -> Result<Change, S::Error> {
    let mut edits: Vec<(Path, Edit)> =
        edits.into_iter().map(|edit| (Path::of(&edit.kind, &edit.state_key), edit)).collect();
    // The sort is stable, so that the last edit of an entry stays the last.
    edits.sort_by(|(path, edit), (other_path, other)| {
        (path, &edit.kind, &edit.state_key).cmp(&(other_path, &other.kind, &other.state_key))
    });
    let mut work = Work { source, nodes: Vec::new() };
    let tree = match fetch(source, map.root())? {
        Some(root) => work.edit(map.root(), &root, &edits)?,
        None => work.build(with_edits(&[], &edits)),
    };
    let root = match tree {
        Tree::Kept { id, .. } => id,
        Tree::New(node) => work.store(node).id,
        Tree::Empty => NodeId::EMPTY,
    };
    Ok(Change { map: StateMap::from_root(root), nodes: work.nodes })
}

struct Work<'s, S: ?Sized> {
    source: &'s S,
    nodes: Vec<NewNode>,
}

/// An entry beside its path.
type Placed = (Path, Entry);

impl<S: NodeSource + ?Sized> Work<'_, S> {
    fn store(&mut self, node: Node) -> Child {
        let len = node.len();
        let new = node.name();
        let id = new.id;
        self.nodes.push(new);
        Child { bits: 0, len, id }
    }

    /// The tree of these entries, sorted.
    fn build(&mut self, entries: Vec<Placed>) -> Tree {
        let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else { return Tree::Empty };
        let (first, step) = (*first, first.common(*last));
        if entries.len() <= LEAF_MAX || step == STEPS {
            return Tree::New(Node::Leaf(entries.into_iter().map(|(_, entry)| entry).collect()));
        }
        let mut children = Vec::with_capacity(16);
        for group in entries.chunk_by(|(one, _), (other, _)| one.step(step) == other.step(step)) {
            let Some((path, _)) = group.first() else { continue };
            let bits = path.step(step);
            if let Tree::New(node) = self.build(group.to_vec()) {
                children.push(Child { bits, ..self.store(node) });
            }
        }
        Tree::New(Node::Branch(Branch { step, path: first.up_to(step), children }))
    }

    fn edit(&mut self, id: NodeId, node: &Node, edits: &[(Path, Edit)]) -> Result<Tree, S::Error> {
        match node {
            Node::Leaf(entries) => {
                let after = with_edits(entries, edits);
                if after.iter().map(|(_, entry)| entry).eq(entries) {
                    return Ok(Tree::Kept { id, len: node.len() });
                }
                Ok(self.build(after))
            }
            Node::Branch(branch) => self.edit_branch(id, branch, edits),
        }
    }

    fn edit_branch(&mut self, id: NodeId, branch: &Branch, edits: &[(Path, Edit)]) -> Result<Tree, S::Error> {
        // What is not on the way of this branch stands beside it: it can only be added.
        let beside = |path: Path| path.up_to(branch.step) != branch.path;
        let added = edits.iter().any(|(path, edit)| beside(*path) && edit.event_id.is_some());
        if added {
            return self.split(id, branch, edits);
        }

        let mut changed = false;
        let mut children = Vec::with_capacity(16);
        let inside = edits.iter().position(|(path, _)| !beside(*path)).unwrap_or(edits.len());
        let mut rest = edits.get(inside..).unwrap_or_default();
        let mut old = branch.children.iter().peekable();
        for bits in 0..16 {
            let here = rest.iter().take_while(|(path, _)| !beside(*path) && path.step(branch.step) == bits).count();
            let (here, after) = rest.split_at(here);
            rest = after;
            let child = old.next_if(|child| child.bits == bits);
            let tree = match (child, here) {
                (Some(child), []) => Tree::Kept { id: child.id, len: child.len },
                (Some(child), here) => {
                    let node = self.source.node(&child.id)?;
                    self.edit(child.id, &node, here)?
                }
                (None, here) => self.build(with_edits(&[], here)),
            };
            changed |= match (&tree, child) {
                (Tree::Kept { id, .. }, Some(child)) => *id != child.id,
                (Tree::Empty, None) => false,
                _ => true,
            };
            match tree {
                Tree::Kept { id, len } => children.push((Child { bits, len, id }, None)),
                Tree::New(node) => children.push((Child { bits, len: node.len(), id: NodeId::EMPTY }, Some(node))),
                Tree::Empty => {}
            }
        }
        if !changed {
            return Ok(Tree::Kept { id, len: branch.len() });
        }
        self.join(branch.step, branch.path, children)
    }

    /// A branch over these children, or what it shrinks to when they are few.
    fn join(&mut self, step: u8, path: Path, mut children: Vec<(Child, Option<Node>)>) -> Result<Tree, S::Error> {
        let len: u64 = children.iter().map(|(child, _)| child.len).sum();
        if len <= LEAF_MAX as u64 {
            let mut entries = Vec::with_capacity(LEAF_MAX);
            for (child, node) in children {
                match node {
                    Some(node) => self.entries(&node, &mut entries)?,
                    None => {
                        let node = self.source.node(&child.id)?;
                        self.entries(&node, &mut entries)?;
                    }
                }
            }
            return Ok(self.build(entries));
        }
        if children.len() == 1
            && let Some((child, node)) = children.pop()
        {
            // All that is left lies further down one way: the child takes this branch's place.
            return Ok(match node {
                Some(node) => Tree::New(node),
                None => Tree::Kept { id: child.id, len: child.len },
            });
        }
        let name = |(child, node): (Child, Option<Node>)| match node {
            Some(node) => Child { bits: child.bits, ..self.store(node) },
            None => child,
        };
        let children = children.into_iter().map(name).collect();
        Ok(Tree::New(Node::Branch(Branch { step, path, children })))
    }

    /// Puts a branch above this one, for entries that part from its way earlier.
    fn split(&mut self, id: NodeId, branch: &Branch, edits: &[(Path, Edit)]) -> Result<Tree, S::Error> {
        let added = edits.iter().filter(|(_, edit)| edit.event_id.is_some());
        let step = added.map(|(path, _)| path.common(branch.path)).min().unwrap_or(branch.step);
        let above = Branch {
            step,
            path: branch.path.up_to(step),
            children: vec![Child { bits: branch.path.step(step), len: branch.len(), id }],
        };
        // Removals of what cannot be there would stand beside the new branch as well.
        let edits: Vec<_> = edits.iter().filter(|(path, _)| path.up_to(step) == above.path).cloned().collect();
        self.edit_branch(id, &above, &edits)
    }

    /// Collects the entries below a node that has few.
    fn entries(&self, node: &Node, out: &mut Vec<Placed>) -> Result<(), S::Error> {
        match node {
            Node::Leaf(entries) => out.extend(entries.iter().map(|entry| (entry.path(), entry.clone()))),
            Node::Branch(branch) => {
                for child in &branch.children {
                    let node = self.source.node(&child.id)?;
                    self.entries(&node, out)?;
                }
            }
        }
        Ok(())
    }
}

/// Entries, sorted, after edits, sorted.
fn with_edits(entries: &[Entry], edits: &[(Path, Edit)]) -> Vec<Placed> {
    let mut after = Vec::with_capacity(entries.len() + edits.len());
    let mut old = entries.iter().map(|entry| (entry.path(), entry)).peekable();
    for (at, (path, edit)) in edits.iter().enumerate() {
        let key = (path, &*edit.kind, &*edit.state_key);
        let is_last = edits.get(at + 1).is_none_or(|(next, other)| (next, &*other.kind, &*other.state_key) != key);
        while let Some((path, entry)) = old.next_if(|(path, entry)| (path, &*entry.kind, &*entry.state_key) < key) {
            after.push((path, entry.clone()));
        }
        old.next_if(|(path, entry)| (path, &*entry.kind, &*entry.state_key) == key);
        if let Some(event_id) = edit.event_id.as_ref().filter(|_| is_last) {
            let (kind, state_key) = (edit.kind.clone(), edit.state_key.clone());
            after.push((*path, Entry { kind, state_key, event_id: event_id.clone() }));
        }
    }
    after.extend(old.map(|(path, entry)| (path, entry.clone())));
    after
}
