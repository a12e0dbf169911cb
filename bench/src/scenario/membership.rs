//! `create`, `join` and `join-storm`: creating public rooms with a name, and joining them.
//!
//! `create` has eight people who each create one room after the other. `join` first creates rooms (not measured), then four
//! people join each of them, four joins at a time in different rooms. In `join-storm` hundreds join one new room at the same moment, each
//! over a connection that is open already; it ends when all have their answers, and all have to be in the room then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::task::JoinSet;

use crate::matrix::{CallError, Client, Person};
use crate::meter::{Line, Tally};
use crate::world::{World, in_parallel};

/// How many people create rooms, each one at a time.
const CREATORS: usize = 8;
/// How many people join every room.
const JOINERS: usize = 4;
/// Share of `--seconds` that a server is expected to need for creating the rooms of `join`: more are not made.
const ROOM_SHARE: f64 = 0.5;
/// Most rooms made for `join` in one round.
const ROOMS_MAX: usize = 2_000;

/// `create`.
pub async fn create(world: &mut World) -> Result<Line, CallError> {
    let people = world.people("creator", CREATORS).await?;
    let left = Arc::new(AtomicU64::new(world.sizes.ops));
    let meter = world.meter("create");
    let until = Instant::now() + world.sizes.duration();
    let mut workers = JoinSet::new();
    for person in people {
        let mut client = world.client(&person);
        let left = left.clone();
        workers.spawn(async move {
            let mut tally = Tally::default();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let asked = Instant::now();
                let outcome = client.create_room("A new room").await;
                tally.take(asked, &outcome);
                if Instant::now() >= until {
                    break;
                }
            }
            tally
        });
    }
    let mut all = Tally::default();
    while let Some(tally) = workers.join_next().await {
        all.merge(tally.expect("a worker does not panic and is not cancelled"));
    }
    Ok(meter.finish(all))
}

/// `join`.
pub async fn join(world: &mut World) -> Result<Line, CallError> {
    let creators = world.people("creator", CREATORS).await?;
    let joiners = world.people("joiner", JOINERS).await?;
    let rooms = Arc::new(make_rooms(world, &creators).await?);
    let left = world.sizes.ops / JOINERS as u64;
    let meter = world.meter("join");
    let until = Instant::now() + world.sizes.duration();
    let mut workers = JoinSet::new();
    for (turn, person) in joiners.iter().enumerate() {
        let mut client = world.client(person);
        let rooms = rooms.clone();
        workers.spawn(async move {
            let mut tally = Tally::default();
            // Everybody begins elsewhere, so that the joins under way at a time are in different rooms.
            let first = turn * rooms.len() / JOINERS;
            let order = rooms.iter().cycle().skip(first).take(rooms.len());
            for room in order.take(usize::try_from(left).unwrap_or(usize::MAX)) {
                let asked = Instant::now();
                let outcome = client.join(room).await;
                tally.take(asked, &outcome);
                if Instant::now() >= until {
                    break;
                }
            }
            tally
        });
    }
    let mut all = Tally::default();
    while let Some(tally) = workers.join_next().await {
        all.merge(tally.expect("a worker does not panic and is not cancelled"));
    }
    Ok(meter.finish(all).with("members_before", 1.0))
}

/// `join-storm`.
pub async fn join_storm(world: &mut World) -> Result<Line, CallError> {
    let count = world.sizes.scaled(world.sizes.storm);
    let creators = world.people("creator", 1).await?;
    let people = world.people("storm", count).await?;
    let mut owner = world.client(&creators[0]);
    let room = owner.create_room_patiently("A room in the news").await?;
    let server = world.server.clone();
    let clients = in_parallel(people, move |person: Person| {
        let mut client = Client::new(&server, &person);
        async move {
            client.call_patiently("GET", "/_matrix/client/v3/account/whoami", "").await?;
            Ok(client)
        }
    })
    .await?;
    let meter = world.meter("join-storm");
    let mut joining = JoinSet::new();
    for mut client in clients {
        let room = room.clone();
        joining.spawn(async move {
            let mut tally = Tally::default();
            let asked = Instant::now();
            let outcome = client.join(&room).await;
            tally.take(asked, &outcome);
            tally
        });
    }
    let mut all = Tally::default();
    while let Some(tally) = joining.join_next().await {
        all.merge(tally.expect("who joins does not panic and is not cancelled"));
    }
    let (line, joined) = (meter.finish(all), owner.joined_members(&room).await?);
    if joined as u64 != line.ops + 1 {
        return Err(CallError::Incomplete(joined, line.ops as usize + 1, "members of those who were let in"));
    }
    Ok(line.with("joiners", count as f64))
}

async fn make_rooms(world: &World, creators: &[Person]) -> Result<Vec<String>, CallError> {
    let until = Instant::now() + world.sizes.duration().mul_f64(ROOM_SHARE);
    let server = world.server.clone();
    let share = ROOMS_MAX / creators.len();
    let made = in_parallel(creators.to_vec(), move |person: Person| {
        let server = server.clone();
        async move {
            let mut client = Client::new(&server, &person);
            let mut rooms = Vec::new();
            while rooms.len() < share && (rooms.is_empty() || Instant::now() < until) {
                rooms.push(client.create_room_patiently("A room to join").await?);
            }
            Ok(rooms)
        }
    })
    .await?;
    Ok(made.into_iter().flatten().collect())
}
