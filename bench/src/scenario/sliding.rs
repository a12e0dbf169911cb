//! `sliding`, `wake-1`, `wake-100`, `wake-1000`, `idle-sync`: sliding sync, as Element X does it.
//!
//! `sliding` is the first answer to accounts in few and in many rooms, those of `sync`: a list of the first twenty, one event of
//! timeline each, the state that a room list shows. `wake-N` has two people in a room of two, one of whom sends and the other waits; N
//! other devices wait in rooms of their own. An operation is a message, sent and read; `send_alone_cpu_ms` is what
//! the sending costs by itself, so that the difference is the waking. `idle-sync` opens many connections that wait for
//! nothing, and tells by how much the server's memory grows for each.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::http::find;
use crate::matrix::{CallError, Client, Person, SLIDING_SYNC};
use crate::meter::{Line, Tally};
use crate::procfs;
use crate::scenario::sync::account;
use crate::world::{World, in_parallel};

/// How long a waiting device waits.
const POLL_MS: u64 = 120_000;
/// Messages that are sent alone, to know what sending costs: so many that a tick of the kernel's clock (10 ms) is
/// a hundredth of what they take.
const ALONE: usize = 2_000;
/// Longest wait until memory stands still.
const SETTLE: Duration = Duration::from_secs(2);

/// What Element X asks for its list.
fn room_list(last: u64) -> Value {
    let required = json!([
        ["m.room.name", ""],
        ["m.room.encryption", ""],
        ["m.room.member", "$LAZY"],
        ["m.room.member", "$ME"],
        ["m.room.topic", ""],
        ["m.room.avatar", ""],
        ["m.room.canonical_alias", ""],
        ["m.room.power_levels", ""],
        ["m.space.parent", "*"],
        ["m.space.child", "*"],
        ["m.room.create", ""],
        ["m.room.tombstone", ""],
        ["m.room.join_rules", ""],
        ["m.room.history_visibility", ""],
    ]);
    let on = json!({ "enabled": true });
    json!({
        "conn_id": "room-list",
        "lists": { "all_rooms": { "ranges": [[0, last]], "timeline_limit": 1, "required_state": required,
            "filters": { "not_room_types": ["m.space"] } } },
        "extensions": { "account_data": on, "receipts": on, "typing": on },
    })
}

#[derive(Deserialize)]
struct Answer {
    pos: String,
    #[serde(default)]
    rooms: std::collections::HashMap<String, serde::de::IgnoredAny>,
}

fn read(body: &[u8]) -> Result<Answer, CallError> {
    serde_json::from_slice(body).map_err(|error| CallError::Unreadable("sliding sync", error))
}

fn path(pos: Option<&str>, timeout_ms: u64) -> String {
    let pos = pos.map(|pos| format!("&pos={}", crate::http::escaped(pos))).unwrap_or_default();
    format!("{SLIDING_SYNC}?timeout={timeout_ms}{pos}")
}

/// `sliding`.
pub async fn first_screen(world: &mut World, rooms: usize) -> Result<Line, CallError> {
    let account = account(world, rooms).await?;
    let mut client = world.client(&account.person);
    let body = room_list(19).to_string();
    let (mut tally, mut answer_bytes) = (Tally::default(), 0);
    // The very first may have to bring the rooms into memory: told apart.
    let first = Instant::now();
    client.call("POST", &path(None, 0), &body).await?;
    let first = first.elapsed();
    let meter = world.meter(&format!("sliding-{rooms}"));
    let until = Instant::now() + world.sizes.duration();
    for _ in 0..world.sizes.ops {
        let asked = Instant::now();
        match client.call("POST", &path(None, 0), &body).await {
            Ok(answer) => {
                tally.latencies.push(asked.elapsed());
                answer_bytes = answer.len();
                let shown = read(answer)?.rooms.len();
                if shown != rooms.min(20) {
                    return Err(CallError::Incomplete(shown, rooms.min(20), "rooms of the first screen"));
                }
            }
            Err(error) => tally.fail(&error),
        }
        if Instant::now() >= until {
            break;
        }
    }
    let line = meter.finish(tally).with("rooms", rooms as f64).with("first_ms", first.as_secs_f64() * 1e3);
    Ok(line.with("answer_kb", answer_bytes as f64 / 1e3))
}

/// People who wait, each in a room of their own.
#[derive(Debug, Default)]
pub struct Waiting {
    people: Vec<Person>,
}

/// Sees to it that `count` devices can wait.
async fn waiting(world: &mut World, count: usize) -> Result<Vec<Person>, CallError> {
    let known = world.waiting.people.len();
    if known < count {
        let people = world.people("waiting", count).await?;
        let server = world.server.clone();
        in_parallel(people[known..].to_vec(), move |person: Person| {
            let server = server.clone();
            async move { Client::new(&server, &person).create_room_patiently("A waiting room").await.map(drop) }
        })
        .await?;
        world.waiting.people = people;
    }
    Ok(world.waiting.people[..count].to_vec())
}

