//! What a durable commit costs: CPU, latency, size of groups. Prints one JSON line per load.
//!
//! `cargo run --release -p koine-store-embedded --example commit_cost [FOLDER]`. The load is that of a homeserver: each
//! command puts six rows in four spaces, about 1,500 bytes, and one log entry. CPU is that of the whole process, the
//! engine's background work and the producers included.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use koine_store::{DomainId, LogEntry, Shard, Space, Table, Txn};
use koine_store_embedded::{EmbeddedConfig, EmbeddedEngine};

const DOMAIN: DomainId = DomainId(1);
const EVENTS: Table<(u64, u64), Vec<u8>> = Table::new("cost.events", Space::Events, 0xf0);
const IDS: Table<String, u64> = Table::new("cost.ids", Space::Index, 0xf1);
const HEADS: Table<u64, Vec<u8>> = Table::new("cost.heads", Space::Index, 0xf2);
const STATE: Table<[u8; 16], Vec<u8>> = Table::new("cost.state", Space::State, 0xf3);
const TXNS: Table<(String, String), u64> = Table::new("cost.txns", Space::Ephemeral, 0xf4);

fn write(txn: &mut Txn, room: u64) {
    let number = txn.position().0 + 1;
    txn.put(&EVENTS, DOMAIN, &(room, number), &vec![number as u8; 900]);
    txn.put(&IDS, DOMAIN, format!("$an event id of the usual length {number:012}").as_str(), &number);
    txn.put(&HEADS, DOMAIN, &room, &vec![1; 120]);
    let node = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes();
    txn.put(&STATE, DOMAIN, &node, &vec![2; 200]);
    txn.put(&TXNS, DOMAIN, &("@someone:example.org", format!("m{number}")), &number);
    txn.append(LogEntry {
        domain: DOMAIN,
        subject: room.to_be_bytes().to_vec().into(),
        kind: 1,
        body: vec![3; 60].into(),
    });
}

/// User and system time of this process (Linux).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2)
        .flat_map(str::parse::<u64>)
        .sum();
    Duration::from_millis(ticks * 10)
}

fn load(shard: &Shard, producers: u64, under_way: usize, lasting: Duration) {
    let (before, cpu_before, started) = (shard.counters(), cpu(), Instant::now());
    let mut latencies: Vec<Duration> = thread::scope(|scope| {
        let producer = |room| {
            move || {
                let (mut waiting, mut latencies) = (std::collections::VecDeque::new(), Vec::new());
                while started.elapsed() < lasting {
                    waiting.push_back((Instant::now(), shard.submit(move |txn| write(txn, room))));
                    if waiting.len() == under_way
                        && let Some((since, commit)) = waiting.pop_front()
                    {
                        commit.wait().expect("a healthy disk");
                        latencies.push(since.elapsed());
                    }
                }
                waiting.into_iter().for_each(|(_, commit)| drop(commit.wait()));
                latencies
            }
        };
        let threads: Vec<_> = (0..producers).map(|room| scope.spawn(producer(room))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("producers do not panic")).collect()
    });
    let (elapsed, cpu) = (started.elapsed(), cpu() - cpu_before);
    let after = shard.counters();
    let (commits, groups) = (after.commits - before.commits, after.groups - before.groups);
    latencies.sort();
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).map_or(0, Duration::as_micros);
    println!(
        "{{\"producers\":{producers},\"under_way\":{under_way},\"commits_per_s\":{:.0},\"cpu_us_per_commit\":{:.1},\
         \"commits_per_sync\":{:.1},\"build_us_per_commit\":{:.2},\"sync_us_per_group\":{:.0},\"p50_us\":{},\"p99_us\":{}}}",
        commits as f64 / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / commits as f64,
        commits as f64 / groups as f64,
        (after.build_time - before.build_time).as_secs_f64() * 1e6 / commits as f64,
        (after.sync_time - before.sync_time).as_secs_f64() * 1e6 / groups as f64,
        at(0.5),
        at(0.99),
    );
}

fn main() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let path = std::env::args_os().nth(1).map_or_else(|| home.path().join("store"), Into::into);
    let started = Instant::now();
    let engine = EmbeddedEngine::open(&EmbeddedConfig::new(path)).expect("a folder of our own");
    let shard = Shard::open(Arc::new(engine)).expect("a whole store");
    println!("{{\"open_ms\":{}}}", started.elapsed().as_millis());
    for (producers, under_way) in [(1, 1), (8, 1), (32, 1), (8, 32)] {
        load(&shard, producers, under_way, Duration::from_secs(5));
    }
}
