//! `seen` and `fanout`: from sending a message to reading it from a long-polling `/sync`.
//!
//! `seen` has four pairs, each in a room of two, each pair by itself: send, wait until the other has read it, send the next.
//! `fanout` has one room with 200 members who all sync; the next message leaves when all have read the last. Latency is
//! from the start of the sending request to the end of the reader's answer, one per message and reader. The filter is
//! what clients ask for: lazy members, ten events of timeline, no presence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clocks::Clocks;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::http::{escaped, find};
use crate::matrix::{CallError, Client, LAZY_FILTER, Person, Server, SyncAsk, next_batch};
use crate::meter::{Line, Tally, quantile_ms};
use crate::world::{World, in_parallel};

/// How long a reader's sync waits for news.
const POLL_MS: u64 = 30_000;
/// A message that not everybody has read by then has failed.
const READING_WAIT_MAX: Duration = Duration::from_secs(60);
/// Precedes the number of a message in its text.
const MARK: &str = "message-number-";

/// Rooms with one sender and some readers each.
#[derive(Debug, Clone)]
pub struct Audience {
    rooms: Vec<(String, Person, Vec<Reader>)>,
}

/// A syncing member, and where their last sync ended.
#[derive(Debug, Clone)]
struct Reader {
    person: Person,
    since: String,
}

/// `seen`: pairs of sender and reader.
pub async fn seen(world: &mut World) -> Result<Line, CallError> {
    let pairs = world.sizes.pairs;
    let audience = match world.pairs.take() {
        Some(audience) => audience,
        None => gather(world, "pair", pairs, 1).await?,
    };
    let (line, audience) = measure(world, "seen", audience).await?;
    // After a failure some readers are lost: the next round gathers anew.
    world.pairs = (line.errors == 0).then_some(audience);
    Ok(line.with("pairs", pairs as f64))
}

/// `fanout`: one sender, many readers.
pub async fn fanout(world: &mut World) -> Result<Line, CallError> {
    let readers = world.sizes.scaled(world.sizes.fanout);
    let audience = match world.crowd.take() {
        Some(audience) => audience,
        None => gather(world, "crowd", 1, readers).await?,
    };
    let (line, audience) = measure(world, "fanout", audience).await?;
    world.crowd = (line.errors == 0).then_some(audience);
    let deliveries = line.ops as f64 * readers as f64;
    let per_delivery = line.server_cpu_s.map(|cpu| cpu * 1e3 / deliveries.max(1.0));
    let line = line.with("readers", readers as f64);
    Ok(match per_delivery {
        Some(cpu) => line.with("server_cpu_ms_per_delivery", cpu),
        None => line,
    })
}

async fn gather(world: &mut World, crew: &'static str, rooms: usize, readers: usize) -> Result<Audience, CallError> {
    let people = world.people(crew, rooms * (readers + 1)).await?;
    let mut gathered = Vec::new();
    for crowd in people.chunks(readers + 1) {
        let (sender, others) = crowd.split_first().expect("chunks are not empty");
        let room = world.client(sender).create_room_patiently("An audience").await?;
        let (server, room_id) = (world.server.clone(), room.clone());
        in_parallel(others.to_vec(), move |person: Person| {
            let (server, room) = (server.clone(), room_id.clone());
            async move { Client::new(&server, &person).join_patiently(&room).await }
        })
        .await?;
        // Only now, with everybody there: joins that follow a reader's first sync would be news to them.
        let server = world.server.clone();
        let readers = in_parallel(others.to_vec(), move |person: Person| {
            let server = server.clone();
            async move {
                let filter = escaped(LAZY_FILTER);
                let ask = SyncAsk { since: None, timeout_ms: 0, filter: Some(&filter) };
                let since = next_batch(Client::new(&server, &person).sync(ask).await?)?;
                Ok(Reader { person, since })
            }
        })
        .await?;
        gathered.push((room, sender.clone(), readers));
    }
    Ok(Audience { rooms: gathered })
}

/// What one room's sender and readers share while measuring.
struct Stage {
    clocks: Clocks,
    /// One permit per message read by one reader.
    read: Semaphore,
    /// Number after the last message.
    end: AtomicU64,
}

