//! Kills a process in the middle of a write load, again and again, and looks at what it left.
//!
//! The child is this test program itself, started with an environment variable. Its threads submit commands; each
//! command writes one row in every one of four tables plus a log entry, all bearing the same number, and the number is
//! printed once the command is acknowledged. The parent reads the numbers, kills the child at a moment that differs
//! from round to round, reopens the folder, and checks that every acknowledged number is there in full and that every
//! number there is whole. `KOINE_CRASH_ROUNDS` sets the number of rounds.

use std::{
    collections::BTreeSet,
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use koine_store::{Direction, DomainId, LogEntry, Position, Shard, Space, Table, Txn};
use koine_store_embedded::{EmbeddedConfig, EmbeddedEngine};

const CHILD: &str = "KOINE_CRASH_CHILD";
const ROUNDS: &str = "KOINE_CRASH_ROUNDS";
const ROUNDS_DEFAULT: u32 = 10;
const THREADS: u64 = 4;
/// Commands that a thread has under way at once.
const UNDER_WAY: usize = 8;
/// A store that takes longer to open, or to write the first thing afterwards, has stalled.
const STALL: Duration = Duration::from_secs(30);

const DOMAIN: DomainId = DomainId(1);
const A: Table<u64, Vec<u8>> = Table::new("crash.a", Space::Events, 0xf0);
const B: Table<u64, u64> = Table::new("crash.b", Space::Index, 0xf1);
const C: Table<(String, u64), ()> = Table::new("crash.c", Space::State, 0xf2);
/// Overwritten by every command.
const NEWEST: Table<(), u64> = Table::new("crash.newest", Space::Ephemeral, 0xf3);

fn open(path: &Path) -> Shard {
    let config = EmbeddedConfig { reserve_bytes: 0, ..EmbeddedConfig::new(path) };
    Shard::open(Arc::new(EmbeddedEngine::open(&config).expect("a folder that a kill left"))).expect("a whole store")
}

/// Bytes that follow from the number, of very different lengths, so that files of the engine fill and are rewritten.
fn body(number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(50) { 60_000 } else { 200 + number % 3_000 };
    (0..length).map(|i| (number.wrapping_mul(31).wrapping_add(i * i)) as u8).collect()
}

fn write(txn: &mut Txn) -> u64 {
    let number = txn.position().0 + 1;
    txn.put(&A, DOMAIN, &number, &body(number));
    txn.put(&B, DOMAIN, &number, &number);
    txn.put(&C, DOMAIN, &("row", number), &());
    txn.put(&NEWEST, DOMAIN, &(), &number);
    if number.is_multiple_of(7) {
        txn.delete(&A, DOMAIN, &(number - 3));
    }
    txn.append(LogEntry {
        domain: DOMAIN,
        subject: "crash".into(),
        kind: 1,
        body: number.to_be_bytes().to_vec().into(),
    });
    number
}

/// The child's part: writes until it is killed.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(path) = env::var_os(CHILD) else { return };
    let shard = open(Path::new(&path));
    let (tell, told) = mpsc::channel();
    for _ in 0..THREADS {
        let (shard, tell) = (shard.clone(), tell.clone());
        thread::spawn(move || {
            let mut under_way = std::collections::VecDeque::new();
            loop {
                under_way.push_back(shard.submit(|txn| {
                    write(txn);
                }));
                if under_way.len() == UNDER_WAY {
                    let commit = under_way.pop_front().expect("some are under way");
                    tell.send(commit.wait().expect("a healthy disk")).expect("the printing thread lives");
                }
            }
        });
    }
    let mut out = std::io::stdout().lock();
    for position in told {
        writeln!(out, "acknowledged {position}").expect("the parent reads");
        out.flush().expect("the parent reads");
    }
}

fn start(path: &Path) -> Child {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["crash::child_that_writes_until_it_is_killed", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, path).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("a child process")
}

