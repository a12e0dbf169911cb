//! Comparing two states, reading only where they differ.

use std::sync::Arc;

use ruma_common::OwnedEventId;

use super::{Edit, Entry, Node, NodeId, NodeSource, Path, fetch, node::Branch};

/// An entry that is not the same in two states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The event's type.
    pub kind: Arc<str>,
    /// Its state key.
    pub state_key: Box<str>,
    /// What holds in the first state.
    pub before: Option<OwnedEventId>,
    /// What holds in the second state.
    pub after: Option<OwnedEventId>,
}

impl Difference {
    /// The edit that leads from the first state to the second.
    pub fn edit(&self) -> Edit {
        Edit { kind: self.kind.clone(), state_key: self.state_key.clone(), event_id: self.after.clone() }
    }
}

pub(super) fn diff<S: NodeSource + ?Sized>(
    source: &S,
    before: NodeId,
    after: NodeId,
) -> Result<Vec<Difference>, S::Error> {
    let mut walk = Walk { source, found: Vec::new() };
    walk.nodes(before, after)?;
    Ok(walk.found)
}

struct Walk<'s, S: ?Sized> {
    source: &'s S,
    found: Vec<Difference>,
}

impl<S: NodeSource + ?Sized> Walk<'_, S> {
    fn nodes(&mut self, before: NodeId, after: NodeId) -> Result<(), S::Error> {
        if before == after {
            return Ok(());
        }
        match (fetch(self.source, before)?.as_deref(), fetch(self.source, after)?.as_deref()) {
            (Some(Node::Branch(one)), Some(Node::Branch(other))) => self.branches((before, one), (after, other)),
            // A leaf on one side at least: it has few entries, so the other side was about to have few as well.
            (one, other) => {
                let (mut old, mut new) = (Vec::new(), Vec::new());
                self.entries(one, &mut old)?;
                self.entries(other, &mut new)?;
                self.merge(old, new);
                Ok(())
            }
        }
    }

    fn branches(
        &mut self,
        (before, one): (NodeId, &Branch),
        (after, other): (NodeId, &Branch),
    ) -> Result<(), S::Error> {
        let step = one.step.min(other.step);
        if one.path.up_to(step) != other.path.up_to(step) {
            // Their ways part above both: nothing in common.
            self.nodes(before, NodeId::EMPTY)?;
            return self.nodes(NodeId::EMPTY, after);
        }
        let child = |branch: &Branch, id: NodeId, bits: u8| {
            if branch.step > step {
                // It lies below one of the other's children.
                return if branch.path.step(step) == bits { id } else { NodeId::EMPTY };
            }
            branch.children.iter().find(|child| child.bits == bits).map_or(NodeId::EMPTY, |child| child.id)
        };
        (0..16).try_for_each(|bits| self.nodes(child(one, before, bits), child(other, after, bits)))
    }

    fn entries(&self, node: Option<&Node>, out: &mut Vec<(Path, Entry)>) -> Result<(), S::Error> {
        match node {
            None => {}
            Some(Node::Leaf(entries)) => out.extend(entries.iter().map(|entry| (entry.path(), entry.clone()))),
            Some(Node::Branch(branch)) => {
                for child in &branch.children {
                    let node = self.source.node(&child.id)?;
                    self.entries(Some(&node), out)?;
                }
            }
        }
        Ok(())
    }

    fn merge(&mut self, old: Vec<(Path, Entry)>, new: Vec<(Path, Entry)>) {
        let mut new = new.into_iter().peekable();
        for old in old {
            while let Some((_, added)) = new.next_if(|new| key(new) < key(&old)) {
                self.tell(added.kind, added.state_key, None, Some(added.event_id));
            }
            let same = new.next_if(|new| key(new) == key(&old)).map(|(_, entry)| entry.event_id);
            let (_, old) = old;
            if same.as_ref() != Some(&old.event_id) {
                self.tell(old.kind, old.state_key, Some(old.event_id), same);
            }
        }
        for (_, added) in new {
            self.tell(added.kind, added.state_key, None, Some(added.event_id));
        }
    }

    fn tell(&mut self, kind: Arc<str>, state_key: Box<str>, before: Option<OwnedEventId>, after: Option<OwnedEventId>) {
        self.found.push(Difference { kind, state_key, before, after });
    }
}

/// What entries of a leaf are sorted by.
fn key((path, entry): &(Path, Entry)) -> (Path, &str, &str) {
    (*path, &entry.kind, &entry.state_key)
}
