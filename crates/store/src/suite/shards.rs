//! Checks of a shard on top of the engine: groups, order, the log, failures.
#![expect(missing_docs, reason = "the name of each check says what it checks")]

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Fault, FaultyEngine, Subject};
use crate::{
    COMMAND_BYTES_MAX, KEY_BYTES_MAX,
    error::{CommitError, StoreError},
    key::Begins,
    log::{LogEntry, Position},
    range::KeyRange,
    shard::{Commit, Shard, ShardConfig},
    table::{DomainId, Space, Table},
    txn::Txn,
    view::Direction,
};

const ROWS: Table<(String, u64), String> = Table::new("suite.rows", Space::Index, 0xf0);
const COUNTERS: Table<String, u64> = Table::new("suite.counters", Space::Accounts, 0xf1);
const BLOBS: Table<u64, Bytes> = Table::new("suite.blobs", Space::Media, 0xf2);
const DOMAIN: DomainId = DomainId(7);

fn open(engine: &FaultyEngine, config: ShardConfig) -> Shard {
    Shard::open_with(Arc::new(engine.clone()), config).expect("a healthy engine opens")
}

fn shard(subject: &Subject) -> (FaultyEngine, Shard) {
    let engine = FaultyEngine::new(subject.engine.clone());
    let shard = open(&engine, ShardConfig::default());
    (engine, shard)
}

fn entry(kind: u8) -> LogEntry {
    LogEntry { domain: DOMAIN, subject: Bytes::from_static(b"subject"), kind, body: Bytes::from(vec![kind]) }
}

fn increment(txn: &mut Txn) -> Result<(), StoreError> {
    let count = txn.get(&COUNTERS, DOMAIN, "count")?.unwrap_or(0);
    txn.put(&COUNTERS, DOMAIN, "count", &(count + 1));
    Ok(())
}

fn append(txn: &mut Txn, kind: u8, times: usize) {
    for _ in 0..times {
        txn.append(entry(kind));
    }
}

fn done(commit: Commit) {
    commit.wait().expect("a healthy engine commits");
}

fn count(shard: &Shard) -> u64 {
    shard.get(&COUNTERS, DOMAIN, "count").expect("a healthy engine reads").unwrap_or(0)
}

/// Lets one command reach the engine's commit and wait there, so that what is submitted next queues up behind it.
fn occupy(engine: &FaultyEngine, shard: &Shard) {
    let begun = engine.begun();
    drop(shard.submit(|txn| txn.put(&BLOBS, DOMAIN, &u64::MAX, &Bytes::new())));
    while engine.begun() == begun {
        std::thread::yield_now();
    }
}