/// Lets a child write for a while and kills it: the positions it acknowledged.
fn round(path: &Path, life: Duration) -> BTreeSet<u64> {
    let mut child = start(path);
    let out = child.stdout.take().expect("it is piped");
    let (tell, told) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut acknowledged = BTreeSet::new();
        // The last line may be cut off anywhere: only whole lines count.
        let mut lines = BufReader::new(out);
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
            if let Some(number) = line.strip_suffix('\n').and_then(|line| line.strip_prefix("acknowledged ")) {
                acknowledged.insert(number.parse().expect("a number"));
                // Nobody listens after the first.
                let _ = tell.send(());
            }
            line.clear();
        }
        acknowledged
    });
    let first = told.recv_timeout(STALL);
    if first.is_ok() {
        thread::sleep(life);
    }
    child.kill().expect("our own child");
    child.wait().expect("our own child");
    let acknowledged = reader.join().expect("the reader does not panic");
    assert!(first.is_ok(), "no write was acknowledged within {STALL:?} of opening: the engine has stalled");
    acknowledged
}

/// Every number up to the newest is there in full, and nothing else is.
fn check(path: &Path, acknowledged: &BTreeSet<u64>) -> Position {
    let started = Instant::now();
    let shard = open(path);
    assert!(started.elapsed() < STALL, "opening took {:?}", started.elapsed());
    let view = shard.view();
    let newest = view.position();
    let asked = acknowledged.last().copied().unwrap_or(0);
    assert!(asked <= newest.0, "{asked} was acknowledged, and the log ends at {newest}");
    // Commands are numbered without gaps, so "all up to the newest" covers every acknowledged one.
    let numbers: Vec<u64> = (1..=newest.0).collect();
    let rows = |what: &str, found: Vec<u64>, expected: &[u64]| {
        assert!(found == expected, "{what}: {} rows, {} expected up to {newest}", found.len(), expected.len());
    };
    let b = view.scan(&B, DOMAIN, .., Direction::Forward).map(|row| row.expect("a readable row").1).collect();
    rows("table b", b, &numbers);
    let c = view.scan(&C, DOMAIN, .., Direction::Forward).map(|row| row.expect("a readable row").0.1).collect();
    rows("table c", c, &numbers);
    let is_deleted = |number: u64| (number + 3).is_multiple_of(7) && number + 3 <= newest.0;
    let left: Vec<u64> = numbers.iter().copied().filter(|number| !is_deleted(*number)).collect();
    let mut a = Vec::new();
    for row in view.scan(&A, DOMAIN, .., Direction::Forward) {
        let (number, found) = row.expect("a readable row");
        assert!(found == body(number), "row {number} has another body");
        a.push(number);
    }
    rows("table a", a, &left);
    let entries = view.log_after(Position(0), usize::MAX).expect("a whole log");
    rows("log", entries.iter().map(|(position, _)| position.0).collect(), &numbers);
    assert!(entries.iter().all(|(position, entry)| *entry.body == position.0.to_be_bytes()));
    assert_eq!(view.get(&NEWEST, DOMAIN, &()).expect("readable"), (newest.0 > 0).then_some(newest.0));
    newest
}

#[test]
fn kills_lose_nothing_that_was_acknowledged_and_leave_no_half_batch() {
    if env::var_os(CHILD).is_some() {
        return;
    }
    let rounds = env::var(ROUNDS).ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS_DEFAULT);
    let home = tempfile::tempdir().expect("a temporary folder");
    let path = home.path().join("store");
    let mut total = 0;
    for number in 0..rounds {
        // From at once to half a second, differently in every run.
        let life = Duration::from_micros(rand::random_range(0..500_000));
        let acknowledged = round(&path, life);
        let newest = check(&path, &acknowledged);
        total += acknowledged.len();
        eprintln!(
            "round {number}: killed after {life:?}, {} acknowledged, the log ends at {newest}",
            acknowledged.len()
        );
    }
    assert!(total > 0, "nothing was ever written");
}
