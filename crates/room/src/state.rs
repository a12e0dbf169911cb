//! States of rooms as they are kept: nodes of the persistent map, in the store, with a cache in front.
//!
//! A node that a staged event made is needed at once, by the next event, while its bytes are on their way to the disk.
//! Until they are there, and the store shows them to everybody, it is held in `under_way`, which no budget empties.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use koine_graph::{
    Event, NodeId, StateMap,
    resolve::{self, EventSource, ResolveError},
    state::{Difference, Edit, NewNode, Node, NodeSource},
};
use koine_store::{Commit, CommitError, DomainId, Position, Shard, bytes::Bytes};
use parking_lot::{Mutex, RwLock};
use quick_cache::{Weighter, sync::Cache};
use ruma_common::{EventId, OwnedEventId};

use crate::{
    core::Core,
    error::ReadError,
    room::{Placed, Room, missing},
    tables::{Aside, HEIGHT, STATE_NODE},
};

/// The state of a room at some event: the name of a persistent map's root.
pub type Root = StateMap;

/// The root as it is stored.
pub(crate) fn root_bytes(root: Root) -> [u8; 16] {
    root.root().to_bytes()
}

/// A stored root.
pub(crate) fn root_of(bytes: [u8; 16]) -> Root {
    Root::from_root(NodeId::from_bytes(bytes))
}

/// New nodes of one change of state, to be stored with it.
pub(crate) type NewNodes = Vec<NewNode>;

/// Heights that one command writes.
const HEIGHTS_AT_ONCE: usize = 5_000;

/// Nodes that one command writes.
const NODES_AT_ONCE: usize = 1_000;

pub(crate) struct NodeCache {
    decoded: Cache<NodeId, Arc<Node>, NodeWeight>,
    /// Nodes whose commit is under way, with the number of commits that bring them.
    under_way: RwLock<HashMap<NodeId, (Arc<Node>, usize)>>,
    /// Those whose last commit is durable, with its place in the log: they leave `under_way` once the store shows more than that.
    leaving: Mutex<VecDeque<(Position, NodeId)>>,
    looks: AtomicU64,
    events_looked_at: AtomicU64,
    resolutions: AtomicU64,
}

/// What has been done about the states of rooms since the start. What an event costs shows in the difference, on whatever
/// machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateWork {
    /// Nodes of states looked at, in memory or in the store.
    pub nodes: u64,
    /// Events that resolutions looked at.
    pub events: u64,
    /// Resolutions of several states.
    pub resolutions: u64,
}

impl std::ops::Sub for StateWork {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            nodes: self.nodes - earlier.nodes,
            events: self.events - earlier.events,
            resolutions: self.resolutions - earlier.resolutions,
        }
    }
}

#[derive(Clone)]
struct NodeWeight;

impl Weighter<NodeId, Arc<Node>> for NodeWeight {
    fn weight(&self, _: &NodeId, node: &Arc<Node>) -> u64 {
        node.memory_bytes() as u64
    }
}

impl NodeCache {
    pub(crate) fn new(bytes: u64) -> Self {
        let expected = usize::try_from(bytes / 1000).unwrap_or(usize::MAX).max(16);
        Self {
            decoded: Cache::with_weighter(expected, bytes, NodeWeight),
            under_way: RwLock::default(),
            leaving: Mutex::default(),
            looks: AtomicU64::new(0),
            events_looked_at: AtomicU64::new(0),
            resolutions: AtomicU64::new(0),
        }
    }

    pub(crate) fn work(&self) -> StateWork {
        StateWork {
            nodes: self.looks.load(Ordering::Relaxed),
            events: self.events_looked_at.load(Ordering::Relaxed),
            resolutions: self.resolutions.load(Ordering::Relaxed),
        }
    }

    /// A node that is decoded or under way; one that moved from the latter to the former in between is looked for twice.
    fn in_memory(&self, id: &NodeId) -> Option<Arc<Node>> {
        let decoded = self.decoded.get(id);
        decoded.or_else(|| self.under_way.read().get(id).map(|(node, _)| node.clone())).or_else(|| self.decoded.get(id))
    }

    /// Bytes of decoded nodes in memory, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        self.decoded.weight()
    }
}

/// Nodes of one domain.
struct Nodes<'a> {
    cache: &'a NodeCache,
    shard: &'a Shard,
    domain: DomainId,
}

impl NodeSource for Nodes<'_> {
    type Error = ReadError;

    fn node(&self, id: &NodeId) -> Result<Arc<Node>, ReadError> {
        self.cache.looks.fetch_add(1, Ordering::Relaxed);
        if let Some(node) = self.cache.in_memory(id) {
            return Ok(node);
        }
        let bytes = self.shard.get(&STATE_NODE, self.domain, &id.to_bytes())?;
        let bytes = bytes.ok_or_else(|| ReadError::Damaged(format!("state node {id:?} is not stored")))?;
        let node = Node::decode(&bytes).map_err(|error| ReadError::Damaged(format!("state node {id:?}: {error}")))?;
        let node = Arc::new(node);
        self.cache.decoded.insert(*id, node.clone());
        Ok(node)
    }
}

