//! Nodes of the tree and their bytes.
//!
//! ```text
//! leaf    1, count, then per entry: type (length 0: as before), state key, event id
//! branch  2, step, the path up to there (one byte per two steps), then per child: its four bits, entries below, name
//! ```
//!
//! Lengths and counts are LEB128. Event ids made of a hash are kept as the 32 bytes of it (length 0), others as text.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma_common::OwnedEventId;

use super::{NewNode, NodeId, Path, path::STEPS};
use crate::hashes::sha256;

/// Most entries of a leaf, but for entries whose whole paths are the same.
pub const LEAF_MAX: usize = 16;

const LEAF: u8 = 1;
const BRANCH: u8 = 2;

/// One entry of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The event's type.
    pub kind: Arc<str>,
    /// Its state key.
    pub state_key: Box<str>,
    /// Its id.
    pub event_id: OwnedEventId,
}

impl Entry {
    pub(crate) fn is(&self, kind: &str, state_key: &str) -> bool {
        &*self.kind == kind && &*self.state_key == state_key
    }

    pub(crate) fn path(&self) -> Path {
        Path::of(&self.kind, &self.state_key)
    }
}

/// A node of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Up to [`LEAF_MAX`] entries, sorted by path, type and state key.
    Leaf(Vec<Entry>),
    /// More than that, by the bits in which they differ first.
    Branch(Branch),
}

/// A node with others below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The step at which the children differ.
    pub(crate) step: u8,
    /// The steps before, which all below have in common.
    pub(crate) path: Path,
    /// At least two, sorted by their bits.
    pub(crate) children: Vec<Child>,
}

/// A branch's way to one of the nodes below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    /// The four bits at the branch's step.
    pub(crate) bits: u8,
    /// Entries below.
    pub(crate) len: u64,
    pub(crate) id: NodeId,
}

impl Branch {
    /// The child that an entry with this path would be under.
    pub(crate) fn child_on(&self, path: Path) -> Option<&Child> {
        if path.up_to(self.step) != self.path {
            return None;
        }
        let bits = path.step(self.step);
        self.children.iter().find(|child| child.bits == bits)
    }

    pub(crate) fn len(&self) -> u64 {
        self.children.iter().map(|child| child.len).sum()
    }
}

/// Why bytes are not a node: the store is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are not a node of a state map")]
pub struct NodeError;

impl Node {
    /// Entries in and below it.
    pub fn len(&self) -> u64 {
        match self {
            Self::Leaf(entries) => entries.len() as u64,
            Self::Branch(branch) => branch.len(),
        }
    }

    /// Whether there are none, which no stored node is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The nodes right below it.
    pub fn children(&self) -> impl Iterator<Item = NodeId> {
        let children = match self {
            Self::Leaf(_) => &[],
            Self::Branch(branch) => branch.children.as_slice(),
        };
        children.iter().map(|child| child.id)
    }

    /// Bytes it takes in memory, roughly. For the budget of a cache.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Leaf(entries) => {
                let entry = |entry: &Entry| size_of::<Entry>() + entry.state_key.len() + entry.event_id.as_str().len();
                64 + entries.iter().map(entry).sum::<usize>()
            }
            Self::Branch(branch) => 64 + branch.children.len() * size_of::<Child>(),
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        match self {
            Self::Leaf(entries) => {
                out.push(LEAF);
                write_number(entries.len() as u64, &mut out);
                let mut kind = "";
                for entry in entries {
                    if &*entry.kind == kind {
                        write_number(0, &mut out);
                    } else {
                        write_number(entry.kind.len() as u64 + 1, &mut out);
                        out.extend_from_slice(entry.kind.as_bytes());
                        kind = &entry.kind;
                    }
                    write_text(&entry.state_key, &mut out);
                    write_event_id(entry.event_id.as_str(), &mut out);
                }
            }
            Self::Branch(branch) => {
                out.push(BRANCH);
                out.push(branch.step);
                out.extend(branch.path.to_bytes().into_iter().take(usize::from(branch.step).div_ceil(2)));
                for child in &branch.children {
                    out.push(child.bits);
                    write_number(child.len, &mut out);
                    out.extend_from_slice(&child.id.to_bytes());
                }
            }
        }
        out
    }

    /// From its bytes. Takes no more memory than a small multiple of them.
    pub fn decode(bytes: &[u8]) -> Result<Self, NodeError> {
        let mut reader = Reader(bytes);
        let node = match reader.byte()? {
            LEAF => Self::Leaf(reader.entries()?),
            BRANCH => Self::Branch(reader.branch()?),
            _ => return Err(NodeError),
        };
        if reader.0.is_empty() { Ok(node) } else { Err(NodeError) }
    }

    /// Hashes it.
    pub(crate) fn name(self) -> NewNode {
        let bytes = self.encode();
        let [half @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = sha256(&bytes);
        NewNode { id: NodeId::from_bytes(half), bytes, node: Arc::new(self) }
    }
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).expect("seven bits"));
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_number(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn write_event_id(id: &str, out: &mut Vec<u8>) {
    let hash = id.strip_prefix('$').filter(|hash| hash.len() == 43).and_then(|hash| URL_SAFE_NO_PAD.decode(hash).ok());
    match hash {
        Some(hash) => {
            out.push(0);
            out.extend_from_slice(&hash);
        }
        None => write_text(id, out),
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], NodeError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(NodeError)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NodeError> {
        self.take(N)?.try_into().map_err(|_| NodeError)
    }

    fn byte(&mut self) -> Result<u8, NodeError> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u64, NodeError> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(NodeError)
    }

    fn text(&mut self, length: u64) -> Result<&'a str, NodeError> {
        let bytes = self.take(usize::try_from(length).map_err(|_| NodeError)?)?;
        std::str::from_utf8(bytes).map_err(|_| NodeError)
    }

    fn event_id(&mut self) -> Result<OwnedEventId, NodeError> {
        let text = match self.number()? {
            0 => format!("${}", URL_SAFE_NO_PAD.encode(self.array::<32>()?)),
            length => self.text(length)?.to_owned(),
        };
        OwnedEventId::try_from(text).map_err(|_| NodeError)
    }

    fn entries(&mut self) -> Result<Vec<Entry>, NodeError> {
        let count = self.number()?;
        let mut entries = Vec::with_capacity(usize::try_from(count).unwrap_or(LEAF_MAX).min(LEAF_MAX));
        let mut kind: Arc<str> = "".into();
        for _ in 0..count {
            if let Some(length) = self.number()?.checked_sub(1) {
                kind = self.text(length)?.into();
            }
            let length = self.number()?;
            let state_key = self.text(length)?.into();
            entries.push(Entry { kind: kind.clone(), state_key, event_id: self.event_id()? });
        }
        Ok(entries)
    }

    fn branch(&mut self) -> Result<Branch, NodeError> {
        let step = self.byte()?;
        if step >= STEPS {
            return Err(NodeError);
        }
        let mut path = [0; 12];
        for (to, from) in path.iter_mut().zip(self.take(usize::from(step).div_ceil(2))?) {
            *to = *from;
        }
        let mut children = Vec::with_capacity(16);
        while !self.0.is_empty() {
            let bits = self.byte()?;
            children.push(Child { bits, len: self.number()?, id: NodeId::from_bytes(self.array()?) });
        }
        if !children.is_sorted_by(|one, other| one.bits < other.bits) || children.iter().any(|child| child.bits > 0xf) {
            return Err(NodeError);
        }
        Ok(Branch { step, path: Path::from_bytes(path), children })
    }
}
