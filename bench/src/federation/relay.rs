//! `federation-relay` and `federation-calm`: people of one server talk in rooms that people of another read. A message
//! counts when its reader has it.
//!
//! In the first, the next message of a room leaves when the last was acknowledged and no more than fifty are on their way: as
//! many as go through. Nearly all of a message's time is then spent behind the others, so that its latency is those on their way
//! divided by those that get through in a second, whatever the servers do. In the second the messages of a room leave at
//! a steady pace, far below that: its latency is what a message takes.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Federating;
use crate::Failure;
use crate::http::escaped;
use crate::matrix::{Client, SyncAsk, register};
use crate::meter::{Line, Meter, Tally};
use crate::procfs;

/// Rooms, each with one who sends and one who reads.
const ROOMS: usize = 8;
/// Messages that may be on their way to a reader: a sync tells of no more than a hundred.
const AHEAD_MAX: usize = 50;
/// How long a reader's sync waits for news.
const POLL_MS: u64 = 5_000;
/// How long what was sent may take to arrive once nothing more is sent.
const ARRIVAL_WAIT_MAX: Duration = Duration::from_secs(120);
/// At the steady pace, a message of each room every so often.
const CALM_EVERY: Duration = Duration::from_millis(250);
const FILTER: &str =
    r#"{"room":{"timeline":{"limit":1000},"state":{"lazy_load_members":true}},"presence":{"types":[]}}"#;

struct Pair {
    sender: Client,
    reader: Client,
    since: String,
    room: String,
}

/// When messages leave.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as they get through.
    Full,
    /// Steadily, and slower than that.
    Calm,
}

/// Measures for so long. CPU is that of both servers.
pub async fn relay(one: &Federating, other: &Federating, seconds: u64, pace: Pace) -> Result<Line, Failure> {
    let mut pairs = Vec::new();
    // The servers know the people of earlier runs.
    let run = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    for number in 0..ROOMS {
        pairs.push(pair(one, other, &format!("{number}-{run}")).await?);
    }
    let theirs = procfs::usage(&other.running.pids()).unwrap_or_default();
    let scenario = if pace == Pace::Full { "federation-relay" } else { "federation-calm" };
    let meter = Meter::start(scenario, &one.server.name, &one.running.pids());
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut talking = JoinSet::new();
    let count = u32::try_from(pairs.len()).unwrap_or(1);
    for (number, pair) in (0..).zip(pairs) {
        // The rooms take turns.
        let every = (pace == Pace::Calm).then_some((CALM_EVERY, CALM_EVERY * number / count));
        talking.spawn(talk(pair, until, every));
    }
    let mut tally = Tally::default();
    while let Some(done) = talking.join_next().await {
        tally.merge(done.map_err(|error| Failure::Words(error.to_string()))??);
    }
    let messages = tally.latencies.len() as f64;
    let theirs = procfs::usage(&other.running.pids()).unwrap_or_default().cpu_s - theirs.cpu_s;
    let line = meter.finish(tally);
    let both = line.server_cpu_s.unwrap_or_default() + theirs;
    Ok(line
        .with("rooms", ROOMS as f64)
        .with("reading_server_cpu_s", theirs)
        .with("both_cpu_ms_per_op", if messages > 0.0 { both * 1e3 / messages } else { 0.0 }))
}

async fn pair(one: &Federating, other: &Federating, name: &str) -> Result<Pair, Failure> {
    let sender = register(&one.server, &format!("sender-{name}")).await?;
    let reader = register(&other.server, &format!("reader-{name}")).await?;
    let mut sender = Client::new(&one.server, &sender);
    let mut reader = Client::new(&other.server, &reader);
    let room = sender.create_room_patiently("A room of two servers").await?;
    let via = escaped(&one.name);
    let path = format!("/_matrix/client/v3/join/{}?server_name={via}&via={via}", escaped(&room));
    reader.call_patiently("POST", &path, "{}").await?;
    let filter = escaped(FILTER);
    let since =
        crate::matrix::next_batch(reader.sync(SyncAsk { since: None, timeout_ms: 0, filter: Some(&filter) }).await?)?;
    Ok(Pair { sender, reader, since, room })
}

/// Sends until then and reads until all has arrived: one latency per message, from its sending, or from when it fell due,
/// to its being read. `every`: how often, and after how long the first.
async fn talk(pair: Pair, until: Instant, every: Option<(Duration, Duration)>) -> Result<Tally, Failure> {
    let Pair { mut sender, mut reader, mut since, room } = pair;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let where_to = room.clone();
    let ahead = Arc::new(Semaphore::new(AHEAD_MAX));
    let places = ahead.clone();
    let sending = tokio::spawn(async move {
        let mut number = 0_usize;
        let mut due = Instant::now() + every.map_or(Duration::ZERO, |(_, first)| first);
        while Instant::now() < until {
            // Given back by the reader.
            places.acquire().await.expect("it is never closed").forget();
            let begun = match every {
                Some((every, _)) => {
                    tokio::time::sleep_until(due.into()).await;
                    let now = due;
                    due += every;
                    now
                }
                None => Instant::now(),
            };
            // Known to the reader before it can arrive.
            let _ = told.send(begun);
            sender.send(&where_to, &format!("t{number}"), &format!("message-number-{number}.")).await?;
            number += 1;
        }
        Ok::<usize, crate::matrix::CallError>(number)
    });
    let (mut began, mut read) = (Vec::new(), std::collections::HashSet::new());
    let mut tally = Tally::default();
    let filter = escaped(FILTER);
    let mut sent = None;
    let mut sending = Some(sending);
    while Instant::now() < until + ARRIVAL_WAIT_MAX {
        if sending.as_ref().is_some_and(tokio::task::JoinHandle::is_finished)
            && let Some(done) = sending.take()
        {
            sent = Some(done.await.map_err(|error| Failure::Words(error.to_string()))??);
        }
        if sent.is_some_and(|sent| read.len() >= sent) {
            break;
        }
        let ask = SyncAsk { since: Some(&since), timeout_ms: POLL_MS, filter: Some(&filter) };
        let answer: Value = serde_json::from_slice(reader.sync(ask).await?)?;
        since = answer["next_batch"].as_str().unwrap_or_default().to_owned();
        while let Ok(at) = heard.try_recv() {
            began.push(at);
        }
        let events = answer["rooms"]["join"][&room]["timeline"]["events"].as_array();
        for event in events.into_iter().flatten() {
            let body = event["content"]["body"].as_str().unwrap_or_default();
            let number = body.strip_prefix("message-number-").and_then(|rest| rest.strip_suffix('.')?.parse().ok());
            let Some(number) = number else { continue };
            if let Some(at) = began.get::<usize>(number)
                && read.insert(number)
            {
                tally.latencies.push(at.elapsed());
                ahead.add_permits(1);
            }
        }
    }
    let lost = began.len().saturating_sub(read.len());
    (0..lost).for_each(|_| tally.fail(&"a message did not arrive"));
    Ok(tally)
}