impl Core {
    fn nodes(&self) -> Nodes<'_> {
        Nodes { cache: &self.nodes, shard: &self.shard, domain: self.domain() }
    }

    /// One node.
    pub(crate) fn state_node(&self, id: &NodeId) -> Result<Arc<Node>, ReadError> {
        self.nodes().node(id)
    }

    /// The event that holds in `state` for this type and state key.
    pub(crate) fn state_get(&self, state: Root, kind: &str, key: &str) -> Result<Option<OwnedEventId>, ReadError> {
        state.get(&self.nodes(), kind, key)
    }

    /// The state after `event`, a state event, and the nodes to store. The nodes can be read from now on;
    /// [`nodes_stored`](Self::nodes_stored) ends their being held.
    pub(crate) fn state_after(&self, state: Root, event: &Event) -> Result<(Root, NewNodes), ReadError> {
        let key = event.state_key().unwrap_or_default();
        self.state_with(state, [Edit::set(event.kind(), key, event.event_id().to_owned())])
    }

    /// The state after several edits, likewise.
    pub(crate) fn state_with(
        &self,
        state: Root,
        edits: impl IntoIterator<Item = Edit>,
    ) -> Result<(Root, NewNodes), ReadError> {
        let change = state.apply(&self.nodes(), edits)?;
        self.hold(&change.nodes);
        Ok((change.map, change.nodes))
    }

    /// What differs between two states. Costs what differs.
    pub(crate) fn state_differences(&self, before: Root, after: Root) -> Result<Vec<Difference>, ReadError> {
        before.diff(&self.nodes(), after)
    }

    fn hold(&self, nodes: &[NewNode]) {
        let mut under_way = self.nodes.under_way.write();
        for new in nodes {
            under_way.entry(new.id).or_insert_with(|| (new.node.clone(), 0)).1 += 1;
        }
    }

    /// Stores nodes ahead of what refers to them, which is harmless: they are named by what they hold. Returns when all
    /// are on disk.
    pub(crate) async fn store_nodes(self: &Arc<Self>, mut nodes: NewNodes) -> Result<(), CommitError> {
        let domain = self.domain();
        let mut under_way: Option<Commit> = None;
        while !nodes.is_empty() {
            let some = nodes.split_off(nodes.len().saturating_sub(NODES_AT_ONCE));
            let core = self.clone();
            let commit = self.shard.submit(move |txn| {
                for new in &some {
                    txn.put(&STATE_NODE, domain, &new.id.to_bytes(), &Bytes::from(new.bytes.clone()));
                }
                txn.on_durable(move |position| core.nodes_stored(&some, position));
            });
            // One is written while the next is made.
            if let Some(before) = under_way.replace(commit) {
                before.await?;
            }
        }
        if let Some(last) = under_way {
            last.await?;
        }
        Ok(())
    }

    /// The nodes of a change are on disk, at this place of the log. The store's view shows them only after the callbacks of
    /// all commits that became durable together, so they are held for a little longer.
    pub(crate) fn nodes_stored(&self, nodes: &[NewNode], position: Position) {
        let shown = self.shard.view().position();
        let (mut leaving, mut under_way) = (self.nodes.leaving.lock(), self.nodes.under_way.write());
        for new in nodes {
            if let Some((_, commits)) = under_way.get_mut(&new.id) {
                *commits = commits.saturating_sub(1);
                if *commits == 0 {
                    leaving.push_back((position, new.id));
                }
            }
        }
        while let Some((_, id)) = leaving.pop_front_if(|(position, _)| *position < shown) {
            // One that another commit brings by now stays.
            if under_way.get(&id).is_some_and(|(_, commits)| *commits == 0)
                && let Some((node, _)) = under_way.remove(&id)
            {
                self.nodes.decoded.insert(id, node);
            }
        }
    }
}

/// The events of a room as state resolution looks at them, with those whose commit is under way.
struct Known<'a>(&'a Room);

impl EventSource for Known<'_> {
    type Error = ReadError;

    fn event(&self, id: &EventId) -> Result<Option<Event>, ReadError> {
        self.0.core.nodes.events_looked_at.fetch_add(1, Ordering::Relaxed);
        self.0.known(id)
    }

    fn is_rejected(&self, id: &EventId) -> Result<bool, ReadError> {
        self.0.is_rejected(id)
    }

    fn height(&self, id: &EventId) -> Result<Option<u32>, ReadError> {
        let core = &self.0.core;
        let height = core.shard.get(&HEIGHT, core.domain(), id.as_str())?;
        Ok(height.and_then(|height| u32::try_from(height).ok()))
    }

    fn learned_heights(&self, heights: Vec<(OwnedEventId, u32)>) {
        let (core, mut heights) = (&self.0.core, heights);
        let domain = core.domain();
        // What becomes of the commits nobody waits for: what is not kept is found out again.
        while !heights.is_empty() {
            let some = heights.split_off(heights.len().saturating_sub(HEIGHTS_AT_ONCE));
            drop(core.shard.submit(move |txn| {
                some.iter().for_each(|(id, height)| txn.put(&HEIGHT, domain, id.as_str(), &u64::from(*height)));
            }));
        }
    }
}

