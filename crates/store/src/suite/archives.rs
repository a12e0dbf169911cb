//! Checks of export and import, and of what must not be opened.
#![expect(missing_docs, reason = "the name of each check says what it checks")]

use std::{io::Cursor, sync::Arc};

use bytes::Bytes;

use super::{
    Fault, FaultyEngine, Subject,
    contract::{commit, rows},
};
use crate::{
    archive::{ArchiveError, Summary, export, import, verify},
    engine::{ByteRange, Engine},
    error::OpenError,
    log::{FACTS, IDENTITY, LAYOUT, LogEntry, Position},
    memory::MemoryEngine,
    shard::Shard,
    table::{DomainId, Space, Table},
    view::Direction,
};

const ROWS: Table<u64, Bytes> = Table::new("suite.archived", Space::Events, 0xf3);

fn filled(engine: Arc<dyn Engine>) -> Shard {
    let shard = Shard::open(engine).expect("a healthy engine opens");
    for part in 0..3u64 {
        let fill = shard.submit(move |txn| {
            for n in 0..200 {
                let value = vec![n as u8; (n * 17) as usize];
                txn.put(&ROWS, DomainId(1), &(part * 1000 + n), &value.into());
            }
            txn.append(LogEntry { domain: DomainId(1), subject: "s".into(), kind: 1, body: "b".into() });
            txn.move_cursor("push", Position(part));
        });
        fill.wait().expect("a healthy engine commits");
    }
    shard
}

fn archive(engine: &dyn Engine) -> (Summary, Vec<u8>) {
    let mut file = Vec::new();
    let summary = export(engine.snapshot().as_ref(), &mut file).expect("a healthy engine reads");
    (summary, file)
}

fn everything(engine: &dyn Engine) -> Vec<(Space, Bytes, Bytes)> {
    let snapshot = engine.snapshot();
    let of = |space| {
        rows(snapshot.as_ref(), space, ByteRange::all(), Direction::Forward)
            .into_iter()
            .map(move |(k, v)| (space, k, v))
    };
    let identity = FACTS.key(DomainId::HOUSE, IDENTITY);
    Space::ALL.into_iter().flat_map(of).filter(|(space, key, _)| *space != FACTS.space() || *key != identity).collect()
}

pub fn an_archive_restores_every_row_into_an_empty_engine(subject: &Subject) {
    let memory = MemoryEngine::new();
    let original = filled(Arc::new(memory.clone()));
    let (summary, file) = archive(&memory);
    assert!(summary.rows >= 600 && file.len() as u64 > summary.bytes, "{summary:?}");
    assert_eq!(verify(&mut file.as_slice()).expect("a sound archive"), summary);
    assert_eq!(import(subject.engine.as_ref(), &mut Cursor::new(&file)).expect("an empty engine"), summary);
    assert_eq!(everything(subject.engine.as_ref()), everything(&memory));
    assert_eq!(archive(subject.engine.as_ref()), (summary, file.clone()));
    let again = import(subject.engine.as_ref(), &mut Cursor::new(&file));
    assert!(matches!(again, Err(ArchiveError::NotEmpty)));
    let restored = Shard::open(subject.engine.clone()).expect("a restored store");
    assert_eq!((restored.position(), original.position()), (Position(3), Position(3)));
    assert_ne!(restored.identity(), original.identity(), "tokens of the original are not valid here");
}

pub fn a_damaged_archive_is_refused_and_restores_nothing(subject: &Subject) {
    let memory = MemoryEngine::new();
    drop(filled(Arc::new(memory.clone())));
    let (_, file) = archive(&memory);
    let refuse = |file: &[u8], why: &str| {
        let outcome = import(subject.engine.as_ref(), &mut Cursor::new(file));
        assert!(outcome.is_err(), "{why}: {outcome:?}");
        assert_eq!(everything(subject.engine.as_ref()), [], "{why}");
    };
    let step = file.len() / 97;
    for at in (0..40).chain((40..file.len()).step_by(step)).chain(file.len() - 30..file.len()) {
        let mut flipped = file.clone();
        flipped[at] ^= 0x10;
        refuse(&flipped, &format!("byte {at} changed"));
    }
    for length in (0..40).chain((40..file.len()).step_by(step)).chain([file.len() - 1]) {
        refuse(&file[..length], &format!("cut to {length}"));
    }
    refuse(&[&file[..], b"x"].concat(), "something behind it");
    assert!(matches!(verify(&mut &b"PK\x03\x04 and so on, and so on"[..]), Err(ArchiveError::NotAnArchive)));
    let newer = {
        let head = [b"KOINE ARCHIVE\n".as_slice(), &2u16.to_be_bytes(), &1u64.to_be_bytes()].concat();
        [head.clone(), crc32fast::hash(&head).to_be_bytes().to_vec()].concat()
    };
    assert!(matches!(verify(&mut newer.as_slice()), Err(ArchiveError::Newer { found: 2, known: 1, .. })));
}

pub fn an_unfinished_restore_is_not_taken_for_a_store(subject: &Subject) {
    let memory = MemoryEngine::new();
    let shard = Shard::open(Arc::new(memory.clone())).expect("a healthy engine opens");
    for n in 0..6u64 {
        let large = Bytes::from(vec![n as u8; 1024 * 1024]);
        shard.submit(move |txn| txn.put(&ROWS, DomainId(1), &n, &large)).wait().expect("a healthy engine commits");
    }
    let (_, file) = archive(&memory);
    let engine = FaultyEngine::new(subject.engine.clone());
    engine.fail_after(1, Fault::Refuse);
    assert!(matches!(import(&engine, &mut Cursor::new(file)), Err(ArchiveError::Commit(_))));
    assert!(matches!(Shard::open(subject.engine.clone()), Err(OpenError::HalfRestored)));
}

pub fn data_of_a_newer_layout_is_refused(subject: &Subject) {
    drop(filled(subject.engine.clone()));
    let layout = Bytes::copy_from_slice(&2u64.to_be_bytes());
    commit(subject.engine.as_ref(), |batch| batch.put(FACTS.space(), FACTS.key(DomainId::HOUSE, LAYOUT), layout));
    let before = everything(subject.engine.as_ref());
    assert!(matches!(Shard::open(subject.engine.clone()), Err(OpenError::Newer { found: 2, known: 1 })));
    assert_eq!(everything(subject.engine.as_ref()), before);
}
