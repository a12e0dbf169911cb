//! `send` and `send-rate`: 20 rooms of four members, 32 senders, nobody syncing.
//!
//! Each sender has one connection, is a member of two or three of the rooms and goes round them. `send` is a closed loop:
//! the next message leaves when the last is acknowledged; it shows throughput and CPU per message. `send-rate` is an open
//! loop: messages fall due at a fixed rate whatever the server does, and latency counts from the moment a message fell
//! due, not from when a connection was free to send it. A server that stalls is thus charged for every message that
//! waited (no coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::matrix::{CallError, Client, Person};
use crate::meter::{Line, Tally};
use crate::world::{World, in_parallel};

/// What is said: about as long as what people write.
pub const TEXT: &str = "The house stands: one graph, one log, many readers, and a kettle on the stove for visitors.";
/// Unmeasured messages per sender before the first measurement: connections open, caches and code paths warm.
const WARM_UP_MESSAGES: usize = 3;

/// The rooms, and who sends where.
#[derive(Debug, Clone)]
pub struct Halls {
    senders: Vec<(Person, Vec<String>)>,
}

async fn prepare(world: &mut World) -> Result<Halls, CallError> {
    if let Some(halls) = &world.halls {
        return Ok(halls.clone());
    }
    let sizes = world.sizes.clone();
    let members = sizes.members.min(sizes.senders);
    let people = world.people("sender", sizes.senders).await?;
    // Room r has the members 4r to 4r + 3, counted round: 20 rooms of four give each of 32 people two or three.
    let seats: Vec<Vec<usize>> = (0..sizes.rooms)
        .map(|room| (0..members).map(|seat| (room * members + seat) % people.len()).collect())
        .collect();
    let server = world.server.clone();
    let jobs = seats.iter().map(|seats| seats.iter().map(|seat| people[*seat].clone()).collect::<Vec<_>>()).collect();
    let rooms = in_parallel(jobs, move |members: Vec<Person>| {
        let server = server.clone();
        async move {
            let mut members = members.iter().map(|person| Client::new(&server, person));
            let mut owner = members.next().expect("a room has a member");
            let room = owner.create_room_patiently("A hall").await?;
            for mut member in members {
                member.join_patiently(&room).await?;
            }
            Ok(room)
        }
    })
    .await?;

    let mut senders: Vec<(Person, Vec<String>)> = people.into_iter().map(|person| (person, Vec::new())).collect();
    for (room, seats) in rooms.iter().zip(seats) {
        for seat in seats {
            senders[seat].1.push(room.clone());
        }
    }
    senders.retain(|(_, rooms)| !rooms.is_empty());
    let halls = Halls { senders };
    warm_up(world, &halls).await?;
    world.halls = Some(halls.clone());
    Ok(halls)
}

async fn warm_up(world: &mut World, halls: &Halls) -> Result<(), CallError> {
    let batch = world.fresh();
    let server = world.server.clone();
    in_parallel(halls.senders.clone(), move |(person, rooms)| {
        let server = server.clone();
        async move {
            let mut client = Client::new(&server, &person);
            for (number, room) in rooms.iter().cycle().take(WARM_UP_MESSAGES).enumerate() {
                client.send_patiently(room, &format!("w{batch}-{number}"), TEXT).await?;
            }
            Ok(())
        }
    })
    .await
    .map(drop)
}

/// `send`: as fast as the answers come.
pub async fn send(world: &mut World) -> Result<Line, CallError> {
    let halls = prepare(world).await?;
    let batch = world.fresh();
    let left = Arc::new(AtomicU64::new(world.sizes.ops));
    let meter = world.meter("send");
    let until = Instant::now() + world.sizes.duration();
    let mut workers = JoinSet::new();
    for (person, rooms) in halls.senders {
        let mut client = world.client(&person);
        let left = left.clone();
        workers.spawn(async move {
            let mut tally = Tally::default();
            for (number, room) in rooms.iter().cycle().enumerate() {
                let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                if taken.is_err() || Instant::now() >= until {
                    break;
                }
                let sent = Instant::now();
                let outcome = client.send(room, &format!("m{batch}-{number}"), TEXT).await;
                tally.take(sent, &outcome);
            }
            tally
        });
    }
    let line = meter.finish(collect(workers).await);
    Ok(line.with("rooms", world.sizes.rooms as f64).with("members", world.sizes.members as f64))
}

/// `send-rate`: at a fixed offered rate.
pub async fn send_at_rate(world: &mut World) -> Result<Line, CallError> {
    let halls = prepare(world).await?;
    let batch = world.fresh();
    let rate = world.sizes.rate;
    let total = ((rate * world.sizes.seconds) as u64).clamp(1, world.sizes.ops);
    let due = Arc::new(Semaphore::new(0));
    let next = Arc::new(AtomicU64::new(0));
    let meter = world.meter("send-rate");
    let began = Instant::now();
    // Once the last message has fallen due, what is still unanswered may take as long again; then it is given up.
    let give_up = began + world.sizes.duration() * 2;
    let pacer = pace(began, rate, total, due.clone());
    let mut workers = JoinSet::new();
    for (person, rooms) in halls.senders {
        let mut client = world.client(&person);
        let (due, next) = (due.clone(), next.clone());
        workers.spawn(async move {
            let mut tally = Tally::default();
            for room in rooms.iter().cycle() {
                if next.load(Ordering::Relaxed) >= total || Instant::now() >= give_up {
                    break;
                }
                let Ok(permit) = due.acquire().await else {
                    break;
                };
                permit.forget();
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number + 1 >= total {
                    due.close();
                }
                let fell_due = began + Duration::from_secs_f64(number as f64 / rate);
                let outcome = client.send(room, &format!("r{batch}-{number}"), TEXT).await;
                tally.take(fell_due, &outcome);
            }
            tally
        });
    }
    let tally = collect(workers).await;
    let unsent = total.saturating_sub(next.load(Ordering::Relaxed));
    let line = meter.finish(tally);
    pacer.join().expect("the pacer does not panic");
    Ok(line.with("offered_per_s", rate).with("never_sent", unsent as f64))
}

/// Releases one permit whenever a message falls due. A thread of its own, since timers of the runtime round up to
/// whole milliseconds.
fn pace(began: Instant, rate: f64, total: u64, due: Arc<Semaphore>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut released = 0;
        while released < total {
            let should = ((began.elapsed().as_secs_f64() * rate) as u64 + 1).min(total);
            if should > released {
                due.add_permits((should - released) as usize);
                released = should;
            }
            let at = began + Duration::from_secs_f64(released as f64 / rate);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
        }
    })
}

async fn collect(mut workers: JoinSet<Tally>) -> Tally {
    let mut all = Tally::default();
    while let Some(tally) = workers.join_next().await {
        all.merge(tally.expect("a worker does not panic and is not cancelled"));
    }
    all
}