impl Room {
    /// The state that several states resolve to, and the nodes to store.
    pub(crate) fn resolve(&self, states: &[Root]) -> Result<(Root, NewNodes), ReadError> {
        self.core.nodes.resolutions.fetch_add(1, Ordering::Relaxed);
        let change =
            resolve::resolve(self.rules(), &self.core.nodes(), &Known(self), states).map_err(|error| match error {
                ResolveError::Missing(ids) => {
                    let first = ids.first().map_or("none", |id| id.as_str());
                    ReadError::Damaged(format!("states cannot be resolved without {first} and {} more", ids.len()))
                }
                ResolveError::Ring(_) => ReadError::Damaged(format!("states cannot be resolved: {error}")),
                ResolveError::Nodes(error) | ResolveError::Events(error) => error,
            })?;
        self.core.hold(&change.nodes);
        Ok((change.map, change.nodes))
    }

    /// An event of this room whatever became of it: in the timeline, aside, or with its commit under way.
    pub(crate) fn known(&self, id: &EventId) -> Result<Option<Event>, ReadError> {
        if let Some(pending) = self.pending.lock().get(id) {
            return Ok(Some(pending.event.clone()));
        }
        if let Some(placed) = self.core.event(id)? {
            return Ok(Some(placed.event.clone()));
        }
        let Some(record) = self.core.aside(id)?.filter(|record| record.room == self.no()) else { return Ok(None) };
        let event = Event::from_stored(record.json, id.to_owned());
        event.map(Some).map_err(|error| ReadError::Damaged(format!("event {id}: {error}")))
    }

    /// Whether the rules refused the event when it came.
    pub(crate) fn is_rejected(&self, id: &EventId) -> Result<bool, ReadError> {
        if let Some(pending) = self.pending.lock().get(id) {
            return Ok(pending.aside == Some(Aside::Rejected));
        }
        // Only what holds is remembered, which spares a look for nearly every auth event of a message.
        if self.core.remembers(id) {
            return Ok(false);
        }
        Ok(self.core.aside(id)?.is_some_and(|record| record.why == Aside::Rejected))
    }

    /// What holds in `to` and not in `from`, for those types and state keys that `wanted` says yes to. Costs what
    /// differs.
    pub fn state_changes(
        &self,
        from: Root,
        to: Root,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Result<Vec<Arc<Placed>>, ReadError> {
        let differences = from.diff(&self.core.nodes(), to)?;
        let changed = differences.into_iter().filter(|difference| wanted(&difference.kind, &difference.state_key));
        self.placed(changed.filter_map(|difference| difference.after).map(Ok))
    }

    /// What holds in `state`, without members. Costs what it finds, however many they are.
    pub fn state_without_members(&self, state: Root) -> Result<Vec<Arc<Placed>>, ReadError> {
        let nodes = self.core.nodes();
        let entries = state.iter_except_type(&nodes, "m.room.member");
        self.placed(entries.map(|entry| Ok(entry?.event_id)))
    }

    /// The events of these ids, all of which hold somewhere.
    fn placed(
        &self,
        ids: impl Iterator<Item = Result<OwnedEventId, ReadError>>,
    ) -> Result<Vec<Arc<Placed>>, ReadError> {
        ids.map(|id| {
            let id = id?;
            self.core.holding(&id)?.ok_or_else(|| missing(&id))
        })
        .collect()
    }

    /// The ids of a state, for those types and state keys that `wanted` says yes to.
    pub(crate) fn state_entries(
        &self,
        state: Root,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Result<Vec<OwnedEventId>, ReadError> {
        let nodes = self.core.nodes();
        let mut ids = Vec::new();
        for entry in state.iter(&nodes) {
            let entry = entry?;
            if wanted(&entry.kind, &entry.state_key) {
                ids.push(entry.event_id);
            }
        }
        Ok(ids)
    }

    /// How many pieces the current state has.
    pub fn state_count(&self) -> Result<u64, ReadError> {
        let root = self.published().state;
        match root.root() == Root::EMPTY.root() {
            true => Ok(0),
            false => Ok(self.core.state_node(&root.root())?.len()),
        }
    }

    /// All events of a state, or those of one type. Costs what it finds.
    pub fn state_events(&self, state: Root, kind: Option<&str>) -> Result<Vec<Arc<Placed>>, ReadError> {
        let nodes = self.core.nodes();
        let entries = match kind {
            Some(kind) => state.iter_type(&nodes, kind),
            None => state.iter(&nodes),
        };
        self.placed(entries.map(|entry| Ok(entry?.event_id)))
    }

    /// At most so many events of one type of a state.
    pub(crate) fn state_events_up_to(
        &self,
        state: Root,
        kind: &str,
        most: usize,
    ) -> Result<Vec<Arc<Placed>>, ReadError> {
        let nodes = self.core.nodes();
        self.placed(state.iter_type(&nodes, kind).take(most).map(|entry| Ok(entry?.event_id)))
    }
}
