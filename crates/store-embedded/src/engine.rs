//! fjall behind the contract of `koine-store`.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use fjall::{
    AbstractTree as _, CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable,
    config::CompressionPolicy,
};
use koine_store::{Batch, ByteRange, CommitFailure, Direction, Engine, EngineError, Rows, Snapshot, Space};

use crate::{
    config::EmbeddedConfig,
    folder::{Folder, OpenError},
};

/// What is written to a space is held in memory up to this size, then fjall asks its worker to make a file of it. Recorded
/// by fjall when the folder is made.
const MEMTABLE_BYTES: u64 = 8 * 1024 * 1024;
/// At this size we see to it, before fjall does. fjall asks with every commit until it is done, through a queue of a
/// thousand that its worker alone empties and also writes to: while the worker is busy with a compaction a thousand
/// commits fill the queue, and then it waits for itself for ever, and nothing is written out any more.
const MEMTABLE_BYTES_OURS: u64 = 6 * 1024 * 1024;
/// Journals on disk beyond this make fjall write out what they hold. fjall's least.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;
/// fjall's worker threads. With two, the first hands compactions round and round while the second is busy with one.
const WORKERS: usize = 1;
/// Open files that fjall keeps at hand.
const FILES: usize = 256;

/// The engine. Dropping it closes the folder; snapshots that are still held keep reading.
pub struct EmbeddedEngine {
    db: Database,
    spaces: Spaces,
    reserve: Reserve,
    // Behind `db`: fields are dropped in order, and the lock goes last.
    _folder: Folder,
}

type Spaces = Arc<[Keyspace; Space::ALL.len()]>;

/// Tells how much the disk has free, and in all.
type Probe = Box<dyn Fn(&Path) -> io::Result<Disk> + Send + Sync>;

/// A disk's numbers, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk {
    pub(crate) free: u64,
    pub(crate) total: u64,
}

struct Reserve {
    bytes: u64,
    probe: Probe,
}

impl EmbeddedEngine {
    /// Opens the folder, or makes it.
    pub fn open(config: &EmbeddedConfig) -> Result<Self, OpenError> {
        Self::open_with(config, Box::new(statvfs))
    }

    pub(crate) fn open_with(config: &EmbeddedConfig, probe: Probe) -> Result<Self, OpenError> {
        let folder = Folder::take(&config.path)?;
        let (db, spaces) = open_db(&folder, config)?;
        if folder.is_new() {
            folder.finish().map_err(|error| OpenError::io(folder.path(), error))?;
        }
        let reserve = Reserve { bytes: config.reserve_bytes, probe };
        Ok(Self { db, spaces: Arc::new(spaces), reserve, _folder: folder })
    }
}

fn open_db(folder: &Folder, config: &EmbeddedConfig) -> Result<(Database, [Keyspace; Space::ALL.len()]), OpenError> {
    let open = || {
        let db = Database::builder(folder.db())
            .cache_size(config.cache_bytes)
            .max_journaling_size(JOURNAL_BYTES)
            .max_cached_files(Some(FILES))
            .worker_threads(WORKERS)
            .manual_journal_persist(true)
            .open()?;
        let mut spaces = Vec::with_capacity(Space::ALL.len());
        for space in Space::ALL {
            if !folder.is_new() && !db.keyspace_exists(space.name()) {
                return Ok(Err(format!("the space {} is missing", space.name())));
            }
            spaces.push(db.keyspace(space.name(), options)?);
        }
        Ok(Ok((db, spaces)))
    };
    let path = || folder.path().to_owned();
    // Some kinds of damage make fjall panic.
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(Ok((db, spaces)))) => {
            let spaces = spaces.try_into().unwrap_or_else(|_| unreachable!("one keyspace was opened for each space"));
            Ok((db, spaces))
        }
        Ok(Ok(Err(what))) => Err(OpenError::Damaged { path: path(), what }),
        Ok(Err(fjall::Error::Io(error))) if folder.is_new() => Err(OpenError::io(folder.path(), error)),
        Ok(Err(fjall::Error::Locked)) => Err(OpenError::InUse { path: path() }),
        Ok(Err(error)) => Err(OpenError::Engine { path: path(), reason: error.to_string() }),
        Err(_) => Err(OpenError::Engine { path: path(), reason: "its files make no sense to the engine".to_owned() }),
    }
}

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
        .manual_journal_persist(true)
}

/// Bytes of a space that are in memory and in the journal alone.
fn held(space: &Keyspace) -> u64 {
    space.tree.active_memtable().size()
}

impl Engine for EmbeddedEngine {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(Moment { snapshot: self.db.snapshot(), spaces: self.spaces.clone() })
    }

    fn commit(&self, batch: Batch) -> Result<(), CommitFailure> {
        self.reserve.check(self._folder.path(), batch.bytes() as u64)?;
        let ops = batch.into_ops();
        let mut write = fjall::OwnedWriteBatch::with_capacity(self.db.clone(), ops.len());
        let mut touched = [false; Space::ALL.len()];
        for op in ops {
            let space = &self.spaces[op.space.number()];
            touched[op.space.number()] = true;
            match op.value {
                Some(value) => write.insert(space, op.key.as_ref(), value.as_ref()),
                None => write.remove(space, op.key.as_ref()),
            }
        }
        // A failure here may have written half of the batch to the journal, and nobody knows what a failed sync kept.
        let broken = |error| {
            let reason = match error {
                fjall::Error::Poisoned => "an earlier failure of the disk stopped the engine".to_owned(),
                error => error.to_string(),
            };
            CommitFailure::Broken(EngineError::new(format!(
                "writing to {} failed: {reason}. Check the disk, then start Koine again; nothing that was acknowledged is lost",
                self._folder.path().display()
            )))
        };
        write.durability(Some(PersistMode::SyncData)).commit().map_err(broken)?;
        let touched = self.spaces.iter().zip(touched).filter_map(|(space, touched)| touched.then_some(space));
        for space in touched.filter(|space| held(space) >= MEMTABLE_BYTES_OURS) {
            space.rotate_memtable().map_err(broken)?;
        }
        Ok(())
    }

    fn disk_bytes(&self) -> Option<u64> {
        self.db.disk_space().ok()
    }
}

