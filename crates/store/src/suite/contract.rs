//! Checks of the bare contract: rows, order, snapshots, batches.
#![expect(missing_docs, reason = "the name of each check says what it checks")]

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use bytes::Bytes;

use super::Subject;
use crate::{
    KEY_BYTES_MAX,
    batch::Batch,
    engine::{ByteRange, Engine, Snapshot},
    table::Space,
    view::Direction,
    view::Direction::{Backward, Forward},
};

const SPACE: Space = Space::Index;

pub(super) fn commit(engine: &dyn Engine, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    engine.commit(batch).expect("a healthy engine commits");
}

pub(super) fn get(snapshot: &dyn Snapshot, space: Space, key: &[u8]) -> Option<Bytes> {
    snapshot.get(space, key).expect("a healthy engine reads")
}

pub(super) fn rows(
    snapshot: &dyn Snapshot,
    space: Space,
    range: ByteRange,
    direction: Direction,
) -> Vec<(Bytes, Bytes)> {
    snapshot.scan(space, range, direction).collect::<Result<_, _>>().expect("a healthy engine reads")
}

fn keys(engine: &dyn Engine, range: ByteRange, direction: Direction) -> Vec<Vec<u8>> {
    rows(engine.snapshot().as_ref(), SPACE, range, direction).into_iter().map(|(key, _)| key.to_vec()).collect()
}

fn range(start: &[u8], end: Option<&[u8]>) -> ByteRange {
    ByteRange { start: start.to_vec(), end: end.map(<[u8]>::to_vec) }
}

pub fn an_empty_engine_holds_nothing(subject: &Subject) {
    let snapshot = subject.engine.snapshot();
    for space in Space::ALL {
        assert_eq!(get(snapshot.as_ref(), space, b"a"), None);
        assert_eq!(rows(snapshot.as_ref(), space, ByteRange::all(), Forward), []);
        assert_eq!(rows(snapshot.as_ref(), space, ByteRange::all(), Backward), []);
    }
    commit(subject.engine.as_ref(), |_| {});
}

pub fn what_was_put_is_found(subject: &Subject) {
    let engine = subject.engine.as_ref();
    let longest = vec![0xff; KEY_BYTES_MAX];
    let large = vec![7; 1024 * 1024];
    let cases: [(&[u8], &[u8]); 6] = [
        (b"plain", b"value"),
        (b"empty value", b""),
        (b"\0", b"\0\0"),
        (b"\xff\xff", b"\xff"),
        (&longest, b"at the longest key"),
        (b"large", &large),
    ];
    commit(engine, |batch| {
        for (key, value) in cases {
            batch.put(SPACE, key.to_vec(), value.to_vec());
        }
    });
    for (key, value) in cases {
        let found = engine.get(SPACE, key).expect("a healthy engine reads");
        assert!(found.as_deref() == Some(value), "at {:?}", &key[..key.len().min(16)]);
    }
    assert_eq!(engine.get(SPACE, b"plai").expect("a healthy engine reads"), None);
}

pub fn the_last_word_about_a_row_counts(subject: &Subject) {
    let engine = subject.engine.as_ref();
    commit(engine, |batch| {
        batch.put(SPACE, "a", "1");
        batch.put(SPACE, "a", "2");
        batch.put(SPACE, "b", "1");
        batch.delete(SPACE, "b");
        batch.delete(SPACE, "c");
        batch.put(SPACE, "c", "1");
        batch.delete(SPACE, "never there");
    });
    let all = |engine: &dyn Engine| rows(engine.snapshot().as_ref(), SPACE, ByteRange::all(), Forward);
    assert_eq!(all(engine), [("a".into(), "2".into()), ("c".into(), "1".into())]);
    commit(engine, |batch| batch.delete(SPACE, "a"));
    commit(engine, |batch| batch.put(SPACE, "c", "2"));
    assert_eq!(all(engine), [(Bytes::from("c"), Bytes::from("2"))]);
    commit(engine, |batch| batch.put(SPACE, "a", "3"));
    assert_eq!(all(engine), [("a".into(), "3".into()), ("c".into(), "2".into())]);
}

pub fn rows_come_in_the_order_of_their_bytes(subject: &Subject) {
    let engine = subject.engine.as_ref();
    let mut sorted: Vec<Vec<u8>> = (0..=255u8).flat_map(|byte| [vec![byte], vec![byte, 0], vec![byte, 0xff]]).collect();
    sorted.sort();
    let mut shuffled = sorted.clone();
    shuffled
        .sort_by_key(|key| key.iter().fold(17u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(*byte))));
    for part in shuffled.chunks(100) {
        commit(engine, |batch| part.iter().for_each(|key| batch.put(SPACE, key.clone(), "")));
    }
    assert_eq!(keys(engine, ByteRange::all(), Forward), sorted);
    sorted.reverse();
    assert_eq!(keys(engine, ByteRange::all(), Backward), sorted);
}

