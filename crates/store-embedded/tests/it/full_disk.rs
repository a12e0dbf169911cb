//! A disk that fills up: writes are refused with a sentence, reads go on, nothing acknowledged is lost.
//!
//! On a real small disk where a tmpfs may be mounted (Linux, root); the refusal itself is also tested inside the crate
//! with a pretend disk.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use koine_store::{CommitError, DomainId, Shard, Space, Table};
use koine_store_embedded::{EmbeddedConfig, EmbeddedEngine};

const ROWS: Table<u64, Vec<u8>> = Table::new("test.rows", Space::Events, 0xf0);
const DOMAIN: DomainId = DomainId(1);
const DISK_MIB: usize = 48;

/// A small file system; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path) -> Option<Self> {
        let size = format!("size={DISK_MIB}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A failure leaves an empty mount in a temporary folder.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

fn open(path: &Path) -> Shard {
    let engine = EmbeddedEngine::open(&EmbeddedConfig::new(path)).expect("a folder of our own");
    Shard::open(Arc::new(engine)).expect("a whole store")
}

/// Bytes that do not compress, so that the disk fills as fast as it seems.
fn value(n: u64) -> Vec<u8> {
    let mut state = n + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..2_500).flat_map(|_| next()).collect()
}

#[test]
fn a_full_disk_refuses_writes_and_goes_on_reading() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = SmallDisk::mount(home.path()) else {
        eprintln!("SKIPPED: no small file system can be mounted here (not root, or not Linux)");
        return;
    };
    let path = disk.0.join("store");
    let shard = open(&path);
    let mut kept = 0;
    let refusal = loop {
        match shard.submit(move |txn| txn.put(&ROWS, DOMAIN, &kept, &value(kept))).wait() {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 10_000, "the disk never filled");
    };
    assert!(matches!(&refusal, CommitError::Refused(words) if words.contains("full")), "{refusal}");
    let all = |shard: &Shard| {
        (0..kept).for_each(|n| assert!(shard.get(&ROWS, DOMAIN, &n).expect("readable") == Some(value(n)), "row {n}"));
    };
    all(&shard);
    // A larger one, as tidying up in the background may have found a little room.
    let is_refused = |shard: &Shard| {
        let commit = shard.submit(|txn| txn.put(&ROWS, DOMAIN, &u64::MAX, &vec![0; 4 * 1024 * 1024]));
        assert!(matches!(commit.wait(), Err(CommitError::Refused(_))));
    };
    (0..5).for_each(|_| is_refused(&shard));
    assert_eq!(shard.get(&ROWS, DOMAIN, &kept).expect("readable"), None);

    // Opened again while still full.
    drop(shard);
    let shard = open(&path);
    all(&shard);
    is_refused(&shard);

    // Room again: no restart is needed.
    let larger = format!("remount,size={}m", 4 * DISK_MIB);
    let output = Command::new("mount").args(["-o", &larger]).arg(&disk.0).output().expect("mount ran before");
    assert!(output.status.success(), "{output:?}");
    for n in kept..kept + 200 {
        shard.submit(move |txn| txn.put(&ROWS, DOMAIN, &n, &value(n))).wait().expect("there is room");
    }
    all(&shard);
    drop(shard);
    all(&open(&path));
}