/// Opens the connections; each then waits, and goes on waiting when told of something.
async fn open(world: &World, people: &[Person]) -> Result<JoinSet<()>, CallError> {
    let mut connections = JoinSet::new();
    for person in people {
        let mut client = world.client(person);
        let body = room_list(19).to_string();
        let mut pos = read(client.call("POST", &path(None, 0), &body).await?)?.pos;
        connections.spawn(async move {
            while let Ok(answer) = client.call("POST", &path(Some(&pos), POLL_MS), &body).await {
                match read(answer) {
                    Ok(answer) => pos = answer.pos,
                    Err(_) => return,
                }
            }
        });
    }
    // Until the last request has reached the server.
    tokio::time::sleep(SETTLE).await;
    Ok(connections)
}

/// `wake-1`, `wake-100`, `wake-1000`.
pub async fn wake(world: &mut World, name: &'static str, devices: usize) -> Result<Line, CallError> {
    let devices = if devices > 1 { world.sizes.scaled(devices) } else { devices };
    let people = world.people("awake", 2).await?;
    let room = match &world.awake {
        Some(room) => room.clone(),
        None => {
            let room = world.client(&people[0]).create_room_patiently("Awake").await?;
            world.client(&people[1]).join_patiently(&room).await?;
            room
        }
    };
    world.awake = Some(room.clone());
    let others = waiting(world, devices).await?;
    let _connections = open(world, &others).await?;
    let (mut sender, mut reader) = (world.client(&people[0]), world.client(&people[1]));

    // What sending costs while nobody waits for it.
    let batch = world.fresh();
    let alone = world.meter(name);
    let mut sent_alone = Tally::default();
    let until = Instant::now() + world.sizes.duration();
    for number in 0..ALONE {
        let began = Instant::now();
        let outcome = sender.send(&room, &format!("a{batch}-{number}"), "alone").await;
        sent_alone.take(began, &outcome);
        if Instant::now() >= until {
            break;
        }
    }
    let alone = alone.finish(sent_alone).server_cpu_ms_per_op.unwrap_or_default();

    let body = room_list(19).to_string();
    let mut pos = read(reader.call("POST", &path(None, 0), &body).await?)?.pos;
    let (mut tally, mut answer_bytes) = (Tally::default(), 0);
    let batch = world.fresh();
    let meter = world.meter(name);
    let until = Instant::now() + world.sizes.duration();
    for number in 0..world.sizes.ops {
        let text = format!("wake-{batch}-{number};");
        let ask = path(Some(&pos), POLL_MS);
        let waits = reader.call("POST", &ask, &body);
        let sent = async {
            // The reader's request is to be there first.
            tokio::task::yield_now().await;
            let began = Instant::now();
            sender.send(&room, &format!("k{batch}-{number}"), &text).await.map(|()| began)
        };
        let (answer, began) = tokio::join!(waits, sent);
        let (answer, began) = (answer?, began?);
        let elapsed = began.elapsed();
        answer_bytes = answer.len();
        let has_it = find(answer, text.as_bytes()).is_some();
        let instead = (!has_it).then(|| String::from_utf8_lossy(&answer[..answer.len().min(INSTEAD_MAX)]).into_owned());
        pos = read(answer)?.pos;
        match instead {
            None => tally.latencies.push(elapsed),
            Some(instead) => tally.fail(&format_args!("an answer without the message: {instead}")),
        }
        if Instant::now() >= until {
            break;
        }
    }
    let line = meter.finish(tally).with("devices", devices as f64).with("send_alone_cpu_ms", alone);
    let waking = line.server_cpu_ms_per_op.map_or(0.0, |cpu| (cpu - alone).max(0.0));
    Ok(line.with("wake_cpu_ms", waking).with("answer_kb", answer_bytes as f64 / 1e3))
}

/// So many bytes of an answer that is not what was waited for are shown.
const INSTEAD_MAX: usize = 2_000;

/// `idle-sync`.
pub async fn idle(world: &mut World) -> Result<Line, CallError> {
    let count = world.sizes.scaled(world.sizes.idle);
    let people = waiting(world, count).await?;
    // Once without measuring: what is cached of each account stays.
    drop(open(world, &people).await?);
    tokio::time::sleep(SETTLE).await;
    let resident = |world: &World| procfs::resident_mb(&world.pids).unwrap_or_default();
    let before = resident(world);
    let connections = open(world, &people).await?;
    let after = resident(world);
    let meter = world.meter("idle-sync");
    tokio::time::sleep(world.sizes.duration().min(Duration::from_secs(5))).await;
    let line = meter.finish_with_ops(Tally::default(), count as u64);
    drop(connections);
    let per_connection = (after - before) * 1e3 / count as f64;
    Ok(line.with("connections", count as f64).with("kb_per_connection", per_connection))
}