pub fn scans_keep_within_their_bounds(subject: &Subject) {
    let engine = subject.engine.as_ref();
    commit(engine, |batch| ["a", "b", "ba", "c"].into_iter().for_each(|key| batch.put(SPACE, key, "")));
    let cases: [(ByteRange, &[&[u8]]); 9] = [
        (range(b"", None), &[b"a", b"b", b"ba", b"c"]),
        (range(b"b", None), &[b"b", b"ba", b"c"]),
        (range(b"b", Some(b"c")), &[b"b", b"ba"]),
        (range(b"b\0", Some(b"c\0")), &[b"ba", b"c"]),
        (range(b"", Some(b"b")), &[b"a"]),
        (range(b"d", None), &[]),
        (range(b"b", Some(b"b")), &[]),
        (range(b"c", Some(b"a")), &[]),
        (range(b"", Some(b"")), &[]),
    ];
    for (range, expected) in cases {
        let mut expected: Vec<Vec<u8>> = expected.iter().map(|key| key.to_vec()).collect();
        assert_eq!(keys(engine, range.clone(), Forward), expected, "{range:?}");
        expected.reverse();
        assert_eq!(keys(engine, range.clone(), Backward), expected, "{range:?} backwards");
    }
}

pub fn spaces_do_not_see_each_other(subject: &Subject) {
    let engine = subject.engine.as_ref();
    commit(engine, |batch| Space::ALL.into_iter().for_each(|space| batch.put(space, "key", space.name())));
    commit(engine, |batch| batch.delete(Space::Media, "key"));
    for space in Space::ALL {
        let expected = (space != Space::Media).then(|| Bytes::from(space.name()));
        assert_eq!(get(engine.snapshot().as_ref(), space, b"key"), expected);
    }
}

pub fn many_rows_are_found_in_the_order_asked_for(subject: &Subject) {
    let engine = subject.engine.as_ref();
    commit(engine, |batch| (0..100u8).for_each(|n| batch.put(SPACE, vec![n], vec![n, n])));
    let asked: Vec<Vec<u8>> = [99u8, 3, 200, 3, 0].map(|n| vec![n]).to_vec();
    let found = engine.multi_get(SPACE, &asked).expect("a healthy engine reads");
    let expected = [Some(99u8), Some(3), None, Some(3), Some(0)].map(|n| n.map(|n| Bytes::from(vec![n, n])));
    assert_eq!(found, expected);
    assert_eq!(engine.multi_get(SPACE, &[]).expect("a healthy engine reads"), Vec::<Option<Bytes>>::new());
}

pub fn snapshots_stand_still(subject: &Subject) {
    let engine = subject.engine.as_ref();
    let mut held = Vec::new();
    for round in 0..50u32 {
        commit(engine, |batch| {
            batch.put(SPACE, "counter", round.to_string());
            batch.put(SPACE, format!("row {round:03}"), "");
            if round >= 10 {
                batch.delete(SPACE, format!("row {:03}", round - 10));
            }
        });
        held.push((round, engine.snapshot()));
    }
    for (round, snapshot) in held {
        assert_eq!(get(snapshot.as_ref(), SPACE, b"counter"), Some(round.to_string().into()));
        let found = rows(snapshot.as_ref(), SPACE, range(b"row", None), Forward);
        let expected: Vec<_> = (round.saturating_sub(9)..=round).map(|n| Bytes::from(format!("row {n:03}"))).collect();
        assert_eq!(found.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), expected);
    }
}

pub fn scans_outlive_their_snapshot(subject: &Subject) {
    let engine = subject.engine.as_ref();
    commit(engine, |batch| (0..500u32).for_each(|n| batch.put(SPACE, n.to_be_bytes().to_vec(), "old")));
    let mut scan = engine.snapshot().scan(SPACE, ByteRange::all(), Forward);
    for n in 0..500u32 {
        commit(engine, |batch| match n % 3 {
            0 => batch.delete(SPACE, n.to_be_bytes().to_vec()),
            _ => batch.put(SPACE, n.to_be_bytes().to_vec(), "new"),
        });
        let (key, value) = scan.next().expect("500 rows were there").expect("a healthy engine reads");
        assert_eq!((key, value), (n.to_be_bytes().to_vec().into(), Bytes::from("old")));
    }
    assert!(scan.next().is_none());
}

pub fn a_batch_is_seen_whole_or_not_at_all(subject: &Subject) {
    let engine = subject.engine.as_ref();
    let write = |round: u64| {
        commit(engine, |batch| {
            for space in Space::ALL {
                batch.put(space, "round", round.to_string());
            }
        });
    };
    write(0);
    let is_done = AtomicBool::new(false);
    let (begun, has_begun) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !is_done.load(SeqCst) {
                let snapshot = engine.snapshot();
                let rounds = Space::ALL.map(|space| get(snapshot.as_ref(), space, b"round"));
                assert!(rounds.iter().all(|round| *round == rounds[0]), "half a batch: {rounds:?}");
                // Heard once; afterwards nobody listens any more.
                let _ = begun.send(());
            }
        });
        has_begun.recv().expect("the reader looks at least once");
        (1..200).for_each(write);
        is_done.store(true, SeqCst);
        reader.join().expect("the reader saw no half batch");
    });
}
