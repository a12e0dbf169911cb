//! An engine that forgets everything: for tests.
//!
//! Every key has a short history of (version, value). A snapshot is a version number; a commit adds one version and
//! drops from the histories it touches what no living snapshot can see.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::{
    batch::Batch,
    engine::{ByteRange, CommitFailure, Engine, Rows, Snapshot},
    error::EngineError,
    table::Space,
    view::Direction,
};

/// Rows that a scan copies out under the lock at once.
const CHUNK: usize = 64;

/// Keeps everything in memory, and nothing beyond the process.
#[derive(Clone, Default)]
pub struct MemoryEngine {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    data: RwLock<Data>,
    /// Versions that snapshots hold, with their number.
    held: Mutex<BTreeMap<u64, usize>>,
}

#[derive(Default)]
struct Data {
    version: u64,
    spaces: [BTreeMap<Bytes, History>; Space::ALL.len()],
    /// Deletions that left a row whose last word is "nothing", with the version that said it.
    graves: VecDeque<(u64, Space, Bytes)>,
}

/// Oldest first; `None` is a deletion.
type History = Vec<(u64, Option<Bytes>)>;

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Engine for MemoryEngine {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        let data = self.shared.data.read();
        Box::new(Moment::hold(self.shared.clone(), data.version))
    }

    fn commit(&self, batch: Batch) -> Result<(), CommitFailure> {
        let mut data = self.shared.data.write();
        // Snapshots are taken under the same lock, so none of an older version can appear meanwhile.
        let oldest = self.shared.held.lock().keys().next().copied().unwrap_or(data.version);
        data.version += 1;
        let version = data.version;
        for op in batch.into_ops() {
            let grave = op.value.is_none();
            let history = data.spaces[op.space.number()].entry(op.key.clone()).or_default();
            let seen_by_oldest = history.iter().rposition(|(at, _)| *at <= oldest).unwrap_or(0);
            history.drain(..seen_by_oldest);
            history.push((version, op.value));
            if grave {
                data.graves.push_back((version, op.space, op.key));
            }
        }
        data.bury(oldest);
        Ok(())
    }
}

impl Data {
    /// Removes deleted rows that no snapshot from `oldest` on can see.
    fn bury(&mut self, oldest: u64) {
        while let Some((version, ..)) = self.graves.front()
            && *version <= oldest
        {
            let Some((version, space, key)) = self.graves.pop_front() else { break };
            let rows = &mut self.spaces[space.number()];
            if rows.get(&key).is_some_and(|history| matches!(history.last(), Some((at, None)) if *at == version)) {
                rows.remove(&key);
            }
        }
    }
}

fn at(history: &History, version: u64) -> Option<&Bytes> {
    history.iter().rev().find(|(at, _)| *at <= version)?.1.as_ref()
}

/// A snapshot: holds its version while it lives.
struct Moment {
    shared: Arc<Shared>,
    version: u64,
}

impl Moment {
    fn hold(shared: Arc<Shared>, version: u64) -> Self {
        *shared.held.lock().entry(version).or_default() += 1;
        Self { shared, version }
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        let mut held = self.shared.held.lock();
        if let Some(count) = held.get_mut(&self.version) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.version);
            }
        }
    }
}

impl Snapshot for Moment {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let data = self.shared.data.read();
        Ok(data.spaces[space.number()].get(key).and_then(|history| at(history, self.version)).cloned())
    }

    fn scan(&self, space: Space, range: ByteRange, direction: Direction) -> Rows {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let start = Bound::Included(Bytes::from(range.start));
        let end = range.end.map_or(Bound::Unbounded, |end| Bound::Excluded(end.into()));
        let moment = Self::hold(self.shared.clone(), self.version);
        Box::new(Walk { moment, space, start, end, direction, chunk: VecDeque::new(), done: false })
    }
}

/// A scan under way.
struct Walk {
    moment: Moment,
    space: Space,
    start: Bound<Bytes>,
    end: Bound<Bytes>,
    direction: Direction,
    chunk: VecDeque<(Bytes, Bytes)>,
    done: bool,
}

impl Walk {
    /// Copies out the next rows and narrows the range to what is left.
    fn fill(&mut self) {
        let data = self.moment.shared.data.read();
        let rows = data.spaces[self.space.number()].range((self.start.clone(), self.end.clone()));
        let mut last = None;
        let mut visit = |(key, history): (&Bytes, &History)| {
            last = Some(key.clone());
            if let Some(value) = at(history, self.moment.version) {
                self.chunk.push_back((key.clone(), value.clone()));
            }
        };
        match self.direction {
            Direction::Forward => rows.take(CHUNK).for_each(&mut visit),
            Direction::Backward => rows.rev().take(CHUNK).for_each(&mut visit),
        }
        match (last, self.direction) {
            (None, _) => self.done = true,
            (Some(key), Direction::Forward) => self.start = Bound::Excluded(key),
            (Some(key), Direction::Backward) => self.end = Bound::Excluded(key),
        }
        // `range` panics on bounds that exclude the same key twice.
        if let (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end)) = (&self.start, &self.end) {
            self.done |= start >= end;
        }
    }
}

impl Iterator for Walk {
    type Item = Result<(Bytes, Bytes), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.chunk.is_empty() && !self.done {
            self.fill();
        }
        self.chunk.pop_front().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(engine: &MemoryEngine, key: &'static str, value: Option<&'static str>) {
        let mut batch = Batch::new();
        match value {
            Some(value) => batch.put(Space::Index, key, value),
            None => batch.delete(Space::Index, key),
        }
        assert!(engine.commit(batch).is_ok());
    }

    #[test]
    fn histories_do_not_outlive_the_snapshots_that_need_them() {
        let engine = MemoryEngine::new();
        put(&engine, "a", Some("1"));
        let held = engine.snapshot();
        for _ in 0..10 {
            put(&engine, "a", Some("2"));
            put(&engine, "a", None);
        }
        assert_eq!(held.get(Space::Index, b"a").expect("memory reads"), Some("1".into()));
        drop(held);
        put(&engine, "b", Some("1"));
        put(&engine, "a", Some("3"));
        put(&engine, "a", Some("4"));
        let data = engine.shared.data.read();
        assert!(data.spaces[Space::Index.number()][&b"a"[..]].len() <= 2);
        assert!(data.graves.is_empty());
    }

    #[test]
    fn deleted_rows_leave_nothing_behind() {
        let engine = MemoryEngine::new();
        put(&engine, "a", Some("1"));
        put(&engine, "a", None);
        put(&engine, "b", Some("1"));
        assert!(!engine.shared.data.read().spaces[Space::Index.number()].contains_key(&b"a"[..]));
    }
}