pub fn commands_commit_in_the_order_of_their_submission(subject: &Subject) {
    let (_, shard) = shard(subject);
    let start = shard.position();
    let commits: Vec<_> = (0..500u64)
        .map(|n| {
            shard.submit(move |txn| {
                let position = txn.append(entry(1));
                txn.put(&ROWS, DOMAIN, &("order", position.0), &n.to_string());
            })
        })
        .collect();
    for (n, commit) in (1..).zip(commits) {
        assert_eq!(commit.wait().expect("a healthy engine commits"), Position(start.0 + n));
    }
    let rows = shard.view().prefix(&ROWS, DOMAIN, &("order",), Direction::Forward);
    let values: Vec<_> = rows.map(|row| row.expect("a healthy engine reads").1).collect();
    assert_eq!(values, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
}

pub fn waiting_commands_share_one_sync(subject: &Subject) {
    let (engine, shard) = shard(subject);
    let before = engine.done();
    let held = engine.hold();
    occupy(&engine, &shard);
    let commits: Vec<_> = (0..100).map(|_| shard.submit(increment)).collect();
    drop(held);
    commits.into_iter().for_each(done);
    assert_eq!(engine.done() - before, 2, "one for the first, one for the hundred that waited");
    assert_eq!(count(&shard), 100);
    assert_eq!(shard.counters().group_max, 100);
}

pub fn groups_are_bounded(subject: &Subject) {
    let engine = FaultyEngine::new(subject.engine.clone());
    let shard = open(&engine, ShardConfig { group_commands: 8, group_bytes: 10_000, ..ShardConfig::default() });
    let before = engine.done();
    let held = engine.hold();
    occupy(&engine, &shard);
    let small = (0..20u64).map(|n| shard.submit(move |txn| txn.put(&BLOBS, DOMAIN, &n, &Bytes::new())));
    let small: Vec<_> = small.collect();
    let large = (20..24u64).map(|n| shard.submit(move |txn| txn.put(&BLOBS, DOMAIN, &n, &vec![0; 20_000].into())));
    let large: Vec<_> = large.collect();
    drop(held);
    small.into_iter().chain(large).for_each(done);
    // 1 held + 8 + 8 + (4 small and the first large) + 3 large, each a group of its own.
    assert_eq!(engine.done() - before, 1 + 3 + 3);
}

pub fn nothing_is_acknowledged_or_seen_before_it_is_durable(subject: &Subject) {
    let (engine, shard) = shard(subject);
    let watch = shard.watch();
    let held = engine.hold();
    occupy(&engine, &shard);
    let mut commit = pin!(shard.submit(|txn| {
        txn.append(entry(1));
        increment(txn)
    }));
    let mut context = Context::from_waker(Waker::noop());
    assert!(commit.as_mut().poll(&mut context).is_pending());
    assert_eq!(
        (count(&shard), shard.position(), watch.has_changed().is_ok_and(|changed| changed)),
        (0, Position(0), false)
    );
    drop(held);
    shard.submit(|_| {}).wait().expect("a healthy engine commits");
    assert!(commit.as_mut().poll(&mut context).is_ready());
    // Readers of the log are told after who waits, and before the next group.
    done(shard.submit(|_| {}));
    assert_eq!((count(&shard), shard.position(), *watch.borrow()), (1, Position(1), Position(1)));
}

pub fn commands_see_what_earlier_commands_of_their_group_wrote(subject: &Subject) {
    let (engine, shard) = shard(subject);
    done(shard.submit(increment));
    let held = engine.hold();
    occupy(&engine, &shard);
    for _ in 0..9 {
        drop(shard.submit(increment));
    }
    drop(shard.submit(|txn| txn.delete(&COUNTERS, DOMAIN, "count")));
    drop(shard.submit(increment));
    drop(shard.submit(increment));
    drop(held);
    shard.submit(|_| {}).wait().expect("a healthy engine commits");
    assert_eq!(count(&shard), 2, "ten, deleted, two");
}

pub fn scans_inside_a_command_see_its_own_writes(subject: &Subject) {
    let (_, shard) = shard(subject);
    let fill = shard.submit(|txn| {
        for n in 0..10 {
            txn.put(&ROWS, DOMAIN, &("a", n), &"old".to_owned());
            txn.put(&ROWS, DOMAIN, &("b", n), &"old".to_owned());
        }
    });
    fill.wait().expect("a healthy engine commits");
    let work = shard.submit(|txn| {
        txn.delete(&ROWS, DOMAIN, &("a", 3));
        txn.put(&ROWS, DOMAIN, &("a", 4), &"new".to_owned());
        txn.put(&ROWS, DOMAIN, &("a", 20), &"new".to_owned());
        let found = txn.scan(&ROWS, DOMAIN, KeyRange::prefix(&("a",)).after(&("a", 1u64)).before(&("a", 7u64)))?;
        let found: Vec<_> = found.into_iter().map(|((_, n), value)| format!("{n} {value}")).collect();
        assert_eq!(found, ["2 old", "4 new", "5 old", "6 old"]);
        assert_eq!(txn.delete_range(&ROWS, DOMAIN, KeyRange::prefix(&(Begins("a"),)))?, 10);
        assert_eq!(txn.scan(&ROWS, DOMAIN, KeyRange::prefix(&("a",)))?, []);
        Ok(())
    });
    work.wait().expect("a healthy engine commits");
    let left = shard.view().scan(&ROWS, DOMAIN, .., Direction::Backward);
    let left: Vec<_> = left.map(|row| row.expect("a healthy engine reads").0).collect();
    assert_eq!(left, (0..10).rev().map(|n| ("b".to_owned(), n)).collect::<Vec<_>>());
}

pub fn callbacks_run_in_order_before_anybody_is_told(subject: &Subject) {
    let (_, shard) = shard(subject);
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut commits = Vec::new();
    for n in 0..200u64 {
        let (told, reader) = (told.clone(), shard.clone());
        commits.push(shard.submit(move |txn| {
            let position = txn.append(entry(2));
            txn.on_durable(move |at| {
                assert_eq!(at, position);
                assert!(reader.position() < at, "seen before its callback ran");
                told.lock().push(n);
            });
            txn.on_durable(|_| panic!("contained"));
        }));
    }
    for (n, commit) in commits.into_iter().enumerate() {
        commit.wait().expect("a healthy engine commits");
        assert!(told.lock().len() > n, "acknowledged before its callback ran");
    }
    assert_eq!(*told.lock(), (0..200).collect::<Vec<_>>());
}

pub fn a_panicking_command_leaves_nothing_and_harms_nobody(subject: &Subject) {
    let (engine, shard) = shard(subject);
    let held = engine.hold();
    occupy(&engine, &shard);
    let before = shard.submit(|txn| {
        txn.append(entry(1));
        increment(txn)
    });
    let called = Arc::new(AtomicU64::new(0));
    let counter = called.clone();
    let panics = shard.submit(move |txn| -> () {
        txn.append(entry(2));
        txn.put(&COUNTERS, DOMAIN, "count", &100);
        txn.put(&ROWS, DOMAIN, &("half", 1), &"half".to_owned());
        txn.on_durable(move |_| {
            counter.fetch_add(1, SeqCst);
        });
        std::panic::panic_any("on purpose");
    });
    let withdrawn = shard.submit(|txn| {
        txn.append(entry(3));
        txn.delete(&COUNTERS, DOMAIN, "count");
        txn.refuse("changed my mind");
    });
    let after = shard.submit(|txn| {
        txn.append(entry(4));
        increment(txn)
    });
    drop(held);
    assert_eq!(before.wait().expect("a healthy engine commits"), Position(1));
    assert!(matches!(panics.wait(), Err(CommitError::Panicked(words)) if &*words == "on purpose"));
    assert!(matches!(withdrawn.wait(), Err(CommitError::Withdrawn(words)) if &*words == "changed my mind"));
    assert_eq!(after.wait().expect("a healthy engine commits"), Position(2));
    assert_eq!((count(&shard), called.load(SeqCst)), (2, 0));
    assert_eq!(shard.get(&ROWS, DOMAIN, &("half", 1)).expect("a healthy engine reads"), None);
    let kinds: Vec<_> = shard.log_after(Position(0), 10).expect("a whole log").iter().map(|(_, e)| e.kind).collect();
    assert_eq!(kinds, [1, 4]);
}

pub fn commands_that_write_too_much_are_refused_alone(subject: &Subject) {
    let (_, shard) = shard(subject);
    let large = Bytes::from(vec![0; COMMAND_BYTES_MAX / 2]);
    let too_large = shard.submit(move |txn| (0..3).for_each(|n| txn.put(&BLOBS, DOMAIN, &n, &large)));
    let too_long = shard.submit(|txn| txn.put(&COUNTERS, DOMAIN, "x".repeat(KEY_BYTES_MAX).as_str(), &1));
    let right = shard.submit(increment);
    assert!(matches!(too_large.wait(), Err(CommitError::TooLarge { .. })));
    assert!(matches!(too_long.wait(), Err(CommitError::KeyTooLong { .. })));
    // Nothing can stand there, but whoever may name a key may look for it.
    for length in [KEY_BYTES_MAX, 100_000] {
        let name = "x".repeat(length);
        let name = name.as_str();
        assert_eq!(shard.get(&COUNTERS, DOMAIN, name).expect("a read"), None);
        let view = shard.view();
        assert_eq!(view.scan(&COUNTERS, DOMAIN, KeyRange::prefix(name), Direction::Forward).count(), 0);
        assert_eq!(view.get_many(&COUNTERS, DOMAIN, [name]).expect("a read"), [None]);
        let owned = name.to_owned();
        let looked = shard.submit(move |txn| {
            assert_eq!(txn.get(&COUNTERS, DOMAIN, owned.as_str()).expect("a read"), None);
            assert!(txn.scan(&COUNTERS, DOMAIN, KeyRange::prefix(owned.as_str())).expect("a read").is_empty());
        });
        assert!(looked.wait().is_ok());
    }
    right.wait().expect("a healthy engine commits");
    assert!(!shard.view().contains(&BLOBS, DOMAIN, &0).expect("a healthy engine reads"));
}

pub fn a_refused_commit_leaves_no_trace_and_the_next_one_succeeds(subject: &Subject) {
    let (engine, shard) = shard(subject);
    let work = |txn: &mut Txn| {
        txn.append(entry(1));
        increment(txn)
    };
    shard.submit(work).wait().expect("a healthy engine commits");
    engine.fail(Fault::Refuse);
    for _ in 0..3 {
        assert!(matches!(shard.submit(work).wait(), Err(CommitError::Refused(words)) if words.contains("full")));
        assert_eq!((count(&shard), shard.position()), (1, Position(1)));
    }
    engine.fail(None);
    assert_eq!(shard.submit(work).wait().expect("there is room again"), Position(2));
    assert_eq!(count(&shard), 2);
}

pub fn a_broken_engine_is_fatal_and_still_readable(subject: &Subject) {
    for fault in [Fault::Break, Fault::Panic] {
        let engine = FaultyEngine::new(subject.engine.clone());
        let (tell, told) = mpsc::channel();
        let fatal = Arc::new(move |words: &str| drop(tell.send(words.to_owned())));
        let shard = open(&engine, ShardConfig { fatal, ..ShardConfig::default() });
        done(shard.submit(increment));
        let before = count(&shard);
        engine.fail(fault);
        let (first, second) = (shard.submit(increment), shard.submit(increment));
        assert!(matches!(first.wait(), Err(CommitError::Broken(_))));
        assert!(matches!(second.wait(), Err(CommitError::Broken(_))));
        assert!(matches!(shard.submit(increment).wait(), Err(CommitError::Broken(_))));
        assert_eq!(count(&shard), before);
        drop(shard);
        assert_eq!(told.iter().count(), 1, "the last word is said once");
    }
}

pub fn an_engine_that_hangs_is_given_up(subject: &Subject) {
    let engine = FaultyEngine::new(subject.engine.clone());
    let (tell, told) = mpsc::channel();
    let fatal = Arc::new(move |words: &str| drop(tell.send(words.to_owned())));
    let stall = Duration::from_secs(1);
    let shard = open(&engine, ShardConfig { fatal, stall, ..ShardConfig::default() });
    let held = engine.hold();
    occupy(&engine, &shard);
    let queued = shard.submit(increment);
    assert!(told.recv().expect("the watchdog speaks").contains("at one commit for"));
    assert!(matches!(queued.wait(), Err(CommitError::Broken(_))));
    assert!(shard.counters().committing >= stall);
    drop(held);
}

pub fn the_log_is_read_from_any_position(subject: &Subject) {
    let (_, shard) = shard(subject);
    for kind in 0..5u8 {
        done(shard.submit(move |txn| append(txn, kind, 2)));
    }
    let kinds = |after, limit| {
        let entries = shard.log_after(Position(after), limit).expect("a whole log");
        entries.into_iter().map(|(position, entry)| (position.0, entry.kind)).collect::<Vec<_>>()
    };
    assert_eq!(kinds(0, 3), [(1, 0), (2, 0), (3, 1)]);
    assert_eq!(kinds(7, 100), [(8, 3), (9, 4), (10, 4)]);
    assert_eq!(kinds(10, 100), []);
    assert_eq!(kinds(99, 100), []);
    assert_eq!(kinds(0, 0), []);
    let view = shard.view();
    done(shard.submit(|txn| append(txn, 9, 1)));
    assert_eq!((view.position(), view.log_after(Position(10), 5).expect("a whole log").len()), (Position(10), 0));
    assert_eq!(kinds(10, 100), [(11, 9)]);
}

pub fn the_log_is_trimmed_behind_its_slowest_reader(subject: &Subject) {
    let (_, shard) = shard(subject);
    assert_eq!(shard.trim_log(0).expect("nothing to do"), 0);
    let fill = shard.submit(|txn| {
        append(txn, 1, 3000);
        txn.move_cursor("push", Position(1500));
        txn.move_cursor("search", Position(2900));
    });
    fill.wait().expect("a healthy engine commits");
    assert_eq!(shard.view().cursor("push").expect("reads"), Some(Position(1500)));
    assert_eq!(shard.trim_log(100).expect("a healthy engine commits"), 1500);
    assert_eq!(shard.log_after(Position(1500), 1).expect("still there")[0].0, Position(1501));
    assert!(matches!(
        shard.log_after(Position(1499), 1),
        Err(StoreError::Trimmed { asked: Position(1499), oldest: Position(1500) })
    ));
    shard.submit(|txn| txn.forget_cursor("push")).wait().expect("a healthy engine commits");
    assert_eq!(shard.view().cursors().expect("reads"), [("search".to_owned(), Position(2900))]);
    assert_eq!(shard.trim_log(500).expect("a healthy engine commits"), 1000, "the window is kept");
    shard.submit(|txn| txn.forget_cursor("search")).wait().expect("a healthy engine commits");
    assert_eq!(shard.trim_log(0).expect("a healthy engine commits"), 499, "the newest entry stays");
    drop(shard);
    let shard = Shard::open(subject.engine.clone()).expect("a healthy engine opens");
    assert_eq!((shard.position(), shard.view().trimmed()), (Position(3000), Position(2999)));
    assert_eq!(shard.submit(|txn| append(txn, 1, 1)).wait().expect("commits"), Position(3001));
}

pub fn a_reopened_shard_goes_on_where_it_was(subject: &Subject) {
    let (_, shard) = shard(subject);
    let identity = shard.identity();
    done(shard.submit(|txn| append(txn, 1, 1)));
    drop(shard);
    let shard = Shard::open(subject.engine.clone()).expect("a healthy engine opens");
    assert_eq!((shard.identity(), shard.position()), (identity, Position(1)));
    assert_eq!(shard.log_after(Position(0), 9).expect("a whole log"), [(Position(1), entry(1))]);
}

pub fn a_full_queue_refuses_and_waiting_for_room_works(subject: &Subject) {
    let engine = FaultyEngine::new(subject.engine.clone());
    let shard = open(&engine, ShardConfig { queue_high: 4, queue_max: 8, ..ShardConfig::default() });
    let held = engine.hold();
    occupy(&engine, &shard);
    let commits: Vec<_> = (0..8).map(|_| shard.submit(increment)).collect();
    assert!(matches!(shard.submit(increment).wait(), Err(CommitError::Overloaded { waiting: 8 })));
    assert_eq!(shard.counters().queue_depth, 8);
    let mut ready = pin!(shard.ready());
    assert!(ready.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(held);
    commits.into_iter().for_each(done);
    assert!(ready.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    done(shard.submit(increment));
}

pub fn closing_commits_what_is_queued(subject: &Subject) {
    let (_, shard) = shard(subject);
    for _ in 0..100 {
        drop(shard.submit(increment));
    }
    let other = shard.clone();
    shard.close();
    assert!(matches!(other.submit(increment).wait(), Err(CommitError::Closed)));
    assert_eq!(count(&other), 100);
    drop((shard, other));

    let shard = Shard::open(subject.engine.clone()).expect("a healthy engine opens");
    let own = shard.clone();
    // The last handle may go in a callback, on the writer's own thread.
    let commit = shard.submit(move |txn| {
        txn.on_durable(move |_| drop(own));
        increment(txn)
    });
    drop(shard);
    commit.wait().expect("a healthy engine commits");
}

pub fn commands_need_no_runtime_and_futures_resolve_in_one(subject: &Subject) {
    let (_, shard) = shard(subject);
    done(shard.submit(increment));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut watch = shard.watch();
        shard.ready().await;
        let commit = shard.submit(|txn| append(txn, 1, 1));
        watch.changed().await.expect("the shard lives");
        assert_eq!(*watch.borrow(), commit.await.expect("a healthy engine commits"));
    });
}