impl Reserve {
    /// Refuses while the disk is nearly full.
    fn check(&self, path: &Path, batch_bytes: u64) -> Result<(), CommitFailure> {
        let disk = match (self.probe)(path) {
            Ok(disk) => disk,
            // No numbers is no reason not to write.
            Err(error) => {
                tracing::warn!(reason = %error, "cannot tell how much the disk has free");
                return Ok(());
            }
        };
        let needed = self.bytes.min(disk.total / 4) + batch_bytes.saturating_mul(2);
        if disk.free >= needed {
            return Ok(());
        }
        Err(CommitFailure::Refused(format!(
            "the disk with {} is full: {} are free, {} are needed to go on",
            path.display(),
            mebibytes(disk.free),
            mebibytes(needed)
        )))
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

fn statvfs(path: &Path) -> io::Result<Disk> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(Disk { free: disk.f_bavail.saturating_mul(disk.f_frsize), total: disk.f_blocks.saturating_mul(disk.f_frsize) })
}

/// A snapshot of fjall, over all spaces.
struct Moment {
    snapshot: fjall::Snapshot,
    spaces: Spaces,
}

fn read_error(error: fjall::Error) -> EngineError {
    EngineError::new(error)
}

impl Snapshot for Moment {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let found = self.snapshot.get(&self.spaces[space.number()], key).map_err(read_error)?;
        // Copied: fjall's slice keeps the whole block alive that it was read from.
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, space: Space, range: ByteRange, direction: Direction) -> Rows {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let keyspace = &self.spaces[space.number()];
        let iter = match range.end {
            Some(end) => self.snapshot.range(keyspace, range.start..end),
            None => self.snapshot.range(keyspace, range.start..),
        };
        let row = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(read_error)?;
            Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
        };
        match direction {
            Direction::Forward => Box::new(iter.map(row)),
            Direction::Backward => Box::new(iter.rev().map(row)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn commits_are_refused_while_the_disk_is_nearly_full_and_go_on_afterwards() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let free = Arc::new(AtomicU64::new(1000 * MIB));
        let probe = {
            let free = free.clone();
            move |_: &Path| Ok(Disk { free: free.load(SeqCst), total: 2000 * MIB })
        };
        let config = EmbeddedConfig { reserve_bytes: 100 * MIB, ..EmbeddedConfig::new(home.path()) };
        let engine = EmbeddedEngine::open_with(&config, Box::new(probe)).expect("an empty folder");
        let commit = |value: &'static str| {
            let mut batch = Batch::new();
            batch.put(Space::Index, "key", value);
            engine.commit(batch)
        };
        assert!(commit("1").is_ok());
        free.store(99 * MIB, SeqCst);
        let Err(CommitFailure::Refused(sentence)) = commit("2") else { panic!("it was not refused") };
        assert!(sentence.contains("99 MiB are free, 100 MiB are needed"), "{sentence}");
        assert_eq!(engine.get(Space::Index, b"key").expect("reads go on").as_deref(), Some(&b"1"[..]));
        free.store(101 * MIB, SeqCst);
        assert!(commit("3").is_ok());
        assert_eq!(engine.get(Space::Index, b"key").expect("reads go on").as_deref(), Some(&b"3"[..]));
    }

    #[test]
    fn what_is_held_in_memory_becomes_a_file_before_fjall_asks_for_it() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let engine = EmbeddedEngine::open(&EmbeddedConfig::new(home.path())).expect("an empty folder");
        let value = vec![7; 64 * 1024];
        for number in 0..3 * MEMTABLE_BYTES / MIB {
            let mut batch = Batch::new();
            for piece in 0..MIB / value.len() as u64 {
                batch.put(Space::Index, format!("{number} {piece}"), value.clone());
            }
            engine.commit(batch).expect("there is room");
            assert!(engine.spaces.iter().all(|space| held(space) < MEMTABLE_BYTES));
        }
        assert_eq!(engine.get(Space::Index, b"0 0").expect("it can be read").as_deref(), Some(&value[..]));
    }

    #[test]
    fn a_small_disk_keeps_a_quarter_free_and_an_unknown_one_is_written_to() {
        let small = Reserve { bytes: 256 * MIB, probe: Box::new(|_| Ok(Disk { free: 11 * MIB, total: 40 * MIB })) };
        assert!(small.check(Path::new("/"), 0).is_ok());
        assert!(small.check(Path::new("/"), MIB).is_err(), "a batch needs its room, too");
        let unknown = Reserve { bytes: 256 * MIB, probe: Box::new(|_| Err(io::Error::other("no idea"))) };
        assert!(unknown.check(Path::new("/"), MIB).is_ok());
    }
}