async fn measure(world: &mut World, scenario: &str, audience: Audience) -> Result<(Line, Audience), CallError> {
    let meter = world.meter(scenario);
    let until = Instant::now() + world.sizes.duration();
    let ops_each = (world.sizes.ops / audience.rooms.len() as u64).max(1);
    let mut rooms = JoinSet::new();
    for (room, sender, readers) in audience.rooms {
        let server = world.server.clone();
        // Numbers go on over all rounds, so that a message of an earlier round is never taken for one of this.
        let first = (world.fresh() << 32) + 1;
        rooms.spawn(async move {
            let outcome = perform(&server, &room, &sender, readers, first, ops_each, until).await;
            (room, sender, outcome)
        });
    }
    let (mut all, mut slowest, mut audience) = (Tally::default(), Vec::new(), Audience { rooms: Vec::new() });
    while let Some(done) = rooms.join_next().await {
        let (room, sender, outcome) = done.expect("a room's work does not panic and is not cancelled");
        all.merge(outcome.each);
        slowest.extend(outcome.slowest);
        audience.rooms.push((room, sender, outcome.readers));
    }
    slowest.sort_unstable();
    let line = meter.finish_with_ops(all, slowest.len() as u64);
    let line = line.with("last_reader_p50_ms", quantile_ms(&slowest, 0.5));
    Ok((line.with("last_reader_p99_ms", quantile_ms(&slowest, 0.99)), audience))
}

struct Performed {
    each: Tally,
    slowest: Vec<Duration>,
    readers: Vec<Reader>,
}

/// One room: sends message after message, and lets all readers read each before the next.
async fn perform(
    server: &Server,
    room: &str,
    sender: &Person,
    readers: Vec<Reader>,
    first: u64,
    ops: u64,
    until: Instant,
) -> Performed {
    let stage = Arc::new(Stage { clocks: Clocks::new(first), read: Semaphore::new(0), end: AtomicU64::new(u64::MAX) });
    let count = u32::try_from(readers.len()).unwrap_or(u32::MAX);
    let mut reading = JoinSet::new();
    for reader in readers {
        reading.spawn(read(Client::new(server, &reader.person), reader, stage.clone()));
    }

    let mut client = Client::new(server, sender);
    let mut performed = Performed { each: Tally::default(), slowest: Vec::new(), readers: Vec::new() };
    for number in first..first + ops {
        let last = number + 1 == first + ops || Instant::now() >= until;
        if last {
            stage.end.store(number + 1, Ordering::Relaxed);
        }
        let sent = stage.clocks.start(number);
        if let Err(error) = client.send(room, &format!("d{number}"), &format!("{MARK}{number};")).await {
            performed.each.fail(&error);
            break;
        }
        match tokio::time::timeout(READING_WAIT_MAX, stage.read.acquire_many(count)).await {
            Ok(Ok(permits)) => permits.forget(),
            _ => {
                performed.each.fail(&format!("message {number} was not read by all in time"));
                break;
            }
        }
        performed.slowest.push(sent.elapsed());
        if last {
            break;
        }
    }
    if performed.each.errors > 0 {
        reading.abort_all();
    }
    while let Some(reader) = reading.join_next().await {
        if let Ok((reader, tally)) = reader {
            performed.each.merge(tally);
            performed.readers.push(reader);
        }
    }
    performed
}

/// One reader: syncs until the last message has come.
async fn read(mut client: Client, mut reader: Reader, stage: Arc<Stage>) -> (Reader, Tally) {
    let mut tally = Tally::default();
    let mut expected = stage.clocks.first();
    let filter = escaped(LAZY_FILTER);
    while expected < stage.end.load(Ordering::Relaxed) {
        let ask = SyncAsk { since: Some(&reader.since), timeout_ms: POLL_MS, filter: Some(&filter) };
        let answer = match client.sync(ask).await {
            Ok(answer) => answer,
            Err(error) => {
                tally.fail(&error);
                break;
            }
        };
        while find(answer, format!("{MARK}{expected};").as_bytes()).is_some() {
            tally.latencies.push(stage.clocks.since(expected));
            stage.read.add_permits(1);
            expected += 1;
        }
        match next_batch(answer) {
            Ok(next) => reader.since = next,
            Err(error) => {
                tally.fail(&error);
                break;
            }
        }
    }
    (reader, tally)
}

/// When each message was sent.
mod clocks {
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    /// Start times of consecutively numbered messages.
    pub struct Clocks {
        first: u64,
        sent: Mutex<Vec<Instant>>,
    }

    impl Clocks {
        /// The first message will have number `first`.
        pub fn new(first: u64) -> Self {
            Self { first, sent: Mutex::new(Vec::new()) }
        }

        /// Number of the first message.
        pub fn first(&self) -> u64 {
            self.first
        }

        /// Message `number` leaves now.
        pub fn start(&self, number: u64) -> Instant {
            let now = Instant::now();
            let mut sent = self.sent.lock().expect("nobody panics while holding it");
            debug_assert_eq!(number, self.first + sent.len() as u64, "messages leave in order");
            sent.push(now);
            now
        }

        /// How long ago message `number` left.
        pub fn since(&self, number: u64) -> Duration {
            let sent = self.sent.lock().expect("nobody panics while holding it");
            let at = usize::try_from(number - self.first).unwrap_or(usize::MAX);
            sent.get(at).map(Instant::elapsed).unwrap_or_default()
        }
    }
}
