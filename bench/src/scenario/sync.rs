//! `sync-many` and `sync-few`: initial `/sync` of an account in 500 rooms, and in 20.
//!
//! Each room was made by somebody else, the account has joined it, and five messages were said there. No filter: whole state and
//! the server's own timeline limit. One request at a time. Every request asks for another (unused) timeout, because some
//! servers keep the answer to an equal initial sync for minutes and would be measured handing out a copy.

use std::time::Instant;

use crate::matrix::{CallError, Client, Person, SyncAsk, joined_rooms};
use crate::meter::{Line, Tally};
use crate::scenario::rooms::TEXT;
use crate::world::{World, in_parallel};

/// How many people own the rooms.
const OWNERS: usize = 16;

/// An account in many rooms.
#[derive(Debug, Clone)]
pub struct Account {
    pub(super) person: Person,
    rooms: usize,
}

/// `sync-many`.
pub async fn initial_many(world: &mut World) -> Result<Line, CallError> {
    let account = match &world.many {
        Some(account) => account.clone(),
        None => settle(world, world.sizes.scaled(world.sizes.many), world.sizes.chatter).await?,
    };
    world.many = Some(account.clone());
    measure(world, "sync-many", &account).await
}

/// `sync-few`.
pub async fn initial_few(world: &mut World) -> Result<Line, CallError> {
    let account = match &world.few {
        Some(account) => account.clone(),
        None => settle(world, world.sizes.scaled(world.sizes.few), world.sizes.chatter).await?,
    };
    world.few = Some(account.clone());
    measure(world, "sync-few", &account).await
}

/// An account in so many rooms, with so many messages in each.
pub(super) async fn settle(world: &mut World, rooms: usize, chatter: usize) -> Result<Account, CallError> {
    let owners = world.people("owner", OWNERS).await?;
    let person = world.stranger().await?;
    let batch = world.fresh();
    let (server, guest) = (world.server.clone(), person.clone());
    let jobs = (0..rooms).map(|room| (room, owners[room % owners.len()].clone())).collect();
    in_parallel(jobs, move |(room, owner): (usize, Person)| {
        let (server, guest) = (server.clone(), guest.clone());
        async move {
            let mut owner = Client::new(&server, &owner);
            let id = owner.create_room_patiently(&format!("Room {room}")).await?;
            Client::new(&server, &guest).join_patiently(&id).await?;
            for number in 0..chatter {
                owner.send_patiently(&id, &format!("s{batch}-{room}-{number}"), TEXT).await?;
            }
            Ok(())
        }
    })
    .await?;
    Ok(Account { person, rooms })
}

async fn measure(world: &mut World, scenario: &str, account: &Account) -> Result<Line, CallError> {
    let mut client = world.client(&account.person);
    let mut answer_bytes = 0;
    let mut tally = Tally::default();
    let first_timeout = world.fresh() * 10_000;
    let meter = world.meter(scenario);
    let until = Instant::now() + world.sizes.duration();
    for number in 0..world.sizes.ops {
        let asked = Instant::now();
        let ask = SyncAsk { since: None, timeout_ms: first_timeout + number, filter: None };
        match client.sync(ask).await {
            Ok(answer) => {
                tally.latencies.push(asked.elapsed());
                answer_bytes = answer.len();
                let rooms = joined_rooms(answer)?;
                if rooms != account.rooms {
                    return Err(CallError::Incomplete(rooms, account.rooms, "joined rooms"));
                }
            }
            Err(error) => tally.fail(&error),
        }
        if Instant::now() >= until {
            break;
        }
    }
    let line = meter.finish(tally).with("rooms", account.rooms as f64);
    Ok(line.with("answer_kb", answer_bytes as f64 / 1e3))
}
